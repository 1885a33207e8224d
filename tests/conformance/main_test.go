package conformance

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// target is the master under test.
var target struct {
	url     string
	options mesostest.Options
}

func TestMain(m *testing.M) {
	mesostest.ExecutorMain()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	target.options.Principal, target.options.Secret, _ = strings.Cut(os.Getenv("BAAS_TEST_MESOS_CREDENTIALS"), ":")
	if target.url = strings.TrimSuffix(os.Getenv("BAAS_TEST_MESOS"), "/"); target.url != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), mesostest.Patience)
	defer cancel()
	c, err := mesos.Start(ctx, mesos.Config{Dir: dir, Agents: []mesos.AgentConfig{{
		Resources: []api.Resource{mesostest.Scalar("cpus", 4), mesostest.Scalar("mem", 2048), mesostest.Scalar("disk", 100)},
	}}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), mesostest.Patience)
		defer cancel()
		if err := c.Terminate(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	target.url = c.MasterURL()
	return m.Run()
}

// framework describes a framework that may run tasks here.
func framework(t *testing.T) *api.FrameworkInfo {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	info := mesostest.Framework()
	info.User, info.Name = u.Username, "conformance: "+t.Name()
	return info
}

// subscribe opens a session whose framework is torn down after the test.
func subscribe(t *testing.T, info *api.FrameworkInfo) *mesostest.Session {
	t.Helper()
	s := mesostest.Subscribe(t, target.url, info, target.options)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), mesostest.Patience)
		defer cancel()
		_ = s.Call(ctx, &scheduler.Call{Type: scheduler.Call_TEARDOWN}) // fails if the test has ended it
	})
	return s
}

// open subscribes where the test expects an ERROR event.
func open(t *testing.T, info *api.FrameworkInfo) *mesostest.Session {
	t.Helper()
	s, err := mesostest.Open(t.Context(), target.url, info, target.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// awaitError wants an ERROR event and the end of the stream.
func awaitError(t *testing.T, s *mesostest.Session, message string) {
	t.Helper()
	ev := s.Await(t, "ERROR", mesostest.Type(scheduler.Event_ERROR))
	if message != "" && ev.Error.Message != message {
		t.Errorf("ERROR %q, want %q", ev.Error.Message, message)
	}
	s.Ended(t)
}

// task is a task for the executor that this test binary is; see mesostest.ExecutorCommand.
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

// launch runs a task until KILL and waits until it is acknowledged as running.
func launch(t *testing.T, s *mesostest.Session, id string) api.Offer {
	t.Helper()
	offer := s.AwaitOffer(t)
	s.Accept(t, []api.OfferID{offer.ID}, task(t, id, offer, "run"))
	st := s.AwaitStatus(t, id, api.TASK_RUNNING)
	if len(st.UUID) != 16 {
		t.Errorf("an executor's update has the uuid %x", st.UUID)
	}
	s.Acknowledge(t, st)
	return offer
}

// offerOf awaits an offer of one agent.
func offerOf(t *testing.T, s *mesostest.Session, id api.AgentID) api.Offer {
	t.Helper()
	var found api.Offer
	s.Await(t, "an offer of agent "+id.Value, func(ev *scheduler.Event) bool {
		for _, o := range ev.GetOffers().GetOffers() {
			if o.AgentID == id {
				found = o
				return true
			}
		}
		return false
	})
	return found
}

// within checks a time that should have passed.
func within(t *testing.T, what string, d, least, most time.Duration) {
	t.Helper()
	if d < least || d > most {
		t.Errorf("%s came after %s, want %s to %s", what, d.Round(time.Millisecond), least, most)
	}
}
