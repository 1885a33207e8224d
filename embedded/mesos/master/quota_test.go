package master

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/quota"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func operate(t *testing.T, m *Master, call *mastercalls.Call) *mastercalls.Response {
	t.Helper()
	resp, err := mesostest.Operator(t.Context(), m.URL(), mesostest.Options{}, call)
	if err != nil {
		t.Fatalf("%s: %v", call.Type, err)
	}
	return resp
}

// change makes a call that has no answer but 200.
func change(t *testing.T, m *Master, want int, call *mastercalls.Call) {
	t.Helper()
	body, err := json.Marshal(call)
	if err != nil {
		t.Fatal(err)
	}
	if resp := post(t, m.URL()+"/api/v1", string(body), "Content-Type", mediaJSON); resp.StatusCode != want {
		t.Fatalf("%s: %s, want %d", body, resp.Status, want)
	}
}

func scalars(pairs map[string]float64) map[string]mesos.Value_Scalar {
	out := map[string]mesos.Value_Scalar{}
	for name, v := range pairs {
		out[name] = mesos.Value_Scalar{Value: v}
	}
	return out
}

func setQuota(t *testing.T, m *Master, want int, configs ...quota.QuotaConfig) {
	t.Helper()
	change(t, m, want, &mastercalls.Call{
		Type: mastercalls.Call_UPDATE_QUOTA, UpdateQuota: &mastercalls.Call_UpdateQuota{QuotaConfigs: configs},
	})
}

func limit(role string, cpus float64) quota.QuotaConfig {
	return quota.QuotaConfig{Role: role, Limits: scalars(map[string]float64{"cpus": cpus})}
}

func guarantee(role string, cpus float64) quota.QuotaConfig {
	return quota.QuotaConfig{Role: role, Guarantees: scalars(map[string]float64{"cpus": cpus})}
}

// offered waits until a role is offered just so many CPUs in all, and has been for
// some rounds of the allocator.
func offered(t *testing.T, m *Master, role string, cpus float64) {
	t.Helper()
	var have int64
	rounds := 0
	for deadline := time.Now().Add(mesostest.Patience); rounds < 5; {
		if err := m.call(t.Context(), func() {
			m.dirty = true
			m.allocate()
			have = m.roleTree().of(role).scalars["cpus"]
		}); err != nil {
			t.Fatal(err)
		}
		if rounds++; have != units(cpus) {
			rounds = 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("role %s is offered %d thousandths of a CPU, want %v CPUs", role, have, cpus)
		}
	}
}

func TestQuotaLimits(t *testing.T) {
	m := startMaster(t, testConfig())
	setQuota(t, m, http.StatusOK, limit("team", 3), limit("team/x", 2))
	a := addAgent(t, m, "a")
	addAgent(t, m, "b")
	x := mesostest.Subscribe(t, m.URL(), mesostest.Framework("team/x"), mesostest.Options{})
	offered(t, m, "team/x", 2)
	offer := x.AwaitOffer(t)
	x.Accept(t, []mesos.OfferID{offer.ID}, mesostest.Task("t1", offer, "e", 1, 100)) // and 0.1 for the executor
	offered(t, m, "team/x", 2)
	y := mesostest.Subscribe(t, m.URL(), mesostest.Framework("team/y"), mesostest.Options{})
	offered(t, m, "team/y", 1) // what is left of the limit of both
	offered(t, m, "team", 3)
	setQuota(t, m, http.StatusOK, quota.QuotaConfig{Role: "team"}) // none any more
	offered(t, m, "team", 8)
	offered(t, m, "team/x", 2)
	_, _ = a, y

	got := operate(t, m, &mastercalls.Call{Type: mastercalls.Call_GET_QUOTA}).GetQuota.Status.Configs
	if len(got) != 1 || got[0].Role != "team/x" || got[0].Limits["cpus"].Value != 2 {
		t.Errorf("quota is %v", got)
	}
	held := map[string]float64{}
	for _, r := range operate(t, m, &mastercalls.Call{Type: mastercalls.Call_GET_ROLES}).GetRoles.Roles {
		for _, res := range r.Resources {
			if res.Name == "cpus" {
				held[r.Name] = res.Scalar.Value
			}
		}
	}
	if want := fmt.Sprint(map[string]float64{"team": 8, "team/x": 2, "team/y": 6}); fmt.Sprint(held) != want {
		t.Errorf("roles hold %v, want %s", held, want)
	}
}

