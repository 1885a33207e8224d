package mesos

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/mesos/placement"
)

// byDot groups tasks by their IDs up to the dot.
func byDot(id string) string {
	group, _, _ := strings.Cut(id, ".")
	return group
}

func textAttribute(name, value string) mesos.Attribute {
	return mesos.Attribute{Name: name, Type: mesos.TEXT, Text: &mesos.Value_Text{Value: value}}
}

func racked(id, agentID, rack string, cpus, mem float64) mesos.Offer {
	o := testOffer(id, agentID, cpus, mem)
	o.Attributes = []mesos.Attribute{textAttribute("rack", rack)}
	return o
}

func constrained(id string, list ...Constraint) Task {
	t := testTask(id, 1, 100)
	t.Constraints = list
	return t
}

func (s *scene) value(agentID, key, value string) {
	a := s.table.agent(agentID)
	values := maps.Clone(a.values)
	if values == nil {
		values = map[string]string{"host": a.Hostname}
	}
	values[key] = value
	a.values = values
}

func TestValuesOfAgents(t *testing.T) {
	got := agentValues("h1", []mesos.Attribute{
		textAttribute("rack", "r1"), textAttribute("zone", "of no account"),
		{Name: "disks", Type: mesos.SCALAR, Scalar: &mesos.Value_Scalar{Value: 2.5}},
		{Name: "os", Type: mesos.SET, Set: &mesos.Value_Set{Item: []string{"b", "a"}}},
		{Name: "lanes", Type: mesos.RANGES, Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 1, End: 4}, {Begin: 9, End: 9}}}},
	}, &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
		Region: mesos.DomainInfo_FaultDomain_RegionInfo{Name: "eu"}, Zone: mesos.DomainInfo_FaultDomain_ZoneInfo{Name: "eu-1"},
	}})
	want := map[string]string{
		"host": "h1", "rack": "r1", "disks": "2.5", "os": "{a, b}", "lanes": "[1-4, 9-9]", "region": "eu", "zone": "eu-1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("values are\n%v\nwant\n%v", got, want)
	}
}

func TestConstraintsThatCannotBe(t *testing.T) {
	for _, c := range []Constraint{
		{Key: "rack", Op: "near", Values: []string{"r1"}},
		{Key: "rack", Op: "is"},
		{Key: "", Op: "spread"},
		{Key: "rack", Op: "max_per"},
		{Key: "rack", Op: "like", Values: []string{"("}},
	} {
		s := newScene(t)
		s.Submit(constrained("t", c))
		if len(s.own) != 1 || s.own[0].State != ErrorState || len(s.queue.tasks) != 0 {
			t.Errorf("%+v: updates %+v", c, s.own)
		}
	}
}

func TestConstraintsOnOffers(t *testing.T) {
	r, m, s := connect(t, nil)
	r.Submit(constrained("t1", Constraint{Key: "rack", Op: "is", Values: []string{"r2"}}))
	s.send(offersEvent(racked("o1", "a1", "r1", 4, 400), racked("o2", "a2", "r2", 4, 400)))
	infos := launches(m.want(scheduler.Call_ACCEPT))
	if len(infos) != 1 || infos[0].AgentID.Value != "a2" {
		t.Fatalf("launched %v", infos)
	}
}

// Tasks that an earlier leader has launched count, as soon as Mesos tells of them.
func TestAdoptedTasksCount(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.GroupOf, c.Timings.Settle = byDot, time.Nanosecond })
	s.send(offersEvent(racked("o1", "a1", "r1", 0.1, 1), racked("o2", "a2", "r2", 0.1, 1)))
	s.send(statusEvent("step.1", "a1", "x", mesos.TASK_RUNNING, ""))
	get(t, r.handler.updates, "update")
	r.Submit(constrained("step.2", Constraint{Key: "rack", Op: "max_per", Max: 1}))
	s.send(offersEvent(racked("o3", "a1", "r1", 4, 400), racked("o4", "a2", "r2", 8, 800)))
	infos := launches(m.want(scheduler.Call_ACCEPT))
	if len(infos) != 1 || infos[0].AgentID.Value != "a2" {
		t.Fatalf("launched %v", infos)
	}
	r.Submit(constrained("step.3", Constraint{Key: "rack", Op: "max_per", Max: 1}))
	s.send(offersEvent(racked("o5", "a1", "r1", 4, 400)))
	// The end of the adopted task makes room for it.
	s.send(statusEvent("step.1", "a1", "x", mesos.TASK_FINISHED, ""))
	get(t, r.handler.updates, "update")
	s.send(offersEvent(racked("o6", "a1", "r1", 4, 400)))
	if got := taskIDs(launches(m.want(scheduler.Call_ACCEPT))); got != "[step.3]" {
		t.Errorf("launched %s", got)
	}
}

