package mesos

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	quotapb "github.com/mesos/mesos-go/api/v1/lib/quota"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/mesos/placement"
)

// failing has a master answer the first call of a type as a proxy does that has lost
// the answer.
func (m *scripted) failing(kind scheduler.Call_Type) {
	var once sync.Once
	m.answer = func(w http.ResponseWriter, call *scheduler.Call) (answered bool) {
		if call.Type == kind {
			once.Do(func() {
				http.Error(w, "no answer", http.StatusGatewayTimeout)
				answered = true
			})
		}
		return answered
	}
}

// opened starts a framework that a scripted master takes, with these roles.
func opened(t *testing.T, m *scripted, change func(*Config)) (*rig, *eventStream) {
	t.Helper()
	cfg := testConfig(m.url)
	change(&cfg)
	r := start(t, cfg, newHandler(), leads)
	s := get(t, m.streams, "SUBSCRIBE")
	s.send(subscribedEvent())
	get(t, r.handler.subscribed, "Subscribed")
	return r, s
}

// The master may have taken a SUPPRESS whose answer is lost: work that comes is made
// known to it, though no offer was ever declined.
func TestWorkAfterLostSuppressRevives(t *testing.T) {
	m := newScripted(t)
	m.failing(scheduler.Call_SUPPRESS)
	r, _ := opened(t, m, func(cfg *Config) { cfg.Timings.OfferHold = 500 * time.Millisecond })
	m.until(scheduler.Call_SUPPRESS)
	eventually(t, "the role counts as not suppressed", func() bool {
		roles := r.ViewRoles(10).Roles
		return len(roles) == 1 && !roles[0].Suppressed
	})
	r.Submit(testTask("t", 1, 100))
	m.until(scheduler.Call_REVIVE)
}

// A role is asked for again soon where nobody has refused it.
func TestRoleIsAskedForAgain(t *testing.T) {
	m := newScripted(t)
	m.failing(scheduler.Call_UPDATE_FRAMEWORK)
	r, _ := opened(t, m, func(cfg *Config) { cfg.Role = "baas" })
	task := testTask("t", 1, 100)
	task.Owner = "ops"
	r.Submit(task)
	for range 2 {
		if c := m.until(scheduler.Call_UPDATE_FRAMEWORK); strings.Join(c.UpdateFramework.FrameworkInfo.Roles, " ") != "baas baas/ops" {
			t.Errorf("asked for %v", c.UpdateFramework.FrameworkInfo.Roles)
		}
	}
	eventually(t, "the role is had", func() bool {
		for _, role := range r.ViewRoles(10).Roles {
			if role.Name == "baas/ops" {
				return role.Joined
			}
		}
		return false
	})
	if r.log.count("does not let") > 0 {
		t.Error("a refusal is told that was none")
	}
}

// Quota is told also where the master does not tell of its agents.
func TestQuotaWithoutAgents(t *testing.T) {
	m := newScripted(t)
	m.agents = func(w http.ResponseWriter) bool {
		http.Error(w, "no", http.StatusForbidden)
		return true
	}
	m.told = map[master.Call_Type]*master.Response{
		master.Call_GET_QUOTA: {Type: master.Response_GET_QUOTA, GetQuota: &master.Response_GetQuota{Status: quotapb.QuotaStatus{
			Configs: []quotapb.QuotaConfig{{Role: "baas/ops", Limits: map[string]mesos.Value_Scalar{"cpus": {Value: 1}}}},
		}}},
		master.Call_GET_ROLES: {Type: master.Response_GET_ROLES, GetRoles: &master.Response_GetRoles{}},
	}
	r, _ := opened(t, m, func(cfg *Config) { cfg.Role, cfg.Timings.Puzzle = "baas", 1 })
	task := testTask("t", 2, 100)
	task.Owner = "ops"
	r.Submit(task)
	eventually(t, "the quota is named", func() bool {
		return strings.HasPrefix(r.Explain("t"), "the quota of role baas/ops is used up: it may hold 1 CPU")
	})
}

// Both kinds of tasks have rows where there are too many of each.
func TestViewOfTasksHasBothKinds(t *testing.T) {
	s := newScene(t)
	for _, id := range []string{"w1", "w2", "w3", "w4", "w5"} {
		s.submit(id, "ops", 0, 1, 1e8)
	}
	for _, id := range []string{"r1", "r2", "r3"} {
		s.table.tasks[id] = &record{id: id, state: Running, agentID: "a"}
	}
	for _, c := range []struct{ limit, waiting, tasks, more int }{{4, 2, 2, 4}, {7, 4, 3, 1}, {20, 5, 3, 0}, {1, 0, 1, 7}} {
		v := s.ViewTasks(c.limit)
		if len(v.Waiting) != c.waiting || len(v.Tasks) != c.tasks || v.More != c.more {
			t.Errorf("limit %d: %d waiting, %d others, %d more, want %+v", c.limit, len(v.Waiting), len(v.Tasks), v.More, c)
		}
	}
}

func TestPlainResources(t *testing.T) {
	r := mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 1, End: 4}}}}
	var v placement.Vector
	if addPorts(&v, &r); v[placement.Ports] != 4000 {
		t.Errorf("ports: %v", v)
	}
	r.Revocable = &mesos.Resource_RevocableInfo{}
	if len(portsOf(&r)) != 0 {
		t.Error("revocable ports count")
	}
}
