package cli

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
)

func mesosView(now time.Time) starter.MesosView {
	return starter.MesosView{
		Framework: "default", Leader: "host/1", At: now,
		View: mesos.View{
			FrameworkID: "baas-default-1", Master: "http://10.0.0.1:5050", Since: now.Add(-time.Hour), More: 3,
			Agents: []mesos.AgentInfo{
				{Agent: mesos.Agent{ID: "a1", Hostname: "node-1.a-rather-long-domain.example.com"}, Total: mesos.Resources{CPUs: 16, Mem: 64e9, GPUs: 2},
					Offered: mesos.Resources{CPUs: 1.5, Mem: 4e9}, LastOffer: now, Executors: []mesos.ExecutorInfo{{ID: "x", Tasks: 7}},
					Values: map[string]string{"host": "node-1", "rack": "r1", "zone": "eu-1", "long": strings.Repeat("v", 100)}},
				{Agent: mesos.Agent{ID: "a2"}, Closed: "being drained"},
				{Agent: mesos.Agent{ID: "a3"}, AvoidedUntil: now.Add(time.Minute), Losses: 2},
			},
			Offers: []mesos.OfferInfo{{ID: "o1", AgentID: "a1", Hostname: "node-1", Role: "baas/billing", Resources: mesos.Resources{CPUs: 1, Mem: 1e9}, Since: now.Add(-time.Second), Why: "no task waits: it goes back after 2s"}},
			Tasks: []mesos.TaskInfo{
				{TaskID: strings.Repeat("t", 80), State: mesos.Running, Hostname: "node-1", Owner: "billing", Since: now.Add(-time.Minute), Adopted: true},
				{TaskID: testTask("render", 10), State: mesos.Running, Hostname: "node-1.a-rather-long-domain.example.com", Owner: "billing", Since: now.Add(-time.Minute), Adopted: true},
				{TaskID: testTask("render", 2), State: mesos.GoneByOperator, Hostname: "node-2", Owner: "billing", Since: now.Add(-time.Minute), Killing: true},
				{TaskID: testTask(strings.Repeat("s", 60), 12345), State: mesos.Running, Hostname: "node-3", Owner: "billing", Since: now},
			},
			Waiting: []mesos.WaitingInfo{{TaskID: testTask("render", 17), Name: "render #17", Owner: "billing", Since: now.Add(-time.Minute),
				Resources: mesos.Resources{CPUs: 1, Mem: 1e9}, Why: "constraint rack == r9 excludes 12 of 12 agents"}},
			States: map[mesos.State]int{mesos.Running: 1, mesos.WaitingState: 1},
			Roles: []mesos.RoleInfo{
				{Name: "baas", Joined: true, Suppressed: true},
				{Name: "baas/billing", Joined: true, Waiting: 4, Tasks: 9, Held: mesos.Resources{CPUs: 2, Mem: 2e9}, Limit: map[string]float64{"cpus": 2}},
				{Name: "baas/else", Refused: "403 Forbidden: not authorised"},
			},
		},
	}
}

// testTask is the ID of a task of one run.
func testTask(step string, partition int) string {
	return tasklet.TaskID{
		WorkflowID: "statements-9f86d081884c7d65", RunID: "0195d1c2-4f5e-7a3b-8c6d-00005e2f91aa", ActivityID: step + "-1",
		First: partition, Generation: 1,
	}.String()
}

// Tasks of one run can be told apart, stand below it in order, and an agent without
// attributes has no line for them.
func TestMesosRows(t *testing.T) {
	b := newBench(t)
	b.runs.mesos = func(starter.MesosOptions) (starter.MesosView, error) { return mesosView(b.program.Now()), nil }
	b.expect(ExitDone, "mesos", "tasks")
	want := []string{
		"-, owner billing\n  ttt", "\nstatements-9f86d081884c7d65-5e2f91aa, owner billing\n  render#2 ", "\n  render#10 ", "\n  " + strings.Repeat("s", 23) + "…#12345 ",
	}
	rest := b.stdout.String()
	for _, text := range want {
		_, after, found := strings.Cut(rest, text)
		if !found {
			t.Fatalf("%q is missing, or not in its place, in\n%s", text, b.stdout.String())
		}
		rest = after
	}
	b = newBench(t)
	b.runs.mesos = func(starter.MesosOptions) (starter.MesosView, error) {
		v := mesosView(b.program.Now())
		v.Agents[1].Values = map[string]string{"host": "node-2"}
		return v, nil
	}
	b.expect(ExitDone, "mesos", "agents")
	if out := b.stdout.String(); strings.Contains(out, "\n  -\n") {
		t.Errorf("an empty line of attributes in\n%s", out)
	}
}

