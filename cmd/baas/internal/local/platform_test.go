package local

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/cmd/baas/internal/datadir"
	"github.com/baas-batch/baas/starter"
)

func startHere(t *testing.T, config Config) (*Platform, error) {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	if config.Executor == "" {
		config.Executor = filepath.Join(t.TempDir(), ExecutorName)
		if err := os.WriteFile(config.Executor, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := Start(ctx, config)
	if err == nil {
		t.Cleanup(func() { stop(t, p) })
	}
	return p, err
}

func stop(t *testing.T, p *Platform) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.Stop(ctx, false); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestPlatformComesBackOnItsPorts(t *testing.T) {
	dir := t.TempDir()
	first, err := startHere(t, Config{DataDir: dir, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := datadir.Up(dir); err != nil || got != first.State {
		t.Errorf("up: got %+v, %v; want %+v", got, err, first.State)
	}
	if _, err := startHere(t, Config{DataDir: dir}); !errors.Is(err, datadir.ErrLocked) {
		t.Errorf("second platform on the directory: %v", err)
	}
	if list, err := first.Client().List(t.Context(), starter.ListOptions{}); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	stop(t, first)
	second, err := startHere(t, Config{DataDir: dir, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	want := first.State
	want.Started = second.State.Started
	if second.State != want {
		t.Errorf("first %+v, second %+v", first.State, second.State)
	}
}

func TestEphemeralPlatformLeavesOutputsOnly(t *testing.T) {
	dir := t.TempDir()
	p, err := startHere(t, Config{DataDir: dir, Ephemeral: true, CPUs: 3})
	if err != nil {
		t.Fatal(err)
	}
	other, err := startHere(t, Config{DataDir: dir, Ephemeral: true})
	if err != nil {
		t.Fatalf("a second one beside it: %v", err)
	}
	if _, err := datadir.Up(dir); err == nil {
		t.Error("an ephemeral platform counts as up")
	}
	scratch := p.scratch
	stop(t, p)
	stop(t, other)
	if _, err := os.Stat(scratch); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", scratch, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != datadir.Store {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFindExecutor(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{
		"":                            "BAAS_EXECUTOR",
		filepath.Join(dir, "nothing"): "does not exist",
		plain:                         "not an executable file",
		dir:                           "not an executable file",
	} {
		if _, err := FindExecutor(asked); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "go build") {
			t.Errorf("%q: got %v, want %q", asked, err, want)
		}
	}
}
