package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/images"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tasklet"
)

// What a step says of its environment reaches the framework and the executor, and
// people see the image.
func TestEnvironmentReachesTheTask(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Users = []string{"*=batch"} })
	in := input(0)
	in.Image, in.Isolation, in.User = "example.com/tool@sha256:1", flow.IsolationTask, "batch"
	in.Fetch = []flow.Fetch{{URI: "http://x/a", Name: "a"}, {URI: "http://x/b", Name: "b", NoCache: true, Executable: true}}
	r.deliver(in, api.Details{}, 1)
	r.until("submit 0.1")
	r.mu2.Lock()
	spec := r.tasks[r.id(0, 1)].Executor
	r.mu2.Unlock()
	want := mesos.ExecutorSpec{
		Owner: in.Owner, Image: in.Image, Isolation: "task",
		URIs: mesos.NewURIs(mesos.URI{URI: "http://x/a", Name: "a", Cache: true}, mesos.URI{URI: "http://x/b", Name: "b", Executable: true}),
	}
	if spec != want {
		t.Errorf("executor %+v", spec)
	}
	if launch := string(r.offer(0, 1).Data); !strings.Contains(launch, `"user":"batch"`) || !strings.Contains(launch, `"fetched":true`) {
		t.Errorf("launch data %s", launch)
	}
	r.mu2.Lock()
	defer r.mu2.Unlock()
	if r.details.Image != in.Image {
		t.Errorf("details %+v", r.details)
	}
}

func TestVolumes(t *testing.T) {
	rules := []string{"bank=/data/bank:rw", "bank=/data/reference", "*=/data/public"}
	read := func(host string) flow.Volume { return flow.Volume{Host: host, Path: "/x"} }
	write := func(host string) flow.Volume { return flow.Volume{Host: host, Path: "/x", Write: true} }
	for _, c := range []struct {
		owner string
		v     flow.Volume
		may   bool
	}{
		{"bank", read("/data/bank"), true}, {"bank", write("/data/bank/in/a"), true}, {"bank", read("/data/reference/x"), true},
		{"shop", read("/data/public"), true},
		{"bank", write("/data/reference/x"), false}, {"bank", read("/data/banks"), false}, {"bank", read("/data"), false},
		{"shop", read("/data/bank"), false}, {"shop", write("/data/public"), false}, {"", read("/data/bank"), false},
	} {
		if err := checkVolumes(rules, c.owner, []flow.Volume{read("/data/public/y"), c.v}); (err == nil) != c.may {
			t.Errorf("%s, %+v: %v", c.owner, c.v, err)
		}
	}
	if err := checkVolumes(nil, "bank", nil); err != nil {
		t.Error(err)
	}
	r := newRig(t)
	in := input(0)
	in.Image, in.Volumes = "debian:12", []flow.Volume{read("/etc")}
	result, err := r.h.Take(Attempt{Key: tasklet.ActivityKey{WorkflowID: "w", RunID: "r", ActivityID: "a"}, Input: in})
	if err != nil || len(result.Results) != 1 || result.Results[0].Outcome != tasklet.Invalid || !strings.Contains(result.Results[0].Reason, "--allow-volume") {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestUsers(t *testing.T) {
	rules := []string{"bank=batch", "*=nobody"}
	for _, c := range [][2]string{{"bank", ""}, {"bank", "batch"}, {"shop", "nobody"}} {
		if err := checkUser(rules, c[0], c[1]); err != nil {
			t.Error(err)
		}
	}
	for _, c := range [][2]string{{"shop", "batch"}, {"bank", "batc"}, {"bank", "root"}, {"", "batch"}} {
		if checkUser(rules, c[0], c[1]) == nil {
			t.Errorf("%s may run as %s", c[0], c[1])
		}
	}
	r := newRig(t)
	in := input(0)
	in.User = "daemon"
	result, err := r.h.Take(Attempt{Key: r.key, Input: in, Number: 1})
	if err != nil || len(result.Results) != 1 || result.Results[0].Outcome != tasklet.Invalid || !strings.Contains(result.Results[0].Reason, `as user "daemon"`) {
		t.Errorf("%+v, %v", result, err)
	}
}

type fakePinner func(string) (string, error)

func (f fakePinner) Pin(_ context.Context, name string) (string, error) { return f(name) }

func TestImagesArePinnedOnce(t *testing.T) {
	f := &flow.Flow{
		Steps:  []flow.Step{{ID: "a", Image: "x:1"}, {ID: "b"}, {ID: "c", Image: "x:1"}},
		OnExit: []flow.Step{{ID: "d", Image: "y"}},
	}
	asked := 0
	pin := func(p ImagePinner) (map[string]string, error) {
		var s testsuite.WorkflowTestSuite
		env := s.NewTestActivityEnvironment()
		preparer := &Preparer{Images: p}
		env.RegisterActivity(preparer.pinForTest)
		value, err := env.ExecuteActivity(preparer.pinForTest, f)
		if err != nil {
			return nil, err
		}
		var pinned map[string]string
		return pinned, value.Get(&pinned)
	}
	pinned, err := pin(fakePinner(func(name string) (string, error) { asked++; return name + "@sha256:1", nil }))
	if err != nil || asked != 2 || len(pinned) != 2 || pinned["x:1"] != "x:1@sha256:1" || pinned["y"] != "y@sha256:1" {
		t.Errorf("%v, %v, asked %d times", pinned, err, asked)
	}
	plan := api.PrepareResult{Images: pinned}
	if plan.Image("y") != "y@sha256:1" || plan.Image("") != "" || plan.Image("z") != "z" {
		t.Error("names are not looked up")
	}
	for want, cause := range map[string]error{
		"step a: there is no such image": images.ErrNotFound, "step a: no route": errors.New("no route"),
	} {
		_, err := pin(fakePinner(func(string) (string, error) { return "", fmt.Errorf("%w", cause) }))
		var app *temporal.ApplicationError
		if !errors.As(err, &app) || app.Message() != want || app.NonRetryable() != images.Final(cause) {
			t.Errorf("%v", err)
		}
	}
	if pinned, err := pin(nil); err != nil || pinned != nil {
		t.Errorf("without a pinner: %v, %v", pinned, err)
	}
}

// pinForTest is pin as an activity.
func (p *Preparer) pinForTest(ctx context.Context, f *flow.Flow) (map[string]string, error) {
	return p.pin(ctx, f)
}
