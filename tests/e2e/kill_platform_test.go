package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage/file"
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

// The whole platform is killed again and again in the middle of a flow of 200
// tasks. Executors and tasks live on, so every task runs exactly once.
func TestKillThePlatform(t *testing.T) {
	const tasks, kills = 200, 20
	random := seed(t)
	l := newLedger(t)
	p := newProcess(t)
	p.up()
	store, err := file.Open(p.dir+"/data/store", file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r := run(t, platformOf(p.dial(), store), map[string]string{"flow.yaml": `
name: many
params: {ledger: {type: string}}
steps:
  work:
    for_each: {from: 1, to: 200}
    resources: {cpus: 0.05, mem: 16MB}
    with: {ledger: '${{ params.ledger }}', item: '${{ item }}'}
    run: |
      echo "start $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
      sleep $(( $BAAS_INPUT_ITEM % 4 )).$(( $BAAS_INPUT_ITEM % 10 ))
      echo "end $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
`}, map[string]string{"ledger": l.path})

	for k := range kills {
		before := len(l.count(t, "end"))
		if before == tasks {
			t.Fatalf("the flow was over after %d kills", k)
		}
		if k%2 == 0 {
			// Right after a task has ended: before its result is completed or acknowledged.
			eventually(t, 2*time.Minute, "no task ends", func() bool { return len(l.count(t, "end")) > before })
		} else {
			eventually(t, 2*time.Minute, "no task starts", func() bool { return len(l.count(t, "start")) > 0 })
			<-time.After(time.Duration(random.IntN(3000)) * time.Millisecond)
		}
		p.kill()
		// Tasks end while nobody is there.
		<-time.After(time.Duration(random.IntN(1500)) * time.Millisecond)
		p.up()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var result api.RunResult
	if err := p.dial().GetWorkflow(ctx, r.GetID(), r.GetRunID()).Get(ctx, &result); err != nil {
		t.Fatal(err)
	}
	if result.Status != api.StatusSucceeded {
		t.Errorf("the run ended as %s", result.Status)
	}
	for _, kind := range []string{"start", "end"} {
		counts := l.count(t, kind)
		for i := 1; i <= tasks; i++ {
			if n := counts[strconv.Itoa(i)]; n != 1 {
				t.Errorf("task %d: %d times %q", i, n, kind)
			}
		}
	}
}