func TestCountingWaitsForTheTasksOfAnEarlierLeader(t *testing.T) {
	s := newScene(t)
	s.cfg.GroupOf = byDot
	s.Submit(constrained("step.1", Constraint{Key: "host", Op: "max_per", Max: 1}), constrained("step.2", Constraint{Key: "host", Op: "is", Values: []string{"h"}}))
	s.link.settled = s.now.Add(time.Second)
	if got := s.ruling(s.now).of(s.queue.tasks["step.1"]); got != shut {
		t.Errorf("while nobody knows where the others are, the rules are %+v", got)
	}
	if got := s.ruling(s.now).of(s.queue.tasks["step.2"]); got == shut {
		t.Error("a task that does not count the others waits too")
	}
	if got := s.ruling(s.now.Add(time.Second)).of(s.queue.tasks["step.1"]); got == shut {
		t.Error("it waits for ever")
	}
}

// What the activities know of an earlier leader's tasks counts before Mesos has
// answered, and a task on an agent that nobody knows counts everywhere.
func TestTasksAskedFor(t *testing.T) {
	s := newScene(t)
	s.cfg.GroupOf = byDot
	s.agent("a", size(8, 8), size(8, 8))
	s.value("a", "rack", "r1")
	s.Submit(constrained("step.1", Constraint{Key: "rack", Op: "max_per", Max: 2}))
	s.asks.add(TaskRef{"step.2", "a"}, s.now)
	s.asks.add(TaskRef{"step.3", "nobody knows"}, s.now)
	s.asks.add(TaskRef{"other.1", "a"}, s.now)
	got := s.ruling(s.now).of(s.queue.tasks["step.1"])
	if got.Live[0]["r1"] != 1 || got.Unknown[0] != 1 {
		t.Errorf("counted %v, unknown %v", got.Live, got.Unknown)
	}
}

func TestGroupByKnowsAllValues(t *testing.T) {
	s := newScene(t)
	s.cfg.GroupOf = byDot
	for i, rack := range []string{"r1", "r2", "small", "closed", "avoided", "other"} {
		id := fmt.Sprint("a", i)
		a := s.agent(id, size(8, 8), size(0, 0))
		s.value(id, "rack", rack)
		s.value(id, "os", "linux")
		switch rack {
		case "small":
			a.total = size(0.1, 8)
		case "closed":
			a.closed = "being drained"
		case "avoided":
			s.table.avoided[id] = a
		case "other":
			s.value(id, "os", "plan9")
		}
	}
	s.Submit(constrained("step.1", Constraint{Key: "rack", Op: "group_by"}, Constraint{Key: "os", Op: "is", Values: []string{"linux"}}))
	got := s.ruling(s.now).of(s.queue.tasks["step.1"])
	if !maps.Equal(got.Live[0], map[string]int{"r1": 0, "r2": 0}) {
		t.Errorf("values are %v", got.Live[0])
	}
}

func TestSurveyTellsAttributes(t *testing.T) {
	s := newScene(t)
	id := "a"
	s.table.surveyed([]master.Response_GetAgents_Agent{{
		Active: true, AgentInfo: mesos.AgentInfo{
			ID: &mesos.AgentID{Value: id}, Hostname: "h", Attributes: []mesos.Attribute{textAttribute("rack", "r7")},
		},
		TotalResources: []mesos.Resource{{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: &mesos.Value_Ranges{
			Range: []mesos.Value_Range{{Begin: 31000, End: 31099}}}}},
	}}, false, s.now, s.cfg.Timings)
	a := s.table.agents[id]
	if a.values["rack"] != "r7" || a.values["host"] != "h" || a.total[placement.Ports] != 100_000 {
		t.Errorf("values %v, total %v", a.values, a.total)
	}
}

