package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	serverlog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// serverLog is the server's log: errors go to slog, the rest is dropped.
type serverLog struct {
	log   *slog.Logger
	ended atomic.Bool
}

var _ serverlog.Logger = (*serverLog)(nil)
var _ serverlog.SLogWrapper = (*serverLog)(nil)

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log.With("component", "temporal")}
}

func (l *serverLog) Debug(string, ...tag.Tag) {}
func (l *serverLog) Info(string, ...tag.Tag)  {}
func (l *serverLog) Warn(string, ...tag.Tag)  {}

func (l *serverLog) Error(msg string, tags ...tag.Tag) {
	if l.ended.Load() {
		return
	}
	attrs := make([]slog.Attr, len(tags))
	for i, t := range tags {
		attrs[i] = slog.Any(t.Key(), t.Value())
	}
	l.log.LogAttrs(context.Background(), slog.LevelError, msg, attrs...)
}

// DPanic panics in Temporal's own development builds only.
func (l *serverLog) DPanic(msg string, tags ...tag.Tag) { l.Error(msg, tags...) }

func (l *serverLog) Panic(msg string, tags ...tag.Tag) {
	l.Error(msg, tags...)
	panic(fatal(msg, tags))
}

// Fatal would end the process. Here it panics: StartTemporal makes an error of
// that (a port that is taken, for one); later nobody catches it.
func (l *serverLog) Fatal(msg string, tags ...tag.Tag) {
	panic(fatal(msg, tags))
}

// SLog is for the parts of the server that log with slog: they log nothing.
func (l *serverLog) SLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// quiet drops everything from now on.
func (l *serverLog) quiet() { l.ended.Store(true) }

// fatal makes an error of a message and its tags; the cause is wrapped.
func fatal(msg string, tags []tag.Tag) error {
	for _, t := range tags {
		// Value gives the text of an error, the field the error.
		zapTag, ok := t.(tag.ZapTag)
		if !ok {
			continue
		}
		if cause, ok := zapTag.Field().Interface.(error); ok {
			return fmt.Errorf("%s: %w", msg, cause)
		}
	}
	return errors.New(msg)
}
