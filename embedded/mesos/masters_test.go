package mesos_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// answer is what a master says to a call of the scheduler API, redirects not followed.
func answer(t *testing.T, url string) (status int, location string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/scheduler", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location")
}

func expectStandby(t *testing.T, c *mesos.Cluster, index int) {
	t.Helper()
	want := strings.TrimPrefix(c.MasterURL(), "http:") + "/master/api/v1/scheduler"
	if status, location := answer(t, c.MasterURLs()[index]); status != http.StatusTemporaryRedirect || location != want {
		t.Errorf("master %d answers %d to %q, want 307 to %q", index, status, location, want)
	}
}

// Tasks live through the deaths of two leading masters, the second after the first
// has come back as a standby.
func TestMasterFailover(t *testing.T) {
	cfg := testConfig(t, 2)
	cfg.Masters = 2
	c := start(t, cfg)
	urls := c.MasterURLs()
	if len(urls) != 2 || urls[0] != c.MasterURL() || c.Leader() != 0 {
		t.Fatalf("masters %v, leading %s (%d)", urls, c.MasterURL(), c.Leader())
	}
	expectStandby(t, c, 1)
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	at := launch(t, s, "t1").AgentID

	for _, next := range []int{1, 0} {
		dead := 1 - next
		if err := c.FailoverMaster(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Ended(t)
		if c.Leader() != next || c.MasterURL() != urls[next] {
			t.Fatalf("master %d leads at %s", c.Leader(), c.MasterURL())
		}
		if status, _ := answer(t, urls[dead]); status != 0 {
			t.Errorf("a dead master answers %d", status)
		}
		old := s
		s = mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
		if s.FrameworkID != old.FrameworkID || s.StreamID() == old.StreamID() {
			t.Errorf("framework %s on stream %s, before %s on %s", s.FrameworkID, s.StreamID(), old.FrameworkID, old.StreamID())
		}
		if err := c.AwaitAgents(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Must(t, calls.Reconcile())
		s.AwaitStatus(t, "t1", api.TASK_RUNNING)
		if err := c.ReviveMaster(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		expectStandby(t, c, dead)
	}
	finish(t, s, at, "t1")
	if n := s.Pending(mesostest.Type(scheduler.Event_FAILURE)); n > 0 {
		t.Error("a failover was announced as a failure of agents or executors")
	}
}

// Between two leaders standbys answer 503, and what ends meanwhile is not lost.
func TestNoLeader(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Masters = 3
	c := start(t, cfg)
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	if err := errors.Join(c.KillMaster(1), c.KillMaster(0)); err != nil {
		t.Fatal(err)
	}
	s.Ended(t)
	if status, _ := answer(t, c.MasterURLs()[2]); status != http.StatusServiceUnavailable || c.Leader() != -1 {
		t.Errorf("without a leader: %d, leader %d", status, c.Leader())
	}
	for _, err := range []error{c.FailoverMaster(t.Context()), c.DeposeMaster(t.Context())} {
		if !errors.Is(err, mesos.ErrNoStandby) {
			t.Errorf("failover without a leader: %v", err)
		}
	}
	for _, err := range []error{
		c.KillMaster(0), c.KillMaster(7), c.ElectMaster(t.Context(), 1), c.ReviveMaster(t.Context(), 2), c.RestartMaster(t.Context()),
	} {
		if !errors.Is(err, mesos.ErrUnknownMaster) {
			t.Errorf("%v", err)
		}
	}
	if err := c.ElectMaster(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := c.ReviveMaster(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	expectStandby(t, c, 0)
	if err := c.ElectMaster(t.Context(), 0); !errors.Is(err, mesos.ErrUnknownMaster) {
		t.Errorf("a second leader: %v", err)
	}
	s = mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	if err := c.AwaitAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	finish(t, s, at, "t1")
}

// A leader that is deposed ends by itself; its successor has all agents.
func TestDeposedMaster(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Masters = 2
	c := start(t, cfg)
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	if err := c.DeposeMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Ended(t)
	if status, _ := answer(t, c.MasterURLs()[0]); status != 0 {
		t.Errorf("a deposed master answers %d", status)
	}
	s = mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	if err := c.AwaitAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	finish(t, s, at, "t1")
	if err := c.DeposeMaster(t.Context()); !errors.Is(err, mesos.ErrNoStandby) {
		t.Errorf("deposed with nobody to follow: %v", err)
	}
}

// An agent that the new leader knows from the registry, but that does not come
// back, is unreachable after AgentReregisterTimeout; no task of it is answered
// for before. When it comes at last its task still runs.
func TestAgentMissesFailover(t *testing.T) {
	cfg := testConfig(t, 2)
	cfg.Masters = 2
	cfg.Master.AgentReregisterTimeout = time.Second
	c := start(t, cfg)
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	if err := errors.Join(c.LoseAgent(at), c.FailoverMaster(t.Context())); err != nil {
		t.Fatal(err)
	}
	elected := time.Now()
	s = mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	ask := calls.Reconcile(calls.ReconcileTasks(map[string]string{"t1": at.Value}))
	s.Must(t, ask)
	f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure
	if f.GetAgentID().GetValue() != at.Value || f.ExecutorID != nil {
		t.Errorf("%v", f)
	}
	if d := time.Since(elected); d < 900*time.Millisecond {
		t.Errorf("the agent was given up after %s", d)
	}
	if s.Pending(mesostest.AnyUpdate("t1")) > 0 {
		t.Error("a task was answered for that nobody knew of")
	}
	s.Must(t, ask)
	if st := s.AwaitStatus(t, "t1", api.TASK_UNREACHABLE); st.UnreachableTime == nil || st.UUID != nil {
		t.Errorf("%v", st)
	}
	if err := c.ReturnAgent(at); err != nil {
		t.Fatal(err)
	}
	if st := s.AwaitStatus(t, "t1", api.TASK_RUNNING); st.GetReason() != api.REASON_AGENT_REREGISTERED {
		t.Errorf("%v", st)
	}
	finish(t, s, at, "t1")
}

// Masters keep their ports over a restart of the cluster.
func TestClusterRestartWithStandbys(t *testing.T) {
	cfg := testConfig(t, 1)
	cfg.Masters = 3
	c := start(t, cfg)
	urls, agents := c.MasterURLs(), c.Agents()
	if err := c.FailoverMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Stop()
	c = start(t, cfg)
	if !slices.Equal(c.MasterURLs(), urls) || c.Agents()[0] != agents[0] || c.Leader() != 0 {
		t.Errorf("masters %v, before %v; agents %v, before %v", c.MasterURLs(), urls, c.Agents(), agents)
	}
	resp, err := mesostest.Operator(t.Context(), c.MasterURL(), mesostest.Options{}, mastercalls.GetAgents())
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetAgents.Agents) != 1 || len(resp.GetAgents.RecoveredAgents) != 0 {
		t.Errorf("%v", resp.GetAgents)
	}
}
