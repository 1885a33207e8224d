package mesos_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/embedded/mesos/master"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

func TestMain(m *testing.M) {
	mesostest.ExecutorMain()
	os.Exit(m.Run())
}

// testConfig has n agents with 4 cpus each and short times.
func testConfig(t *testing.T, n int) mesos.Config {
	t.Helper()
	cfg := mesos.Config{
		Dir: t.TempDir(),
		Master: master.Config{
			AllocationInterval: 10 * time.Millisecond,
			AgentPingTimeout:   50 * time.Millisecond, MaxAgentPingTimeouts: 1000,
		},
		Agent: agent.Config{
			RegistrationBackoffFactor: 20 * time.Millisecond, UpdateRetryMin: 200 * time.Millisecond,
			ExecutorShutdownGracePeriod: 2 * time.Second,
		},
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for range n {
		cfg.Agents = append(cfg.Agents, mesos.AgentConfig{
			Resources: []api.Resource{mesostest.Scalar("cpus", 4), mesostest.Scalar("mem", 1024), mesostest.Scalar("disk", 100)},
		})
	}
	return cfg
}

func start(t *testing.T, cfg mesos.Config) *mesos.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), mesostest.Patience)
	defer cancel()
	c, err := mesos.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), mesostest.Patience)
		defer cancel()
		if err := c.Terminate(ctx); err != nil {
			t.Errorf("Terminate: %v", err)
		}
	})
	return c
}

func framework(t *testing.T) *api.FrameworkInfo {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	info := mesostest.Framework()
	info.User = u.Username
	return info
}

// task is a task for the executor that this test binary is.
func task(t *testing.T, id string, offer api.Offer, data string) api.TaskInfo {
	t.Helper()
	ti := mesostest.Task(id, offer, "executor", 0.1, 32)
	command, err := mesostest.ExecutorCommand()
	if err != nil {
		t.Fatal(err)
	}
	ti.Executor.Command, ti.Data = command, []byte(data)
	return ti
}

// launch runs a task until KILL and waits until it is running.
func launch(t *testing.T, s *mesostest.Session, id string) api.Offer {
	t.Helper()
	offer := s.AwaitOffer(t)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, id, offer, "run"))
	s.Acknowledge(t, s.AwaitStatus(t, id, api.TASK_RUNNING))
	return offer
}

// finish ends a task and acknowledges what comes of it. An update from before may
// come once more, if its acknowledgement was lost with an agent.
func finish(t *testing.T, s *mesostest.Session, agentID api.AgentID, id string) {
	t.Helper()
	s.Must(t, calls.Message(agentID.Value, "executor", []byte("finish "+id)))
	for {
		st := s.Await(t, id+" TASK_FINISHED", mesostest.AnyUpdate(id)).Update.Status
		if st.UUID != nil {
			s.Acknowledge(t, st)
		}
		if st.GetState() == api.TASK_FINISHED {
			return
		}
	}
}

func TestTaskRunsAndIsKilled(t *testing.T) {
	c := start(t, testConfig(t, 1))
	s := mesostest.Subscribe(t, c.MasterURL(), framework(t), mesostest.Options{})
	launch(t, s, "t1")
	s.Must(t, calls.Kill("t1", ""))
	s.Acknowledge(t, s.AwaitStatus(t, "t1", api.TASK_KILLED))
	s.Must(t, calls.Shutdown("executor", c.Agents()[0].ID.Value))
	if f := s.Await(t, "FAILURE", mesostest.Type(scheduler.Event_FAILURE)).Failure; f.GetExecutorID().GetValue() != "executor" {
		t.Errorf("%v", f)
	}
}