// A role that was full of work keeps off what another one is guaranteed.
func TestQuotaGuarantees(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "a")
	addAgent(t, m, "b")
	setQuota(t, m, http.StatusOK, guarantee("sure", 3))
	mesostest.Subscribe(t, m.URL(), mesostest.Framework("greedy"), mesostest.Options{})
	offered(t, m, "greedy", 5)
	mesostest.Subscribe(t, m.URL(), mesostest.Framework("sure"), mesostest.Options{})
	offered(t, m, "sure", 3)
	offered(t, m, "greedy", 5)
}

func TestQuotaIsChecked(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "a")
	for name, c := range map[string][]quota.QuotaConfig{
		"the default role":             {limit("*", 1)},
		"no name of a role":            {limit("a//b", 1)},
		"a guarantee over the limit":   {{Role: "a", Guarantees: scalars(map[string]float64{"cpus": 2}), Limits: scalars(map[string]float64{"cpus": 1})}},
		"a limit over its parent's":    {limit("a", 1), limit("a/b", 2)},
		"guarantees over the parent's": {guarantee("a", 2), guarantee("a/b", 1), guarantee("a/c", 1.5)},
		"more than there is":           {guarantee("a", 5)},
		"a negative amount":            {limit("a", -1)},
		"one good and one bad":         {limit("good", 1), limit("*", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			setQuota(t, m, http.StatusBadRequest, c...)
		})
	}
	if got := operate(t, m, &mastercalls.Call{Type: mastercalls.Call_GET_QUOTA}).GetQuota.Status.Configs; len(got) != 0 {
		t.Errorf("quota is %v after refusals only", got)
	}
	change(t, m, http.StatusOK, &mastercalls.Call{Type: mastercalls.Call_UPDATE_QUOTA, UpdateQuota: &mastercalls.Call_UpdateQuota{
		Force: ptr(true), QuotaConfigs: []quota.QuotaConfig{guarantee("a", 5)},
	}})
}

func TestOldQuotaCalls(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "a")
	set := &mastercalls.Call{Type: mastercalls.Call_SET_QUOTA, SetQuota: &mastercalls.Call_SetQuota{
		QuotaRequest: quota.QuotaRequest{Role: ptr("x"), Guarantee: []mesos.Resource{mesostest.Scalar("cpus", 1)}},
	}}
	remove := &mastercalls.Call{Type: mastercalls.Call_REMOVE_QUOTA, RemoveQuota: &mastercalls.Call_RemoveQuota{Role: "x"}}
	change(t, m, http.StatusBadRequest, remove)
	change(t, m, http.StatusOK, set)
	change(t, m, http.StatusBadRequest, set)
	mesostest.Subscribe(t, m.URL(), mesostest.Framework("x"), mesostest.Options{})
	offered(t, m, "x", 1) // a guarantee set so is a limit too
	change(t, m, http.StatusOK, remove)
	offered(t, m, "x", 4)
}

// Of two roles that are given one agent after the other, the one of weight 3 gets
// three times as many.
func TestWeights(t *testing.T) {
	m := startMaster(t, testConfig())
	change(t, m, http.StatusBadRequest, &mastercalls.Call{Type: mastercalls.Call_UPDATE_WEIGHTS,
		UpdateWeights: &mastercalls.Call_UpdateWeights{WeightInfos: []mesos.WeightInfo{{Role: ptr("x"), Weight: 0}}}})
	change(t, m, http.StatusOK, &mastercalls.Call{Type: mastercalls.Call_UPDATE_WEIGHTS,
		UpdateWeights: &mastercalls.Call_UpdateWeights{WeightInfos: []mesos.WeightInfo{{Role: ptr("x"), Weight: 3}}}})
	got := operate(t, m, &mastercalls.Call{Type: mastercalls.Call_GET_WEIGHTS}).GetWeights.WeightInfos
	if len(got) != 1 || got[0].GetRole() != "x" || got[0].Weight != 3 {
		t.Errorf("weights %v", got)
	}
	mesostest.Subscribe(t, m.URL(), mesostest.Framework("x"), mesostest.Options{})
	mesostest.Subscribe(t, m.URL(), mesostest.Framework("y/a"), mesostest.Options{})
	for i := range 8 {
		addAgent(t, m, fmt.Sprint("agent", i))
	}
	// Who came first has been offered the first agents.
	if err := m.call(t.Context(), func() {
		for _, o := range m.offers {
			m.rescind(o)
		}
	}); err != nil {
		t.Fatal(err)
	}
	offered(t, m, "x", 24)
	offered(t, m, "y", 8)
}

