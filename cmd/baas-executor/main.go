// Command baas-executor runs tasklets on a Mesos agent. The agent starts it; all
// that it needs to know is in its environment.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/baas-batch/baas/executor"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log); err != nil {
		log.Error("executor failed", "error", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger) error {
	// Memory that the executor holds is memory that tasks cannot have.
	debug.SetGCPercent(40)
	debug.SetMemoryLimit(96 << 20)
	cfg, err := executor.FromEnv(os.Getenv)
	if err != nil {
		return err
	}
	if err := executor.Harden(); err != nil {
		return err
	}
	// A terminal or a dead agent must not end the executor; and a signal that is
	// caught, not ignored, is a normal one again in tasks.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	x, err := executor.New(cfg, log)
	if err != nil {
		return err
	}
	return profiled(func() error { return x.Run(ctx) })
}
