package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/tests/harness"
)

// sixty has every third task wait at the gate; the others take up to some seconds.
const sixty = `
name: sixty
params: {ledger: {type: string}, gate: {type: string}}
steps:
  work:
    for_each: {from: 1, to: 60}
    resources: {cpus: 0.05, mem: 16MB}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}', item: '${{ item }}'}
    run: |
      echo "start $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
      if [ $((BAAS_INPUT_ITEM % 3)) = 0 ]; then
        read x <"$BAAS_INPUT_GATE"
      else
        sleep $((BAAS_INPUT_ITEM % 4)).$((BAAS_INPUT_ITEM % 10))
      fi
      echo "end $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
`

// failover is two workers in the middle of a flow.
type failover struct {
	*testing.T
	platform *platform.Platform
	target
	ledger  *ledger
	gate    *gate
	run     client.WorkflowRun
	workers map[string]*harness.Worker
	first   string // who leads
	id      string // of the framework
	waiting []processID
}

// takeoverLimit is how long the workers may be without a leader.
const takeoverLimit = 30 * time.Second

// newWorkers starts both, without a flow.
func newWorkers(t *testing.T, shareGateway bool) *failover {
	t.Helper()
	f := &failover{T: t, ledger: newLedger(t), gate: newGate(t), workers: map[string]*harness.Worker{}}
	f.platform = start(t, func(c *platform.Config) { c.NoWorker = true })
	f.target = of(f.platform)
	for _, name := range []string{"a", "b"} {
		cfg := harness.LikePlatform(f.platform, name)
		if shareGateway {
			cfg.Gateway = f.platform.Gateway.URL()
		}
		f.workers[name] = harness.NewWorker(t, cfg)
		do(t, f.workers[name].Start())
	}
	return f
}

// begin starts a flow, and waits until one of the two leads.
func (f *failover) begin(flow string, params map[string]string) {
	f.Helper()
	f.run = run(f.T, f.target, map[string]string{"flow.yaml": flow}, params)
	f.Cleanup(f.tell)
	eventually(f.T, patience, "nobody leads", func() bool { f.first, _ = f.leader(); return f.first != "" })
	f.id = f.frameworkID()
}

func newFailover(t *testing.T, shareGateway bool) *failover {
	t.Helper()
	f := newWorkers(t, shareGateway)
	f.begin(sixty, map[string]string{"ledger": f.ledger.path, "gate": f.gate.path})
	eventually(t, patience, "the flow does not get going", func() bool {
		f.waiting = f.waiting[:0]
		for _, words := range f.ledger.of(t, "start") {
			if p, ok := lookUp(number(t, words[1])); ok && number(t, words[0])%3 == 0 {
				f.waiting = append(f.waiting, p)
			}
		}
		return len(f.waiting) >= 8 && len(f.ledger.of(t, "end")) >= 8
	})
	return f
}

// leader tells who leads, and in which attempt of the activity.
func (f *failover) leader() (name string, attempt int32) {
	f.Helper()
	name, attempt, err := harness.Leader(f.Context(), f.client)
	if err != nil {
		return "", 0
	}
	return name, attempt
}

// frameworkID asks the workflow. Temporal may first ask a worker that does not
// answer any more.
func (f *failover) frameworkID() (id string) {
	f.Helper()
	eventually(f.T, patience, "the framework's workflow does not answer", func() bool {
		ctx, cancel := context.WithTimeout(f.Context(), 10*time.Second)
		defer cancel()
		value, err := f.client.QueryWorkflow(ctx, api.FrameworkWorkflowID(api.DefaultFramework), "", api.QueryFrameworkID)
		return err == nil && value.Get(&id) == nil
	})
	return id
}

// subscription is a framework as the master shows it.
type subscription struct {
	FrameworkInfo struct {
		ID struct{ Value string }
	} `json:"framework_info"`
	Connected        bool
	ReregisteredTime struct {
		Nanoseconds json.Number
	} `json:"reregistered_time"`
}

func (f *failover) subscriptions() []subscription {
	f.Helper()
	answer, err := http.Post(f.platform.Cluster.MasterURL()+"/api/v1", "application/json",
		bytes.NewBufferString(`{"type": "GET_FRAMEWORKS"}`))
	if err != nil {
		f.Fatal(err)
	}
	defer answer.Body.Close()
	var body struct {
		GetFrameworks struct{ Frameworks []subscription } `json:"get_frameworks"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		f.Fatal(err)
	}
	return body.GetFrameworks.Frameworks
}

// taken waits until the other worker leads the same framework.
func (f *failover) taken(since time.Time) (second string) {
	f.Helper()
	for name := range f.workers {
		if name != f.first {
			second = name
		}
	}
	var list []subscription
	eventually(f.T, takeoverLimit, "the other worker does not lead", func() bool {
		name, _ := f.leader()
		list = f.subscriptions()
		return name == second && len(list) == 1 && list[0].Connected
	})
	f.Logf("worker %s leads after %s", second, time.Since(since).Round(time.Millisecond))
	equal(f.T, list[0].FrameworkInfo.ID.Value, f.id)
	equal(f.T, f.frameworkID(), f.id)
	return second
}

// tell helps to understand a failure.
func (f *failover) tell() {
	if !f.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	now, err := f.runs().Describe(ctx, api.RunID(f.run.GetID(), f.run.GetRunID()))
	f.Logf("%d entries in the ledger, %d of an end; %v\n%s", len(f.ledger.lines(f.T)), len(f.ledger.of(f.T, "end")), err, show(now))
}

// finish lets the flow end, and looks at what really ran.
func (f *failover) finish() {
	f.Helper()
	for _, p := range f.waiting {
		if !p.alive() {
			f.Errorf("process %d did not live on", p.pid)
		}
	}
	f.gate.open(f.T)
	succeeded(f.T, f.target, f.run, patience)
	f.ledger.exactlyOnce(f.T, 60, "start", "end")
	began := map[string]string{}
	for _, words := range f.ledger.of(f.T, "start") {
		began[words[0]] = words[1]
	}
	for _, words := range f.ledger.of(f.T, "end") {
		if began[words[0]] != words[1] {
			f.Errorf("task %s began as process %s and ended as %s", words[0], began[words[0]], words[1])
		}
	}
}

// The leader is killed in the middle of a flow, and the gateway in its process
// with it: executors get new URLs from the next leader.
func TestKillTheLeader(t *testing.T) {
	f := newFailover(t, false)
	killed := time.Now()
	do(t, f.workers[f.first].Kill())
	f.taken(killed)
	f.finish()
}

// The leader sleeps for longer than its lease and wakes up when another one leads:
// it must not lead on. The gateway is elsewhere: one that is silent delays each
// upload by a minute.
func TestPauseTheLeader(t *testing.T) {
	f := newFailover(t, true)
	paused := time.Now()
	old := f.workers[f.first]
	do(t, old.Pause())
	second := f.taken(paused)
	ends := len(f.ledger.of(t, "end"))
	eventually(t, time.Minute, "nothing goes on under the new leader", func() bool {
		return len(f.ledger.of(t, "end")) > ends || ends == 40
	})
	before := f.subscriptions()
	_, attempt := f.leader()

	do(t, old.Resume())
	eventually(t, takeoverLimit, "the old leader does not quit", func() bool {
		return strings.Contains(old.Log(), "no longer leading")
	})
	f.finish()
	name, now := f.leader()
	if name != second || now != attempt {
		t.Errorf("worker %s leads in attempt %d, it was %s in attempt %d", name, now, second, attempt)
	}
	equal(t, f.subscriptions(), before) // nobody has subscribed since
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
