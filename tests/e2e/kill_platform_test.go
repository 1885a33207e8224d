package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

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
      echo "end $BAAS_INPUT_ITEM $$ $(date +%s%N)" >>"$BAAS_INPUT_LEDGER"
`

// `baas up` is killed again and again in the middle of a flow of 200 tasks, every
// other time right after a task has ended. Executors and tasks live on, so every
// task runs exactly once, in one process.
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

	var outages []outage
	for k := range kills {
		if len(l.count(t, "end")) == tasks {
			t.Fatalf("the flow was over after %d kills", k)
		}
		l.next(t, "end")
		if k%2 == 0 {
			time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond)
		} else {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
		p.kill()
		from := time.Now()
		// Tasks end while nobody is there.
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		outages = append(outages, outage{from, time.Now()})
		p.start()
	}
	p.succeeds(run)
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
	between, down := struck(t, l, p.accepted(run), outages)
	t.Logf("%d of %d kills struck between a task's end and the acceptance of its result; "+
		"%d tasks ended while nothing was up", between, kills, down)
	if between == 0 {
		t.Error("no kill struck between a task's end and the acceptance of its result")
	}
}

// outage is the time in which nothing was up.
type outage struct{ from, to time.Time }

// struck counts the outages before which a task had ended whose result was
// accepted only afterwards, and the tasks that ended during one.
func struck(t *testing.T, l *ledger, accepted map[string]time.Time, outages []outage) (between, down int) {
	t.Helper()
	hit := make(map[outage]bool)
	for _, words := range l.of(t, "end") {
		ns, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		end, known := time.Unix(0, ns), accepted[words[0]]
		if known.Before(end) {
			t.Errorf("the result of task %s was accepted at %s, before its end at %s", words[0], known, end)
		}
		for _, o := range outages {
			switch {
			case end.Before(o.from) && known.After(o.from):
				hit[o] = true
			case end.After(o.from) && end.Before(o.to):
				down++
			}
		}
	}
	return len(hit), down
}

// accepted tells when Temporal accepted the result of each item of a run whose
// activities have one partition each.
func (p *upProcess) accepted(run string) map[string]time.Time {
	p.t.Helper()
	var up struct{ Temporal, Namespace string }
	data, err := os.ReadFile(filepath.Join(p.data, "up.json"))
	if err == nil {
		err = json.Unmarshal(data, &up)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	temporal, err := client.DialContext(p.t.Context(), client.Options{HostPort: up.Temporal, Namespace: up.Namespace})
	if err != nil {
		p.t.Fatal(err)
	}
	defer temporal.Close()
	instance, _, err := api.SplitRunID(run)
	if err != nil {
		p.t.Fatal(err)
	}
	items := make(map[int64]string) // by the event that scheduled it
	times := make(map[string]time.Time)
	history := temporal.GetWorkflowHistory(p.t.Context(), instance, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			p.t.Fatal(err)
		}
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled.GetActivityType().GetName() == api.ActivityRunTasklets {
			var in api.LaunchInput
			if err := converter.GetDefaultDataConverter().FromPayloads(scheduled.GetInput(), &in); err != nil {
				p.t.Fatal(err)
			}
			items[event.GetEventId()] = strings.Trim(string(in.Partitions[0].Inputs["item"]), `"`)
		}
		if done := event.GetActivityTaskCompletedEventAttributes(); done != nil {
			times[items[done.GetScheduledEventId()]] = event.GetEventTime().AsTime()
		}
	}
	return times
}
