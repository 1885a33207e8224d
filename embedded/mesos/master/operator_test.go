package master

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func TestOperatorCalls(t *testing.T) {
	for _, o := range []mesostest.Options{{}, {JSON: true}} {
		m := startMaster(t, testConfig())
		s, a, task := running(t, m, mesostest.Framework("x", "y"))
		a.update(s.FrameworkID, task, mesos.TASK_FINISHED)
		s.Acknowledge(t, s.AwaitStatus(t, "t1", mesos.TASK_FINISHED))
		a.expect(t, "ack t1")
		ask := func(call *master.Call) *master.Response {
			t.Helper()
			resp, err := mesostest.Operator(t.Context(), m.URL(), o, call)
			if err != nil {
				t.Fatalf("%s: %v", call.Type, err)
			}
			return resp
		}
		if !ask(mastercalls.GetHealth()).GetHealth.Healthy {
			t.Error("not healthy")
		}
		if v := ask(mastercalls.GetVersion()).GetVersion.VersionInfo.Version; v != Version {
			t.Errorf("version %q", v)
		}
		if info := ask(mastercalls.GetMaster()).GetMaster.MasterInfo; info.ID != m.ID() || "http://"+info.Address.GetIP() == "" || info.GetPort() == 0 {
			t.Errorf("master %v", info)
		}
		if f := ask(mastercalls.GetFrameworks()).GetFrameworks.Frameworks; len(f) != 1 || !f[0].Connected || f[0].FrameworkInfo.ID.Value != s.FrameworkID {
			t.Errorf("frameworks %v", f)
		}
		if c := ask(mastercalls.GetTasks()).GetTasks.CompletedTasks; len(c) != 1 || c[0].GetState() != mesos.TASK_FINISHED || len(c[0].Statuses) != 2 {
			t.Errorf("completed %v", c)
		}
		if ag := ask(mastercalls.GetAgents()).GetAgents.Agents; len(ag) != 1 || !ag[0].Active || mesos.Resources(ag[0].AllocatedResources).String() != "cpus:0.1;mem:32" {
			t.Errorf("agents %v", ag)
		}
		if e := ask(mastercalls.GetExecutors()).GetExecutors.Executors; len(e) != 1 || e[0].AgentID != a.id() {
			t.Errorf("executors %v", e)
		}
		var names []string
		for _, r := range ask(mastercalls.GetRoles()).GetRoles.Roles {
			names = append(names, r.Name)
		}
		if !slices.Equal(names, []string{"*", "x", "y"}) {
			t.Errorf("roles %v", names)
		}
		if st := ask(mastercalls.GetState()).GetState; len(st.GetAgents.Agents) != 1 || len(st.GetTasks.CompletedTasks) != 1 {
			t.Errorf("state %v", st)
		}
	}
}

func TestOperatorErrors(t *testing.T) {
	m := startMaster(t, testConfig())
	for body, want := range map[string]int{
		`{"type":"GET_FLAGS"}`:       http.StatusNotImplemented,
		`{"type":"DRAIN_AGENT"}`:     http.StatusBadRequest,
		`{"type":"MARK_AGENT_GONE"}`: http.StatusBadRequest,
		`{"type":"TEARDOWN","teardown":{"framework_id":{"value":"x"}}}`: http.StatusBadRequest,
		`{"type":"X"}`: http.StatusBadRequest,
	} {
		if resp := post(t, m.URL()+"/api/v1", body, "Content-Type", mediaJSON); resp.StatusCode != want {
			t.Errorf("%s: %s", body, resp.Status)
		}
	}
	resp := do(t, http.MethodGet, m.URL()+"/version", "")
	var v struct{ Version string }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.Version != Version {
		t.Errorf("/version: %v %v", v, err)
	}
	if resp := do(t, http.MethodGet, m.URL()+"/health", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("/health: %s", resp.Status)
	}
}

func TestOperatorTeardown(t *testing.T) {
	m := startMaster(t, testConfig())
	s := mesostest.Subscribe(t, m.URL(), mesostest.Framework(), mesostest.Options{})
	body := `{"type":"TEARDOWN","teardown":{"framework_id":{"value":"` + s.FrameworkID + `"}}}`
	if resp := post(t, m.URL()+"/api/v1", body, "Content-Type", mediaJSON); resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
	if err := s.Ended(t); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}
