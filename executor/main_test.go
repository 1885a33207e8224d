package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

const (
	// asExecutor makes the test binary an executor, so that the process under
	// test has the race detector in it.
	asExecutor = "BAAS_TEST_AS_EXECUTOR"
	// testTuning holds a Tuning as JSON.
	testTuning = "BAAS_TEST_TUNING"
)

func TestMain(m *testing.M) {
	if os.Getenv(asExecutor) == "" {
		os.Exit(m.Run())
	}
	if err := executorMain(); err != nil {
		fmt.Fprintln(os.Stderr, "executor failed:", err)
		os.Exit(1)
	}
}

// executorMain is the main of cmd/baas-executor with other paces.
func executorMain() error {
	cfg, err := FromEnv(os.Getenv)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(os.Getenv(testTuning)), &cfg.Tuning); err != nil {
		return err
	}
	if err := Harden(); err != nil {
		return err
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	x, err := New(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		return err
	}
	return x.Run(ctx)
}