func TestExplainConstraints(t *testing.T) {
	rackIs := func(v string) Constraint {
		return Constraint{Text: "rack == " + v, Key: "rack", Op: "is", Values: []string{v}}
	}
	onePer := Constraint{Text: "max 1 per host", Key: "host", Op: "max_per", Max: 1}
	for _, c := range []struct {
		name        string
		constraints []Constraint
		set         func(s *scene)
		want        string
	}{
		{"one", []Constraint{rackIs("r99")}, nil, "constraint rack == r99 excludes 12 of 12 agents"},
		{"two that do not go together", []Constraint{rackIs("r0"), {Text: "host unlike a0.*", Key: "host", Op: "unlike", Values: []string{"a0.*"}}}, nil,
			"no agent meets all its constraints: constraint rack == r0 excludes 11 of 12 agents, host unlike a0.* 1"},
		{"the one that is left is busy", []Constraint{rackIs("r3")}, func(s *scene) { s.table.agents["a3"].free = size(1, 8) },
			"busy: it needs 2.1 CPUs, the most free on one is 1 CPU (1 of 12 agents is large enough); constraint rack == r3 excludes 11 of 12 agents"},
		{"the one that is left is too small", []Constraint{rackIs("r3")}, func(s *scene) { s.table.agents["a3"].total = size(1, 8) },
			"constraint rack == r3 excludes 11 of 12 agents; of the rest none is large enough (it needs 2.1 CPUs, the largest has 1 CPU)"},
		{"drained", []Constraint{rackIs("r3")}, func(s *scene) { s.table.agents["a3"].closed = "being drained" },
			"constraint rack == r3 excludes 11 of 11 agents; a3.example would do, but is being drained"},
		{"counting", []Constraint{onePer}, func(s *scene) {
			for i := range 12 {
				s.table.observe(Update{TaskID: fmt.Sprint("t.", i), State: Running, AgentID: fmt.Sprint("a", i)}, s.now)
			}
		}, "constraint max 1 per host excludes 12 of 12 agents"},
		{"counting what nobody knows", []Constraint{onePer}, func(s *scene) {
			s.table.observe(Update{TaskID: "t.1", State: Running, AgentID: "unheard of"}, s.now)
		}, "constraint max 1 per host excludes 12 of 12 agents (1 run on agents whose host is not known)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			s.cfg.GroupOf, s.table.groupOf = byDot, byDot
			for i := range 12 {
				id := fmt.Sprint("a", i)
				s.agent(id, size(8, 8), size(8, 8))
				s.value(id, "rack", fmt.Sprint("r", i))
			}
			if c.set != nil {
				c.set(s)
			}
			s.Submit(Task{ID: "t", Owner: "billing", Resources: Resources{CPUs: 2, Mem: 2 * gb}, Submitted: epoch, Constraints: c.constraints})
			s.expect(c.want)
		})
	}
}

func TestPortsAndBandwidth(t *testing.T) {
	r, m, s := connect(t, nil)
	task := testTask("t1", 1, 100)
	task.Resources.Ports, task.Resources.Network = 3, 250
	task.Limits = Limits{CPUs: 2, Mem: 300 << 20}
	plain := testTask("t2", 1, 100)
	plain.Resources.Ports = 1
	r.Submit(task, plain)
	offer := testOffer("o1", "a1", 4, 4000)
	offer.Resources = append(offer.Resources,
		mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 31000, End: 31001}, {Begin: 31010, End: 31020}}}},
		mesos.Resource{Name: "network_bandwidth", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 1000}})
	s.send(offersEvent(offer))
	infos := launches(m.want(scheduler.Call_ACCEPT))
	if len(infos) != 2 {
		t.Fatalf("launched %v", infos)
	}
	got := map[string]string{}
	for _, info := range infos {
		for _, res := range info.Resources {
			if res.Name == "ports" {
				got[info.TaskID.Value] = fmt.Sprint(res.Ranges.Range)
			}
			if res.Name == "network_bandwidth" && res.Scalar.Value != 250 {
				t.Errorf("bandwidth is %v", res.Scalar.Value)
			}
		}
	}
	if got["t1"] != "[{31000 31001} {31010 31010}]" || got["t2"] != "[{31011 31011}]" {
		t.Errorf("ports are %v", got)
	}
	limits := infos[0].Limits
	if infos[0].TaskID.Value != "t1" {
		limits = infos[1].Limits
	}
	if limits["cpus"].Value != 2 || limits["mem"].Value != 300 {
		t.Errorf("limits are %v", limits)
	}
	if infos[0].Executor.ExecutorID == infos[1].Executor.ExecutorID {
		t.Error("a task with limits shares its executor")
	}
	for range 2 {
		for _, task := range get(t, r.handler.placements, "Placed").Tasks {
			if task.ID == "t1" && fmt.Sprint(task.Ports) != "[31000 31001 31010]" {
				t.Errorf("t1 is told of %v", task.Ports)
			}
		}
	}
}

func TestPortsThatNoAgentHas(t *testing.T) {
	s := newScene(t)
	s.agent("a", size(8, 8), size(8, 8))
	s.Submit(Task{ID: "t", Owner: "billing", Resources: Resources{CPUs: 1, Mem: gb, Ports: 2, Network: 100}, Submitted: epoch})
	s.expect("no agent with 2 ports: the largest has 0 ports in all, 0 ports free")
}