func TestPartition(t *testing.T) {
	cfg := testConfig(t, 2)
	cfg.Master.MaxAgentPingTimeouts = 10
	c := start(t, cfg)
	s := mesostest.Subscribe(t, c.MasterURL(), framework(t), mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	if err := c.LoseAgent(at); err != nil {
		t.Fatal(err)
	}
	s.AwaitStatus(t, "t1", api.TASK_UNREACHABLE)
	if err := c.ReturnAgent(at); err != nil {
		t.Fatal(err)
	}
	if st := s.AwaitStatus(t, "t1", api.TASK_RUNNING); st.GetReason() != api.REASON_AGENT_REREGISTERED {
		t.Errorf("%v", st)
	}
	finish(t, s, at, "t1")
}

// A partition too short for the pings: the agent re-registers and nothing is lost.
func TestShortPartition(t *testing.T) {
	c := start(t, testConfig(t, 1))
	s := mesostest.Subscribe(t, c.MasterURL(), framework(t), mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	if err := errors.Join(c.LoseAgent(at), c.ReturnAgent(at)); err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	finish(t, s, at, "t1")
}

func TestAgentRestart(t *testing.T) {
	c := start(t, testConfig(t, 1))
	s := mesostest.Subscribe(t, c.MasterURL(), framework(t), mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	before := c.Agents()[0]
	if err := c.KillAgent(at); err != nil {
		t.Fatal(err)
	}
	if c.Agents()[0].Alive {
		t.Error("a killed agent is alive")
	}
	if err := c.RestartAgent(at); err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := c.Agents()[0]; after != before {
		t.Errorf("after the restart %v, before %v", after, before)
	}
	finish(t, s, at, "t1")
	if n := s.Pending(mesostest.Type(scheduler.Event_FAILURE)); n > 0 {
		t.Error("the agent's restart was announced as a failure")
	}
}

func TestMasterRestart(t *testing.T) {
	c := start(t, testConfig(t, 1))
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	if err := c.RestartMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Ended(t)
	s = mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	if err := c.AwaitAgents(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Must(t, calls.Reconcile())
	s.AwaitStatus(t, "t1", api.TASK_RUNNING)
	finish(t, s, at, "t1")
}

// The whole cluster stops as by kill -9 and starts again on its directory: same
// ports, same agent, and the executor has lived on.
func TestClusterRestart(t *testing.T) {
	cfg := testConfig(t, 1)
	c := start(t, cfg)
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	at := launch(t, s, "t1").AgentID
	url, agents := c.MasterURL(), c.Agents()
	if _, err := mesos.Start(t.Context(), cfg); !errors.Is(err, mesos.ErrInUse) {
		t.Errorf("a second cluster on the directory: %v", err)
	}
	c.Stop()
	c.Stop()
	c = start(t, cfg)
	if got := c.Agents(); c.MasterURL() != url || got[0] != agents[0] {
		t.Errorf("was %s %v, is %s %v", url, agents, c.MasterURL(), got)
	}
	s = mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	finish(t, s, at, "t1")
}

// Many tasks on several agents, two agents of which come and go meanwhile.
func TestManyTasks(t *testing.T) {
	c := start(t, testConfig(t, 3))
	s := mesostest.Subscribe(t, c.MasterURL(), framework(t), mesostest.Options{})
	const n = 60
	launched, flaky := 0, map[string]bool{}
	for launched < n {
		for _, offer := range s.Await(t, "OFFERS", mesostest.Type(scheduler.Event_OFFERS)).Offers.Offers {
			var tasks []api.TaskInfo
			for ; len(tasks) < min(10, mesostest.Fit(offer, 0.1)) && launched < n; launched++ {
				tasks = append(tasks, task(t, fmt.Sprintf("t%d", launched), offer, "finish"))
			}
			s.Accept(t, []api.OfferID{offer.ID}, tasks...)
			if id := offer.AgentID; len(tasks) > 0 && !flaky[id.Value] && len(flaky) < 2 {
				flaky[id.Value] = true
				s.AwaitStatus(t, tasks[0].TaskID.Value, api.TASK_RUNNING) // the executor is up
				if err := errors.Join(c.KillAgent(id), c.RestartAgent(id)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	done := map[string]bool{}
	for len(done) < n {
		st := s.Await(t, "a status update", mesostest.Type(scheduler.Event_UPDATE)).Update.Status
		if st.UUID != nil {
			if err := s.Call(t.Context(), calls.Acknowledge(st.AgentID.Value, st.TaskID.Value, st.UUID)); err != nil {
				t.Fatal(err)
			}
		}
		switch st.GetState() {
		case api.TASK_RUNNING, api.TASK_STARTING:
		case api.TASK_FINISHED, api.TASK_DROPPED: // dropped: launched while the agent was away
			done[st.TaskID.Value] = true
		default:
			t.Fatalf("%s: %s %s", st.TaskID.Value, st.GetState(), st.GetMessage())
		}
	}
}

func TestUnknownAgent(t *testing.T) {
	c := start(t, testConfig(t, 1))
	nobody := api.AgentID{Value: "nobody"}
	for _, err := range []error{c.LoseAgent(nobody), c.ReturnAgent(nobody), c.KillAgent(nobody), c.RestartAgent(nobody)} {
		if !errors.Is(err, mesos.ErrUnknownAgent) {
			t.Errorf("%v", err)
		}
	}
}

func TestTerminateLeavesNoAgentBehind(t *testing.T) {
	cfg := testConfig(t, 1)
	c := start(t, cfg)
	info := framework(t)
	s := mesostest.Subscribe(t, c.MasterURL(), info, mesostest.Options{})
	launch(t, s, "t1")
	old := c.Agents()[0].ID
	if err := c.Terminate(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = start(t, cfg)
	if c.Agents()[0].ID == old {
		t.Error("a terminated agent kept its ID")
	}
	resp, err := mesostest.Operator(t.Context(), c.MasterURL(), mesostest.Options{}, mastercalls.GetAgents())
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetAgents.RecoveredAgents) > 0 || len(resp.GetAgents.Agents) != 1 {
		t.Errorf("%v", resp.GetAgents)
	}
}

func TestBadConfig(t *testing.T) {
	if _, err := mesos.Start(t.Context(), mesos.Config{}); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("no directory: %v", err)
	}
}
