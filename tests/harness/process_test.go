package harness

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// sleeper serves until it is stopped, and tells who it is. "refuse" does not serve.
func sleeper(ctx context.Context, raw json.RawMessage, ready func(any)) error {
	var word string
	if err := json.Unmarshal(raw, &word); err != nil {
		return err
	}
	if word == "refuse" {
		return errors.New("it refuses")
	}
	ready(word)
	<-ctx.Done()
	return nil
}

func TestMain(m *testing.M) { Main(m, map[string]Role{"sleeper": sleeper}) }

func TestProcess(t *testing.T) {
	p := NewProcess(t, "sleeper", "sleeper", "one")
	if err := p.Kill(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("kill before the first start: %v", err)
	}
	check := func(want string) {
		t.Helper()
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		var word string
		if err := p.Await(&word); err != nil || word != want {
			t.Fatalf("it says %q, %v; want %q", word, err, want)
		}
		if q, ok := LookUp(p.PID()); !ok || !p.Running() || !q.Alive() {
			t.Error("it does not run")
		}
	}
	check("one")
	if err := p.Start(); err == nil {
		t.Error("it was started twice")
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if q, _ := LookUp(p.PID()); q.State != "T" {
		t.Errorf("state %s after Pause", q.State)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "it does not go on", func() bool { q, ok := LookUp(p.PID()); return ok && q.State != "T" })
	exited := p.Exited()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	<-exited
	if _, ok := LookUp(p.PID()); ok || p.Running() {
		t.Error("it lives after Kill")
	}
	if err := p.Configure("two"); err != nil {
		t.Fatal(err)
	}
	check("two")
	if err := p.Pause(); err != nil { // does not keep it from being stopped
		t.Fatal(err)
	}
	p.Stop()
	p.Stop()
	if p.Running() {
		t.Error("it runs after Stop")
	}
	if n := strings.Count(p.Log(), "--- life"); n != 2 {
		t.Errorf("%d lives in its log, want 2", n)
	}
}

func TestProcessThatRefuses(t *testing.T) {
	p := NewProcess(t, "sleeper", "sleeper", "refuse")
	if err := p.Start(); err == nil || !strings.Contains(err.Error(), "it refuses") {
		t.Errorf("start: %v, want its last words", err)
	}
}

func TestEachProc(t *testing.T) {
	p := NewProcess(t, "sleeper", "sleeper", "one")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	found := 0
	EachProc(func(q Proc, getenv func(string) string) {
		if q.PID == p.PID() && getenv(envRole) == "sleeper" && getenv("PATH") == os.Getenv("PATH") {
			found++
		}
	})
	if found != 1 {
		t.Errorf("found %d times", found)
	}
}
