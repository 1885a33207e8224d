package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"testing"
)

const (
	// asExecutor makes the test binary an executor, so that the process under
	// test has the race detector in it.
	asExecutor = "BAAS_TEST_AS_EXECUTOR"
	// testTuning holds a Tuning as JSON.
	testTuning = "BAAS_TEST_TUNING"
	// testProfile is a file for the CPU profile of the executor.
	testProfile = "BAAS_TEST_PROFILE"
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
	if path := os.Getenv(testProfile); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	x, err := New(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		return err
	}
	return x.Run(ctx)
}
