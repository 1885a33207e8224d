package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
)

// stopLimit is how long an orderly stop may take on a loaded machine.
const stopLimit = 30 * time.Second

// gatedTasks wait at a gate, four at a time. Stubborn ones note SIGTERM and go on.
const gatedTasks = `
name: gated
params: {ledger: {type: string}, gate: {type: string}, stubborn: {type: bool, default: false}}
steps:
  work:
    for_each: {from: 1, to: 12}
    parallel: 4
    resources: {cpus: 0.05, mem: 16MB}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}', item: '${{ item }}', stubborn: '${{ params.stubborn }}'}
    run: |
      [ "$BAAS_INPUT_STUBBORN" = false ] || trap 'echo "term $BAAS_INPUT_ITEM" >>"$BAAS_INPUT_LEDGER"' TERM
      echo "start $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
      until read x <"$BAAS_INPUT_GATE"; do :; done
      echo "end $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
`

// stopped is a platform in the middle of a flow: of twelve tasks two are done and
// four wait at the gate.
type stopped struct {
	*upProcess
	*ledger
	*gate
	run     string
	waiting map[string]processID // by task
}

func inMidFlow(t *testing.T, params []string, options ...string) *stopped {
	t.Helper()
	s := &stopped{upProcess: newUp(t), ledger: newLedger(t), gate: newGate(t), waiting: map[string]processID{}}
	s.upProcess.start(options...)
	file := filepath.Join(dir(t), "flow.yaml")
	if err := os.WriteFile(file, []byte(gatedTasks), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run = s.baas(append([]string{"run", file, "--detach", "-p", "ledger=" + s.ledger.path, "-p", "gate=" + s.gate.path}, params...)...)
	if _, err := s.pipe.WriteString("\n\n"); err != nil { // two may pass
		t.Fatal(err)
	}
	eventually(t, patience, "two tasks done and four running", func() bool {
		state := s.state(t)
		work, _ := state.Step("work")
		return work != nil && work.Done == 2 && work.Running == 4 && len(s.of(t, "start")) == 6
	})
	ended := s.count(t, "end")
	for _, words := range s.of(t, "start") {
		if ended[words[0]] == 0 {
			s.waiting[words[0]] = living(t, words[1])
		}
	}
	return s
}

func (s *stopped) state(t *testing.T) (r starter.Run) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.baas("status", s.run, "--output", "json")), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// awaitExit waits for the end of `baas up`, and gives its exit code.
func (s *stopped) awaitExit(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case err := <-done:
		s.cmd = nil
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0
	case <-time.After(stopLimit):
		t.Fatalf("baas up does not end within %s", stopLimit)
		return 0
	}
}

func (s *stopped) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// says waits until `baas up` has said something.
func (s *stopped) says(t *testing.T, text string) {
	t.Helper()
	eventually(t, stopLimit, "baas up does not say "+text, func() bool {
		said, err := os.ReadFile(s.log.Name())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(said), text)
	})
}

// ends waits for the end of the run.
func (s *stopped) ends(t *testing.T) {
	t.Helper()
	var last starter.Run
	eventually(t, patience, "the run does not end", func() bool {
		last = s.state(t)
		return last.Status.Final()
	})
	if last.Status != api.StatusSucceeded {
		t.Errorf("%s", show(last))
	}
}

// An orderly stop that keeps the tasks: they live on, end while nobody is there,
// and every task runs exactly once.
func TestStopKeepsTasks(t *testing.T) {
	s := inMidFlow(t, nil, "--keep-tasks")
	s.signal(t, syscall.SIGTERM)
	equal(t, s.awaitExit(t), 0)
	s.says(t, "Stopping. 1 open run to go on with the next `baas up` on this data directory; 4 running tasks to live on meanwhile.\n")
	s.says(t, "Stopped.\n")
	for task, p := range s.waiting {
		if !p.alive() {
			t.Errorf("task %s has not lived on", task)
		}
	}
	s.open(t)
	eventually(t, patience, "four tasks end while nobody is there", func() bool { return len(s.count(t, "end")) == 6 })
	s.upProcess.start()
	s.ends(t)
	s.exactlyOnce(t, 12, "start", "end")
}

// An orderly stop ends the tasks: nothing of them is left, they run again under the
// next platform, and those that were done do not.
func TestStopEndsTasks(t *testing.T) {
	s := inMidFlow(t, nil)
	s.signal(t, syscall.SIGINT)
	equal(t, s.awaitExit(t), 0)
	s.says(t, "1 open run to go on with the next `baas up` on this data directory; 4 running tasks to be ended now, and run again then.\n")
	s.says(t, "Stopped.\n")
	for task, p := range s.waiting {
		if p.alive() {
			t.Errorf("task %s lives on", task)
		}
	}
	s.open(t)
	s.upProcess.start()
	s.ends(t)
	s.exactlyOnce(t, 12, "end")
	for task, n := range s.count(t, "start") {
		want := 1
		if _, ended := s.waiting[task]; ended {
			want = 2
		}
		if n != want {
			t.Errorf("task %s started %d times, want %d", task, n, want)
		}
	}
}

// A second Ctrl-C does not wait for tasks that do not want to end. Their executor
// ends them all the same, and they run again under the next platform.
func TestStopAtOnce(t *testing.T) {
	s := inMidFlow(t, []string{"-p", "stubborn=true"})
	s.signal(t, syscall.SIGINT)
	s.says(t, "Another Ctrl-C does not wait for their end.")
	eventually(t, stopLimit, "four tasks are asked to end", func() bool { return len(s.count(t, "term")) == 4 })
	s.signal(t, syscall.SIGINT)
	equal(t, s.awaitExit(t), 1)
	s.says(t, "Stopped at once; tasks may still be running or ending.\n")

	s.upProcess.start()
	for task, p := range s.waiting {
		eventually(t, patience, "task "+task+" of the first platform lives on", func() bool { return !p.alive() })
	}
	s.open(t)
	s.ends(t)
	s.exactlyOnce(t, 12, "end")
}
