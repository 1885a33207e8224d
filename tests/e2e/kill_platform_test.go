package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
)

// seed gives the seed of a test's random choices, and prints it.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("BAAS_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	t.Logf("BAAS_SEED=%d", s)
	return rand.New(rand.NewPCG(s, 0))
}

const manyTasks = `
name: many
params: {ledger: {type: string}}
steps:
  work:
    for_each: {from: 1, to: 200}
    parallel: 8
    resources: {cpus: 0.05, mem: 16MB}
    with: {ledger: '${{ params.ledger }}', item: '${{ item }}'}
    run: |
      echo "start $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
      sleep $(( $BAAS_INPUT_ITEM % 4 )).$(( $BAAS_INPUT_ITEM % 10 ))
      echo "end $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
`

// `baas up` is killed again and again in the middle of a flow of 200 tasks.
// Executors and tasks live on, so every task runs exactly once, in one process.
func TestKillThePlatform(t *testing.T) {
	const tasks, kills = 200, 20
	random := seed(t)
	l := newLedger(t)
	p := newUp(t)
	p.start()
	file := filepath.Join(dir(t), "flow.yaml")
	if err := os.WriteFile(file, []byte(manyTasks), 0o644); err != nil {
		t.Fatal(err)
	}
	run := p.baas("run", file, "-p", "ledger="+l.path, "--detach")

	for k := range kills {
		before := len(l.count(t, "end"))
		if before == tasks {
			t.Fatalf("the flow was over after %d kills", k)
		}
		eventually(t, 2*time.Minute, "no task ends", func() bool { return len(l.count(t, "end")) > before })
		if k%2 == 1 {
			<-time.After(time.Duration(random.IntN(2000)) * time.Millisecond)
		} // else right after a task has ended: its result is not completed or not acknowledged yet
		p.kill()
		// Tasks end while nobody is there.
		<-time.After(time.Duration(random.IntN(1500)) * time.Millisecond)
		p.start()
	}
	var state api.RunState
	eventually(t, 3*time.Minute, "the run does not end", func() bool {
		if err := json.Unmarshal([]byte(p.baas("status", run, "--output", "json")), &state); err != nil {
			t.Fatal(err)
		}
		return state.Status.Final()
	})
	if state.Status != api.StatusSucceeded {
		t.Errorf("the run ended as %s: %s", state.Status, state.Reason)
	}
	process := make(map[string]string)
	for _, words := range l.lines(t) {
		what, task, pid := words[0], words[1], words[2]
		switch {
		case what == "start" && process[task] != "":
			t.Errorf("task %s started twice, as process %s and %s", task, process[task], pid)
		case what == "start":
			process[task] = pid
		case process[task] != pid:
			t.Errorf("task %s started as process %s and ended as %s", task, process[task], pid)
		}
	}
	if n := len(l.count(t, "end")); n != tasks {
		t.Errorf("%d tasks ended, want %d", n, tasks)
	}
}
