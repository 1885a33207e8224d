package workflows

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tasklet"
)

const releasable = `
name: f
steps:
  a: {run: ./x}
  b: {run: ./x, at_most_once: true, for_each: {from: 0, to: 3}}
  c: {run: ./x, at_most_once: true, outputs: {note: string, maybe: {type: string, optional: true}}}
  d: {run: ./x, needs: [b, c]}
`

// answer is what became of one update.
type answer struct {
	accepted bool
	release  api.Release
	kill     api.PartitionKill
	err      error
}

func (a *answer) Accept()          { a.accepted = true }
func (a *answer) Reject(err error) { a.err = err }
func (a *answer) Complete(result any, err error) {
	a.err = err
	switch result := result.(type) {
	case api.Release:
		a.release = result
	case api.PartitionKill:
		a.kill = result
	}
}

// kind is the type of the error.
func (a *answer) kind() string {
	var app *temporal.ApplicationError
	if errors.As(a.err, &app) {
		return app.Type()
	}
	return fmt.Sprint(a.err)
}

// say sends an update, as the client does.
func (w *world) say(in api.ReleaseRequest) *answer {
	a := &answer{}
	w.env.UpdateWorkflow(api.UpdateRelease, "", a, in)
	return a
}

func word(step string, partition int, as api.ReleaseAs) api.ReleaseRequest {
	return api.ReleaseRequest{Activity: step + "-1", Step: step, Partition: partition, Generation: 1, As: as, By: "ann", Reason: "I looked"}
}

// newReleasable has steps b and c run for an hour.
func newReleasable(t *testing.T) *world {
	w := newWorld(t, releasable, nil)
	w.script = func(in api.LaunchInput, _ api.LaunchPartition) (tasklet.Result, time.Duration) {
		if in.Step == "b" || in.Step == "c" {
			return ok("note", `"x"`), time.Hour
		}
		return ok(), time.Second
	}
	return w
}

// A person's word goes to the leader with who and why, and stays with the run.
func TestRelease(t *testing.T) {
	w := newReleasable(t)
	w.releaseErrors = []error{errors.New("nobody leads just now")}
	var first, again, other *answer
	w.env.RegisterDelayedCallback(func() {
		first = w.say(word("b", 2, api.ReleaseRan))
		again = w.say(word("b", 2, api.ReleaseRan)) // while the first is under way
		other = w.say(word("b", 2, api.ReleaseFailed))
	}, time.Minute)
	var late, contrary *answer
	w.env.RegisterDelayedCallback(func() {
		late, contrary = w.say(word("b", 2, api.ReleaseRan)), w.say(word("b", 2, api.ReleaseNeverRan))
	}, 2*time.Minute)
	w.succeed()

	for _, a := range []*answer{first, again, late} {
		if a.err != nil || a.release.ReleaseRequest != word("b", 2, api.ReleaseRan) || a.release.At.IsZero() {
			t.Errorf("answer %+v", a)
		}
	}
	same(t, "another word meanwhile", other.kind(), api.ErrorRefused)
	same(t, "another word later", contrary.kind(), api.ErrorRefused)
	same(t, "another word later is recorded", contrary.accepted, false)
	if len(w.releases) != 2 { // the first try had no leader
		t.Fatalf("orders %+v", w.releases)
	}
	in := w.releases[1]
	same(t, "workflow", in.WorkflowID, "f-k7q2m4xw5tza")
	same(t, "prefix", in.Prefix, "runs/f/"+w.state().Run+"/b/")
	same(t, "request", in.ReleaseRequest, word("b", 2, api.ReleaseRan))
	if in.RunID == "" {
		t.Error("the order names no run")
	}
	same(t, "releases in the state", len(w.saved[0].Releases), 1)
	same(t, "release in the state", w.saved[0].Releases[0], first.release)
}

func TestReleaseIsRefused(t *testing.T) {
	w := newReleasable(t)
	changed := func(change func(*api.ReleaseRequest)) api.ReleaseRequest {
		r := word("b", 0, api.ReleaseRan)
		change(&r)
		return r
	}
	requests := map[string]api.ReleaseRequest{
		"no word":           changed(func(r *api.ReleaseRequest) { r.As = "done" }),
		"no reason":         changed(func(r *api.ReleaseRequest) { r.Reason = "" }),
		"no such step":      word("x", 0, api.ReleaseRan),
		"has ended":         word("a", 0, api.ReleaseFailed),
		"has not begun":     word("d", 0, api.ReleaseFailed),
		"must have outputs": word("c", 0, api.ReleaseRan),
	}
	kinds := map[string]string{"no such step": api.ErrorNotHeld, "has ended": api.ErrorNotHeld, "has not begun": api.ErrorNotHeld}
	answers := map[string]*answer{}
	w.env.RegisterDelayedCallback(func() {
		for name, r := range requests {
			answers[name] = w.say(r)
		}
	}, time.Minute)
	w.succeed()
	for name, a := range answers {
		want := kinds[name]
		if want == "" {
			want = api.ErrorRefused
		}
		if a.accepted || a.kind() != want {
			t.Errorf("%s: %+v, want %s", name, a, want)
		}
	}
	if text := answers["must have outputs"].err.Error(); !strings.Contains(text, "output note") {
		t.Errorf("refused with %s", text)
	}
	same(t, "orders", len(w.releases), 0)
}

// What the leader says reaches the person, and nothing is noted.
func TestReleaseOfWhatIsNotHeld(t *testing.T) {
	w := newReleasable(t)
	w.releaseErrors = []error{temporal.NewNonRetryableApplicationError("it is RUNNING", api.ErrorNotHeld, nil)}
	var a *answer
	w.env.RegisterDelayedCallback(func() { a = w.say(word("c", 0, api.ReleaseNeverRan)) }, time.Minute)
	w.succeed()
	if a.kind() != api.ErrorNotHeld || !strings.Contains(a.err.Error(), "it is RUNNING") {
		t.Errorf("answer %+v", a)
	}
	same(t, "releases", len(w.state().Releases), 0)
}

func TestReleasesAreBounded(t *testing.T) {
	w := newReleasable(t)
	w.env.RegisterDelayedCallback(func() {
		for i := range maxReleases + 5 {
			r := word("b", i, api.ReleaseFailed)
			r.By, r.Reason = strings.Repeat("b", 10_000), strings.Repeat("r", 10_000)
			w.say(r)
		}
	}, time.Minute)
	w.succeed()
	releases := w.state().Releases
	same(t, "kept", len(releases), maxReleases)
	if r := releases[0]; len(r.By) > maxKilledBy || len(r.Reason) > maxReleaseReason {
		t.Errorf("a release by %d bytes for a reason of %d", len(r.By), len(r.Reason))
	}
}