// Quota and weights are in the registry: the next master knows them.
func TestQuotaOutlivesTheMaster(t *testing.T) {
	registry := OpenRegistry(filepath.Join(t.TempDir(), "registry.json"))
	cfg := testConfig()
	cfg.Registry = registry
	first := startMaster(t, cfg)
	setQuota(t, first, http.StatusOK, limit("x", 1))
	first.Stop()
	m := startMaster(t, cfg)
	addAgent(t, m, "a")
	mesostest.Subscribe(t, m.URL(), mesostest.Framework("x"), mesostest.Options{})
	offered(t, m, "x", 1)
}

// A framework adds and drops roles while it runs.
func TestUpdateFrameworkChangesRoles(t *testing.T) {
	m := startMaster(t, testConfig())
	addAgent(t, m, "a")
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework("x"), mesostest.Options{})
	offered(t, m, "x", 4)
	info := mesostest.Framework("y")
	info.ID = &mesos.FrameworkID{Value: s.FrameworkID}
	_ = s.Call(t.Context(), calls.UpdateFramework(*info)) // to mesos-go a 200 without Content-Type is an error
	s.Await(t, "RESCIND", mesostest.Type(scheduler.Event_RESCIND))
	offered(t, m, "y", 4)
}

func TestRevocable(t *testing.T) {
	m := startMaster(t, testConfig())
	a := addAgent(t, m, "a")
	extra := mesostest.Scalar("cpus", 8)
	extra.Revocable = &mesos.Resource_RevocableInfo{}
	m.Oversubscribe(a.id(), []mesos.Resource{extra, mesostest.Scalar("mem", 4096)}) // what is not revocable is no gift
	plain := mesostest.Subscribe(t, m.URL(), mesostest.Framework("plain"), mesostest.Options{})
	cpus := func(o mesos.Offer) (fixed, taken float64) {
		for _, r := range o.Resources {
			switch {
			case r.Name != "cpus":
			case r.Revocable != nil:
				taken += r.Scalar.Value
			default:
				fixed += r.Scalar.Value
			}
		}
		return fixed, taken
	}
	if fixed, taken := cpus(wholeOffer(t, m, plain)); fixed != 4 || taken != 0 {
		t.Errorf("a framework without the capability is offered %v CPUs and %v revocable ones", fixed, taken)
	}
	plain.Must(t, calls.Suppress())
	info := mesostest.Framework("brave")
	info.Capabilities = append(info.Capabilities, mesos.FrameworkInfo_Capability{Type: mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES})
	brave := mesostest.Subscribe(t, m.URL(), info, mesostest.Options{})
	offer := wholeOffer(t, m, brave)
	if fixed, taken := cpus(offer); fixed != 4 || taken != 8 {
		t.Errorf("offered %v CPUs and %v revocable ones", fixed, taken)
	}
	task := mesostest.Task("mixed", offer, "e1", 1, 100)
	task.Resources[0].Revocable = &mesos.Resource_RevocableInfo{}
	brave.Accept(t, []mesos.OfferID{offer.ID}, task)
	if s := brave.AwaitStatus(t, "mixed", mesos.TASK_ERROR); s.GetReason() != mesos.REASON_TASK_INVALID {
		t.Errorf("revocable CPUs with an executor that has plain ones: %v", s)
	}
	offer = wholeOffer(t, m, brave)
	task = mesostest.Task("good", offer, "e2", 7, 100)
	task.Resources[0].Revocable, task.Executor.Resources[0].Revocable = &mesos.Resource_RevocableInfo{}, &mesos.Resource_RevocableInfo{}
	brave.Accept(t, []mesos.OfferID{offer.ID}, task)
	a.task(t)
	if fixed, taken := cpus(wholeOffer(t, m, brave)); fixed != 4 || taken < 0.8 || taken > 1 {
		t.Errorf("after that %v CPUs and %v revocable ones are left", fixed, taken)
	}
}
