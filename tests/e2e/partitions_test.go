package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

// squares has one of 500 partitions fail at its first attempt.
const squares = `
name: squares
params: {ledger: {type: string}, accounts: {type: file}}
defaults: {resources: {cpus: 0.05, mem: 16MB}, retry: {attempts: 2, backoff: 10ms}}
steps:
  square:
    for_each: {from: 0, to: 2999}
    with: {ledger: '${{ params.ledger }}', n: '${{ item }}', double: '${{ item * 2 }}'}
    outputs: {square: int, note: file}
    run: |
      echo "run $BAAS_PARTITION $BAAS_ATTEMPT" >>"$BAAS_INPUT_LEDGER"
      echo "partition $BAAS_PARTITION, attempt $BAAS_ATTEMPT"
      [ $((BAAS_INPUT_N % 500)) != 7 ] || [ $BAAS_ATTEMPT = 2 ] || exit 3
      echo $((BAAS_INPUT_N * BAAS_INPUT_N)) >"$BAAS_OUTPUTS/square"
      echo "double is $BAAS_INPUT_DOUBLE" >"$BAAS_OUTPUTS/note"
  check:
    for_each: '${{ steps.square.outputs.square }}'
    with: {square: '${{ item }}', index: '${{ index }}'}
    run: '[ $((BAAS_INPUT_INDEX * BAAS_INPUT_INDEX)) = $BAAS_INPUT_SQUARE ]'
  post:
    for_each: {lines: '${{ params.accounts }}'}
    needs: [check]
    with: {ledger: '${{ params.ledger }}', account: '${{ item }}'}
    run: echo "post $BAAS_INPUT_ACCOUNT" >>"$BAAS_INPUT_LEDGER"
`

// Thousands of partitions are some dozen Mesos tasks and a few events; each runs
// exactly once, but for those that fail, and is found by its number.
func TestManyPartitions(t *testing.T) {
	const n = 3000
	p, l := of(start(t)), newLedger(t)
	accounts := make([]string, 1000)
	for i := range accounts {
		accounts[i] = fmt.Sprintf("account-%04d", i)
	}
	file := writeFile(t, "accounts.txt", strings.Join(accounts, "\n")+"\n")
	r := run(t, p, map[string]string{"flow.yaml": squares}, map[string]string{"ledger": l.path, "accounts": file})
	last := succeeded(t, p, r, 2*patience)

	attempts := map[string][]string{}
	for _, words := range l.of(t, "run") {
		attempts[words[0]] = append(attempts[words[0]], words[1])
	}
	for i := range n {
		want := "1"
		if i%500 == 7 {
			want = "1 2"
		}
		if have := strings.Join(attempts[strconv.Itoa(i)], " "); have != want {
			t.Errorf("partition %d ran attempts %q, want %q", i, have, want)
		}
	}
	posted := l.count(t, "post")
	for _, account := range accounts {
		if posted[account] != 1 {
			t.Errorf("%s was posted %d times", account, posted[account])
		}
	}
	s, _ := last.Step("square")
	equal(t, []int{s.Partitions, s.Done, s.Failed, s.Retries}, []int{n, n, 0, n / 500})
	if events := historyLength(t, p, r); events > 150 {
		t.Errorf("the run has %d events", events)
	}
	segments, err := harness.SegmentsBefore(t.Context(), p.store, last, "square", time.Now())
	do(t, err)
	if len(segments) > n/2 {
		t.Errorf("%d partitions took %d segments", n, len(segments))
	}
	for number, want := range map[int]string{
		0: "partition 0, attempt 1\n", 1234: "partition 1234, attempt 1\n",
		507: "partition 507, attempt 1\npartition 507, attempt 2\n",
	} {
		equal(t, logText(t, p, last.Run, "square", number), want)
	}
}

// logText is what `baas logs RUN/STEP#N` prints.
func logText(t *testing.T, p target, run, step string, partition int) (text string) {
	t.Helper()
	for chunk, err := range p.runs().Logs(t.Context(), run, starter.LogOptions{Step: step, Partition: partition}) {
		if err != nil {
			t.Fatal(err)
		}
		text += string(chunk.Data)
	}
	return text
}

