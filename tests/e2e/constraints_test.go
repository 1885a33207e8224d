package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	mesosapi "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/api"
	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
)

// racks are three agents in two racks and two zones; the last has twice as much.
func racks(c *platform.Config) {
	for i, rack := range []string{"r1", "r1", "r2"} {
		size := 1 + float64(i/2)
		c.Mesos.Agents = append(c.Mesos.Agents, embeddedmesos.AgentConfig{
			Resources: []mesosapi.Resource{
				agent.Scalar("cpus", 2*size), agent.Scalar("mem", 1024*size), agent.Scalar("disk", 1024), agent.Scalar("network_bandwidth", 1000),
				{Name: "ports", Type: mesosapi.RANGES.Enum(), Ranges: &mesosapi.Value_Ranges{Range: []mesosapi.Value_Range{{Begin: 31000, End: 31009}}}},
			},
			Attributes: []mesosapi.Attribute{{Name: "rack", Type: mesosapi.TEXT, Text: &mesosapi.Value_Text{Value: rack}}},
			Domain: &mesosapi.DomainInfo{FaultDomain: &mesosapi.DomainInfo_FaultDomain{
				Region: mesosapi.DomainInfo_FaultDomain_RegionInfo{Name: "eu"},
				Zone:   mesosapi.DomainInfo_FaultDomain_ZoneInfo{Name: fmt.Sprint("eu-", i%2)},
			}},
		})
	}
}

const picky = `
name: picky
params: {ledger: {type: string}, gate: {type: string}}
defaults: {resources: {cpus: 0.1, mem: 32MB}}
steps:
  rack: {for_each: {from: 1, to: 6}, constraints: rack == r1, env: {WHO: rack}, with: {ledger: '${{ params.ledger }}', item: '${{ item }}'}, run: &say 'echo "$WHO $BAAS_INPUT_ITEM $PWD $BAAS_PORT $BAAS_PORTS" >>"$BAAS_INPUT_LEDGER"'}
  zone: {for_each: {from: 1, to: 6}, constraints: ['zone in [eu-1, eu-7]', 'rack like r[0-9]'], env: {WHO: zone}, with: {ledger: '${{ params.ledger }}', item: '${{ item }}'}, run: *say}
  ports: {constraints: rack != r1, resources: {ports: 2, network: 100Mbps}, env: {WHO: ports}, with: {ledger: '${{ params.ledger }}', item: 1}, run: *say}
  one:
    for_each: {from: 1, to: 4}
    constraints: max 1 per rack
    env: {WHO: one}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}', item: '${{ item }}'}
    run: |
      echo "one $BAAS_INPUT_ITEM $PWD" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
  even:
    for_each: {from: 1, to: 4}
    constraints: group by rack
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}', item: '${{ item }}'}
    run: |
      echo "even $BAAS_INPUT_ITEM $PWD" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
  never: {constraints: rack == r9, run: 'true'}
`

func TestConstraints(t *testing.T) {
	platform := start(t, racks)
	p, l, g := of(platform), newLedger(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": picky}, map[string]string{"ledger": l.path, "gate": g.path})
	agentOf := func(dir string) int {
		return slices.IndexFunc(platform.Cluster.Agents(), func(a embeddedmesos.AgentStatus) bool { return strings.HasPrefix(dir, a.Dir+"/") })
	}
	places := func(step string) (out []int) {
		for _, words := range l.of(t, step) {
			out = append(out, agentOf(words[1]))
		}
		return out
	}
	eventually(t, patience, "the tasks run", func() bool {
		return len(places("rack")) == 6 && len(places("zone")) == 6 && len(places("ports")) == 1 && len(places("one")) >= 2 && len(places("even")) == 4
	})
	for _, i := range places("rack") {
		if i != 0 && i != 1 {
			t.Errorf("a task of rack r1 ran on agent %d", i)
		}
	}
	for _, i := range places("zone") {
		if i != 1 {
			t.Errorf("a task of zone eu-1 ran on agent %d", i)
		}
	}
	equal(t, places("ports"), []int{2})
	ports := l.first(t, "ports")
	if len(ports) != 5 || ports[2] != ports[3] || !strings.HasPrefix(ports[2], "3100") || ports[3] == ports[4] {
		t.Errorf("it was told of ports %v", ports[2:])
	}
	inRack := func(list []int) (first, second int) {
		for _, i := range list {
			if i == 2 {
				second++
			} else {
				first++
			}
		}
		return first, second
	}
	if first, second := inRack(places("even")); first != 2 || second != 2 {
		t.Errorf("%d tasks in rack r1, %d in r2", first, second)
	}

	// Two of the four have a place, and no third one gets any.
	id := api.RunID(r.GetID(), r.GetRunID())
	reason := func(step string) string {
		e, err := p.runs().Explain(t.Context(), id, starter.ExplainOptions{Step: step, Partition: starter.AllPartitions})
		if err != nil || len(e.Steps) != 1 || len(e.Steps[0].Offers) == 0 {
			return ""
		}
		return e.Steps[0].Offers[0].Reason
	}
	eventually(t, patience, "the reasons are told", func() bool {
		return reason("never") == "constraint rack == r9 excludes 3 of 3 agents" && reason("one") == "constraint max 1 per rack excludes 3 of 3 agents"
	})
	equal(t, len(places("one")), 2)
	if first, second := inRack(places("one")); first != 1 || second != 1 {
		t.Errorf("%d tasks in rack r1, %d in r2", first, second)
	}
	mesosTells(t, p.runs())

	if err := p.runs().Kill(t.Context(), id, "seen enough", "tester"); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the run ends", func() bool {
		d, err := p.runs().Describe(t.Context(), id)
		return err == nil && d.Status == api.StatusKilled
	})
}

// mesosTells asks the leader, as operators do, while tasks run and wait.
func mesosTells(t *testing.T, runs *starter.Client) {
	t.Helper()
	ask := func(what string) starter.MesosView {
		v, err := runs.Mesos(t.Context(), starter.MesosOptions{What: what})
		if err != nil {
			t.Fatal(err)
		}
		if v.Leader == "" || v.Master == "" || v.FrameworkID == "" || v.Trouble != "" {
			t.Errorf("%s: %+v", what, v)
		}
		return v
	}
	agents := ask(api.InspectAgents).Agents
	if len(agents) != 3 || !slices.ContainsFunc(agents, func(a mesos.AgentInfo) bool {
		return a.Values["rack"] == "r2" && a.Values["zone"] == "eu-0" && a.Total.Ports == 10
	}) {
		t.Errorf("agents are %+v", agents)
	}
	tasks := ask(api.InspectTasks)
	if tasks.States["RUNNING"] < 6 || tasks.States["WAITING"] < 3 || len(tasks.Waiting) < 3 {
		t.Errorf("tasks are %+v", tasks)
	}
	for _, w := range tasks.Waiting {
		if !strings.HasPrefix(w.Why, "constraint ") {
			t.Errorf("%s waits: %s", w.Name, w.Why)
		}
	}
	roles := ask(api.InspectRoles).Roles
	if len(roles) != 1 || roles[0].Waiting < 3 || roles[0].Tasks < 6 || roles[0].Held.CPUs < 0.59 {
		t.Errorf("roles are %+v", roles)
	}
	ask(api.InspectOffers)
}
