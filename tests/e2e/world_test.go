package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/baas-batch/baas/starter"
)

// gate is a named pipe that holds tasks back until the test opens it: a task waits
// with `read x <"$gate"`, and uses no processor meanwhile.
type gate struct {
	path string
	pipe *os.File
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{path: filepath.Join(dir(t), "gate")}
	if err := syscall.Mkfifo(g.path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(g.path, 0o666); err != nil { // tasks are other users
		t.Fatal(err)
	}
	var err error
	if g.pipe, err = os.OpenFile(g.path, os.O_RDWR, 0); err != nil { // both ends: nobody waits for a partner
		t.Fatal(err)
	}
	t.Cleanup(func() { g.pipe.Close() })
	return g
}

// open lets all through, who wait and who will come: each takes one line.
func (g *gate) open(t *testing.T) {
	t.Helper()
	if _, err := g.pipe.Write(bytes.Repeat([]byte("\n"), 2000)); err != nil {
		t.Fatal(err)
	}
}

// processID names one process for good: an ID may be given again.
type processID struct {
	pid   int
	start string // in clock ticks since the machine's start
}

// lookUp finds a live process; false when it is gone or only waits to be reaped.
func lookUp(pid int) (processID, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processID{}, false
	}
	_, rest, ok := strings.Cut(string(stat), ") ") // the name before may hold anything
	words := strings.Fields(rest)
	if !ok || len(words) < 20 || words[0] == "Z" || words[0] == "X" {
		return processID{}, false
	}
	return processID{pid, words[19]}, true
}

func (p processID) alive() bool {
	now, ok := lookUp(p.pid)
	return ok && now == p
}

// kill ends this very process at once.
func (p processID) kill(t *testing.T) {
	t.Helper()
	if !p.alive() {
		t.Fatalf("process %d is gone already", p.pid)
	}
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// living gives the process that a word of the ledger names.
func living(t *testing.T, word string) processID {
	t.Helper()
	p, ok := lookUp(number(t, word))
	if !ok {
		t.Fatalf("process %s is gone", word)
	}
	return p
}

func number(t *testing.T, word string) int {
	t.Helper()
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// output decodes an output of a step, as JSON has it.
func output(t *testing.T, r starter.Run, step, name string) any {
	t.Helper()
	s, ok := r.Step(step)
	if !ok || s.Outputs[name] == nil {
		t.Fatalf("step %s has no output %s\n%s", step, name, show(r))
	}
	var v any
	if err := json.Unmarshal(s.Outputs[name], &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func equal(t *testing.T, have, want any) {
	t.Helper()
	if !reflect.DeepEqual(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}
