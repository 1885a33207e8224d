package mesostest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/quota"
)

// Operate makes a call of the operator API that has no answer but 200, which
// mesos-go's client takes for an error.
func Operate(t testing.TB, url string, o Options, call *master.Call) {
	t.Helper()
	if code, said := TryOperate(t, url, o, call); code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", call.Type, code, said)
	}
}

// TryOperate makes such a call and gives the status of the answer and its body.
func TryOperate(t testing.TB, url string, o Options, call *master.Call) (int, string) {
	t.Helper()
	body, err := json.Marshal(call)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, url+"/api/v1", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if o.Principal != "" {
		req.SetBasicAuth(o.Principal, o.Secret)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(said)
}

// Quota limits a role to some CPUs; 0 lifts the limit.
func Quota(role string, cpus float64) *master.Call {
	c := quota.QuotaConfig{Role: role}
	if cpus > 0 {
		c.Limits = map[string]mesos.Value_Scalar{"cpus": {Value: cpus}}
	}
	return &master.Call{Type: master.Call_UPDATE_QUOTA, UpdateQuota: &master.Call_UpdateQuota{
		Force: ptr(true), QuotaConfigs: []quota.QuotaConfig{c},
	}}
}

// Drain has an agent drained.
func Drain(id mesos.AgentID) *master.Call {
	return &master.Call{Type: master.Call_DRAIN_AGENT, DrainAgent: &master.Call_DrainAgent{AgentID: id}}
}

// Reactivate has an agent used again.
func Reactivate(id mesos.AgentID) *master.Call {
	return &master.Call{Type: master.Call_REACTIVATE_AGENT, ReactivateAgent: &master.Call_ReactivateAgent{AgentID: id}}
}