func TestMesosTables(t *testing.T) {
	for what, want := range map[string][]string{
		"agents": {"16 CPU, 64 GB, 2 GPU", "1.5 CPU, 4 GB", "being drained", "avoided for 1m00s, 2 lost", "rack=r1"},
		"offers": {"baas/billing", "no task waits"},
		"tasks":  {"1 RUNNING, 1 WAITING", "statements-9f86d081884c7d65-5e2f91aa/render#17 owner billing, for 1m00s, 1 CPU, 1 GB", "constraint rack == r9 excludes 12 of 12 agents", "earlier leader's", "being killed"},
		"roles":  {"suppressed: nothing waits", "cpus 2", "refused: 403 Forbidden"},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			var asked starter.MesosOptions
			b.runs.mesos = func(o starter.MesosOptions) (starter.MesosView, error) {
				asked = o
				return mesosView(b.program.Now()), nil
			}
			if code := b.run("mesos", what, "--framework", "f", "--limit", "7"); code != ExitDone {
				t.Fatalf("exit code %d: %s", code, b.stderr.String())
			}
			if asked != (starter.MesosOptions{Framework: "f", What: what, Limit: 7}) {
				t.Errorf("asked for %+v", asked)
			}
			out := b.stdout.String()
			for _, text := range append(want, "host/1, framework default (baas-default-1)", "http://10.0.0.1:5050, for 1h", "3 more; see --limit") {
				if !strings.Contains(out, text) {
					t.Errorf("%q is missing in\n%s", text, out)
				}
			}
			for line := range strings.Lines(out) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > tableWidth {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

func TestMesosJSON(t *testing.T) {
	b := newBench(t)
	b.runs.mesos = func(starter.MesosOptions) (starter.MesosView, error) { return mesosView(b.program.Now()), nil }
	if code := b.run("mesos", "roles", "-o", "json"); code != ExitDone {
		t.Fatalf("exit code %d: %s", code, b.stderr.String())
	}
	var got starter.MesosView
	if err := json.Unmarshal([]byte(b.stdout.String()), &got); err != nil || len(got.Roles) != 3 || got.FrameworkID != "baas-default-1" {
		t.Errorf("%+v (%v)", got, err)
	}
}

func TestMesosMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"mesos"}, ExitUsage, "agents, offers, tasks or roles"},
		{[]string{"mesos", "agent"}, ExitUsage, "expected agents, offers, tasks or roles"},
		{[]string{"mesos", "agents", "--limit", "0"}, ExitUsage, "expected a number from 1 to 1000"},
		{[]string{"mesos", "agents", "-o", "xml"}, ExitUsage, "expected table or json"},
		{[]string{"mesos", "agents"}, ExitUnreachable, "no worker leads"},
	} {
		b := newBench(t)
		b.runs.mesos = func(starter.MesosOptions) (starter.MesosView, error) {
			return starter.MesosView{}, &starter.UnreachableError{What: "the leader of framework default", Err: errors.New("no worker leads")}
		}
		if code := b.run(c.args...); code != c.code || !strings.Contains(b.stderr.String(), c.want) {
			t.Errorf("%v: exit code %d, %s", c.args, code, b.stderr.String())
		}
	}
}

func TestMesosAsksTheFrameworkOfTheEnvironment(t *testing.T) {
	b := newBench(t)
	b.env["BAAS_FRAMEWORK"] = "night"
	var asked starter.MesosOptions
	b.runs.mesos = func(o starter.MesosOptions) (starter.MesosView, error) {
		asked = o
		return mesosView(b.program.Now()), nil
	}
	if code := b.run("mesos", "tasks"); code != ExitDone || asked.Framework != "night" || asked.What != api.InspectTasks {
		t.Errorf("exit code %d, asked for %+v", code, asked)
	}
}
