package mesos

import (
	"net/http"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"

	"github.com/baas-batch/baas/mesos/placement"
)

func told(id string, cpus, mem float64) master.Response_GetAgents_Agent {
	return master.Response_GetAgents_Agent{
		AgentInfo: mesos.AgentInfo{ID: &mesos.AgentID{Value: id}, Hostname: id + ".example"},
		Active:    true,
		TotalResources: []mesos.Resource{
			{Name: "cpus", Type: mesos.SCALAR.Enum(), Role: ptr("*"), Scalar: &mesos.Value_Scalar{Value: cpus}},
			{Name: "mem", Type: mesos.SCALAR.Enum(), Role: ptr("*"), Scalar: &mesos.Value_Scalar{Value: mem}},
			{Name: "mem", Type: mesos.SCALAR.Enum(), Role: ptr("other"), Scalar: &mesos.Value_Scalar{Value: 1 << 20}},
		},
		AllocatedResources: []mesos.Resource{
			{Name: "mem", Type: mesos.SCALAR.Enum(), Role: ptr("*"), Scalar: &mesos.Value_Scalar{Value: mem / 4}},
		},
	}
}

func TestSurveyed(t *testing.T) {
	s := newScene(t)
	s.agent("gone", size(8, 64), size(8, 64))
	drained, deactivated, inactive, gpu := told("d1", 8, 100), told("d2", 8, 100), told("i", 8, 100), told("g", 8, 100)
	drained.DrainInfo = &mesos.DrainInfo{}
	deactivated.Deactivated = ptr(true)
	inactive.Active = false
	gpu.TotalResources = append(gpu.TotalResources, mesos.Resource{
		Name: "gpus", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 2}})
	s.table.surveyed([]master.Response_GetAgents_Agent{told("a", 4, 16), drained, deactivated, inactive, gpu}, false, s.now, s.cfg.Timings)
	a := s.table.agents["a"]
	if want := (placement.Vector{4000, 16_000}); a.capacity() != want || a.name() != "a.example" {
		t.Errorf("agent %+v, want capacity %v: what is reserved for others does not count", a, want)
	}
	if want := (placement.Vector{4000, 12_000}); a.freeAt(s.now) != want || a.freeAt(s.now.Add(day)) != (placement.Vector{}) {
		t.Errorf("free %v, want %v", a.freeAt(s.now), want)
	}
	for id, why := range map[string]string{"gone": "not registered", "d1": "being drained", "d2": "deactivated", "g": "GPUs"} {
		if x := s.table.agents[id]; !strings.Contains(x.closed, why) || x.capacity() != (placement.Vector{}) {
			t.Errorf("agent %s is %q, want %q", id, x.closed, why)
		}
	}
	if s.table.agents["i"] != nil {
		t.Error("an inactive agent counts")
	}
	o := testOffer("o", "d1", 1, 1)
	s.table.offered(newOffer(&o, s.now), s.now)
	if s.table.agents["d1"].closed != "" {
		t.Error("an agent that is offered is still closed")
	}
}

// The first task that waits makes the framework ask; a refusal costs nothing.
func TestSurveyIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		agents func(w http.ResponseWriter) bool
		want   string
	}{
		"answered": {func(w http.ResponseWriter) bool {
			answer := master.Response{Type: master.Response_GET_AGENTS, GetAgents: &master.Response_GetAgents{
				Agents: []master.Response_GetAgents_Agent{told("a", 4, 16<<10)},
			}}
			data, err := answer.Marshal()
			if err != nil {
				panic(err)
			}
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write(data)
			return true
		}, "no agent with 68.7 GB of memory: the largest has 17.2 GB in all, 12.9 GB free"},
		"refused": {func(w http.ResponseWriter) bool {
			http.Error(w, "no", http.StatusForbidden)
			return true
		}, "no offers at all"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newScripted(t)
			asked := make(chan struct{}, 10)
			m.agents = func(w http.ResponseWriter) bool { asked <- struct{}{}; return c.agents(w) }
			cfg := testConfig(m.url)
			cfg.Timings.Puzzle = 1
			r := start(t, cfg, newHandler(), leads)
			get(t, m.streams, "SUBSCRIBE").send(subscribedEvent())
			get(t, r.handler.subscribed, "Subscribed")
			none(t, asked, "GET_AGENTS while nothing waits")
			r.Submit(testTask("t", 1, 64<<10))
			get(t, asked, "GET_AGENTS")
			eventually(t, c.want, func() bool { return strings.HasPrefix(r.Explain("t"), c.want) })
			none(t, asked, "second GET_AGENTS within a minute")
		})
	}
}
