package starter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/serviceerror"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// What callers branch on with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrUnreachable = errors.New("not reachable") // see UnreachableError
	ErrInvalid     = errors.New("invalid")       // see InvalidError
	ErrRunning     = errors.New("already running")
)

// UnreachableError tells which part of the platform does not answer.
type UnreachableError struct {
	What    string // "Temporal", "storage"
	Address string
	Err     error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s at %s is not reachable: %v", e.What, e.Address, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrUnreachable) true.
func (e *UnreachableError) Is(target error) bool { return target == ErrUnreachable }

// InvalidError holds all that is wrong with a flow file, its directory and the
// parameters. Nothing was started.
type InvalidError struct {
	Flow   flow.Problems // of the file, with their places
	Others []string      // of parameters and of the app's files
}

// Messages gives one line for each problem.
func (e *InvalidError) Messages() []string {
	var lines []string
	for _, p := range e.Flow {
		lines = append(lines, p.String())
	}
	return append(lines, e.Others...)
}

func (e *InvalidError) Error() string { return strings.Join(e.Messages(), "\n") }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// orNil gives nil for an error without problems.
func (e *InvalidError) orNil() error {
	if len(e.Flow) == 0 && len(e.Others) == 0 {
		return nil
	}
	return e
}

// RunningError tells that the instance has a run which has not ended.
type RunningError struct {
	Instance string
	Run      string // "" when it is not known
}

func (e *RunningError) Error() string {
	if e.Run == "" {
		return fmt.Sprintf("instance %s has a run that has not ended", e.Instance)
	}
	return fmt.Sprintf("run %s of the same instance (same app, same parameters) has not ended", e.Run)
}

// Is makes errors.Is(err, ErrRunning) true.
func (e *RunningError) Is(target error) bool { return target == ErrRunning }

// EndedError tells that a run has ended, so that there is nothing to kill.
type EndedError struct {
	Run    string
	Status api.Status // killed, failed or succeeded
}

func (e *EndedError) Error() string {
	return fmt.Sprintf("run %s has ended already: it %s", e.Run, map[api.Status]string{
		api.StatusKilled: "was killed", api.StatusFailed: "failed", api.StatusSucceeded: "succeeded",
	}[e.Status])
}

// Is makes errors.Is(err, ErrNotFound) true: there is no such run any more.
func (e *EndedError) Is(target error) bool { return target == ErrNotFound }

// named turns Temporal's errors into those of this package.
func (c *Client) named(err error) error {
	var unavailable *serviceerror.Unavailable
	switch {
	case isNotFound(err):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.As(err, &unavailable), errors.Is(err, context.DeadlineExceeded), isDeadline(err):
		if !errors.As(err, &unavailable) {
			err = fmt.Errorf("no answer in time: %w", err)
		}
		return &UnreachableError{What: "Temporal", Address: c.address, Err: err}
	}
	return err
}

func isNotFound(err error) bool {
	var notFound *serviceerror.NotFound
	return errors.As(err, &notFound)
}

func isDeadline(err error) bool {
	var deadline *serviceerror.DeadlineExceeded
	return errors.As(err, &deadline)
}
