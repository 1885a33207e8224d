package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

// Run is one run of a flow in a World.
type Run struct {
	Flow Flow
	ID   string // of the run
	// Wants is the status that the run must end with.
	Wants api.Status

	w       *World
	dir     string
	started starter.Started
	gate    *os.File
	kills   []Entry // tasks whose process the test has killed
	term    int32   // of leadership, when the run was started
}

// Start starts a flow, whose gate is shut.
func (w *World) Start(f Flow) *Run {
	w.Helper()
	r := &Run{Flow: f, Wants: api.StatusSucceeded, w: w, dir: harness.Dir(w)}
	if slices.ContainsFunc(f.Steps, Step.Doomed) {
		r.Wants = api.StatusFailed
	}
	w.do(r.furnish())
	w.Leader()
	r.term = w.term()
	w.Cleanup(func() { r.gate.Close() })
	app := harness.Dir(w)
	w.do(os.WriteFile(filepath.Join(app, "flow.yaml"), []byte(f.yaml()), 0o644))
	w.do(os.WriteFile(filepath.Join(app, "task.sh"), []byte(script), 0o755))
	var err error
	r.started, err = w.Runs.Start(w.Context(), starter.StartOptions{
		File: filepath.Join(app, "flow.yaml"), Args: map[string]string{"dir": r.dir},
	})
	w.do(err)
	r.ID = r.started.Run
	if slices.ContainsFunc(f.Steps, func(s Step) bool { return s.AtMostOnce }) {
		go r.decide(w.Context())
	}
	w.Cleanup(func() {
		if w.Failed() {
			r.tell()
		}
	})
	return r
}

// furnish makes what tasks, which are other users, read and write.
func (r *Run) furnish() error {
	locks := filepath.Join(r.dir, "locks")
	if err := os.Mkdir(locks, 0o755); err != nil {
		return err
	}
	for _, s := range r.Flow.Steps {
		for i := range s.Tasks {
			if err := os.WriteFile(filepath.Join(locks, fmt.Sprintf("%s.%d", s.Name, i)), nil, 0o644); err != nil {
				return err
			}
		}
	}
	ledger, gate := filepath.Join(r.dir, "ledger"), filepath.Join(r.dir, "gate")
	if err := errors.Join(os.WriteFile(ledger, nil, 0o666), os.Chmod(ledger, 0o666)); err != nil {
		return err
	}
	if err := errors.Join(syscall.Mkfifo(gate, 0o666), os.Chmod(gate, 0o666)); err != nil {
		return err
	}
	var err error
	r.gate, err = os.OpenFile(gate, os.O_RDWR, 0) // both ends: nobody waits for a partner
	return err
}

// Open lets all tasks through the gate, those that wait and those that will come.
func (r *Run) Open() {
	r.w.Helper()
	_, err := r.gate.Write(bytes.Repeat([]byte("\n"), 2000))
	r.w.do(err)
}

// Ledger is what the tasks have entered so far.
func (r *Run) Ledger() Ledger {
	r.w.Helper()
	l, err := readLedger(filepath.Join(r.dir, "ledger"))
	r.w.do(err)
	return l
}

// Await waits until the ledger pleases.
func (r *Run) Await(what string, pleases func(Ledger) bool) {
	r.w.Helper()
	harness.Eventually(r.w, what, func() bool { return pleases(r.Ledger()) })
}

// UnderWay waits until some tasks have ended, and some live.
func (r *Run) UnderWay(ended, living int) {
	r.w.Helper()
	r.Await(fmt.Sprintf("the run does not get to %d ended and %d living tasks", ended, living), func(l Ledger) bool {
		return len(l.Of(Ended)) >= ended && len(l.Living()) >= living
	})
}

// Kill kills the process of a task as kill -9 does. It is the user's failure, and
// takes one attempt; false when it was too late.
func (r *Run) Kill(e Entry) bool {
	r.w.Helper()
	p, ok := harness.LookUp(e.PID)
	if !ok || !p.Kill() {
		return false
	}
	r.kills = append(r.kills, e)
	return true
}

// Wait waits for the end of the run, and gives its last state.
func (r *Run) Wait() starter.Run {
	r.w.Helper()
	ctx, cancel := context.WithTimeout(r.w.Context(), harness.Patience)
	defer cancel()
	last, err := r.w.Runs.Wait(ctx, r.ID)
	if err != nil {
		r.w.Fatalf("the run does not end: %v", err)
	}
	return last
}

// tell helps to understand a failure.
func (r *Run) tell() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	now, err := r.w.Runs.Describe(ctx, r.ID)
	text := fmt.Sprintf("run %s: %s %s %v", r.ID, now.Status, now.Reason, err)
	for _, s := range now.Steps {
		text += fmt.Sprintf("\n  %s: %s, %d of %d done, %d failed, %d active, %d retries %s", s.ID, s.Status,
			s.Done, s.Partitions, s.Failed, s.Active, s.Retries, s.Reason)
	}
	for _, a := range now.Activities {
		text += fmt.Sprintf("\n  activity %s, try %d: %+v %s", a.ID, a.Try, a.Details, a.LastFailure)
	}
	r.w.Log(text)
	for _, e := range r.Ledger() {
		r.w.Log(e)
	}
}