func historyLength(t *testing.T, p target, r client.WorkflowRun) (n int) {
	t.Helper()
	history := p.client.GetWorkflowHistory(t.Context(), r.GetID(), r.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		if _, err := history.Next(); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// much is a step of so many small partitions that something can die in its middle.
const much = `
name: much
params: {ledger: {type: string}}
steps:
  work:
    for_each: {from: 0, to: %d}
    resources: {cpus: 0.1, mem: 16MB}
    with: {ledger: '${{ params.ledger }}'}
    run: 'echo "run $BAAS_PARTITION $PPID" >>"$BAAS_INPUT_LEDGER"'
`

// muchSize is how many partitions the tests of deaths have.
const muchSize = 6000

// The leader is killed in the middle of many partitions: executors go on, and no
// partition runs twice.
func TestKillTheLeaderOfManyPartitions(t *testing.T) {
	w := newWorkers(t, true)
	w.begin(fmt.Sprintf(much, muchSize-1), map[string]string{"ledger": w.ledger.path})
	eventually(t, patience, "the flow does not get going", func() bool { return len(w.ledger.of(t, "run")) > muchSize/6 })
	killed := time.Now()
	do(t, w.workers[w.first].Kill())
	before := len(w.ledger.of(t, "run"))
	w.taken(killed)
	succeeded(t, w.target, w.run, patience)
	onceEach(t, w.ledger, muchSize)
	if before >= muchSize {
		t.Errorf("all had run when the leader was killed")
	}
}

// An executor is killed in the middle: what it had stored does not run again.
func TestKillTheExecutorOfManyPartitions(t *testing.T) {
	p, l := of(start(t)), newLedger(t)
	r := run(t, p, map[string]string{"flow.yaml": fmt.Sprintf(much, muchSize-1)}, map[string]string{"ledger": l.path})
	eventually(t, patience, "the flow does not get going", func() bool { return len(l.of(t, "run")) > muchSize/6 })
	executor := living(t, l.of(t, "run")[0][1])
	now, err := p.runs().Describe(t.Context(), api.RunID(r.GetID(), r.GetRunID()))
	if err != nil {
		t.Fatal(err)
	}
	segments, err := harness.SegmentsBefore(t.Context(), p.store, now, "work", time.Now())
	do(t, err)
	stored, err := harness.Done(t.Context(), p.store, segments)
	do(t, err)
	executor.kill(t)
	last := succeeded(t, p, r, patience)
	s, _ := last.Step("work")
	equal(t, []int{s.Done, s.Retries}, []int{muchSize, 0})
	ran := l.count(t, "run")
	again := 0
	for i := range muchSize {
		word := strconv.Itoa(i)
		switch n := ran[word]; {
		case n == 0:
			t.Errorf("partition %d never ran", i)
		case n > 1 && stored[i]:
			t.Errorf("partition %d ran %d times, and its result had been stored", i, n)
		case n > 1:
			again++
		}
	}
	t.Logf("%d results were stored when the executor was killed; %d partitions ran again", len(stored), again)
	if len(stored) == 0 {
		t.Error("no result had been stored when the executor was killed")
	}
}

// `baas up` is killed in the middle, twice; executors live on.
func TestKillThePlatformOfManyPartitions(t *testing.T) {
	l, p := newLedger(t), newUp(t)
	p.start()
	file := writeFile(t, "flow.yaml", fmt.Sprintf(much, muchSize-1))
	id := p.baas("run", file, "-p", "ledger="+l.path, "--detach")
	for k := range 2 {
		eventually(t, patience, "the flow does not go on", func() bool { return len(l.of(t, "run")) > (k+1)*muchSize/6 })
		p.kill()
		if len(l.of(t, "run")) >= muchSize {
			t.Fatal("all had run when the platform was killed")
		}
		p.start()
	}
	p.succeeds(id)
	onceEach(t, l, muchSize)
}

func onceEach(t *testing.T, l *ledger, n int) {
	t.Helper()
	ran := l.count(t, "run")
	for i := range n {
		if times := ran[strconv.Itoa(i)]; times != 1 {
			t.Errorf("partition %d ran %d times", i, times)
		}
	}
}

// writeFile writes one file, into a directory of its own.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(dir(t), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
