package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
)

// exampleExplanation has a step of each kind.
func exampleExplanation() starter.Explanation {
	minutes := func(n int) time.Time { return started.Add(time.Duration(n) * time.Minute) }
	step := func(id string, status api.Status, partitions int) starter.StepExplanation {
		return starter.StepExplanation{StepState: api.StepState{ID: id, Status: status, Partitions: partitions, ForEach: partitions > 1, Started: started}}
	}
	failure := starter.Failure{
		Attempt: 1, Attempts: 4, Outcome: tasklet.Failed, ExitCode: 3, Reason: "exit code 3", Agent: "node2", Started: minutes(20), Ended: minutes(21),
	}
	load := step("load", api.StatusFailed, 1)
	load.Failures, load.Failure = 1, &starter.Failure{
		Attempt: 2, Attempts: 2, Outcome: tasklet.Failed, ExitCode: 7, Reason: "a required output is missing: parts", Agent: "node1",
		Started: minutes(1), Ended: minutes(2), LogTail: []string{"reading 12 files", "\x1b[31mno such ledger\x1b[0m", strings.Repeat("long ", 40)},
	}
	render := step("render", api.StatusRunning, 200)
	render.Done, render.Failed = 117, 3
	render.Failures, render.Failure = 3, &failure
	failure.Partition = 7
	again := failure
	render.Backoffs = []starter.Backoff{{Partitions: []starter.Span{{First: 3, Last: 3}, {First: 8, Last: 11}}, Attempt: 2, Until: minutes(45), After: again}}
	render.Offers = []starter.OfferWait{
		{Partitions: []starter.Span{{First: 20, Last: 49}}, Count: 30, Since: minutes(5), Heard: minutes(29),
			Reason: "busy: it needs 4.1 CPUs, the most free on one is 1.9 CPUs (all 12 agents are large enough); tasks before it: 4,120 of higher priority"},
		{Partitions: []starter.Span{{First: 50, Last: 99}}, Count: 12, Since: minutes(29)},
	}
	for i := range 10 {
		render.Tasks = append(render.Tasks, starter.Placed{Partitions: starter.Span{First: 100 + i, Last: 100 + i}, Attempt: 1 + i%2,
			State: "RUNNING", Agent: "node1", Since: minutes(3), Progress: "12/40 pages"})
	}
	away := step("away", api.StatusRunning, 1)
	away.Tasks = []starter.Placed{{State: "UNREACHABLE", Agent: "node3", Attempt: 1, Since: minutes(3), UnreachableSince: minutes(10), PlacedAgain: minutes(40)}}
	away.Losses = []starter.Loss{{Count: 2, Reason: "executor killed"}}
	once := step("once", api.StatusRunning, 1)
	once.Tasks = []starter.Placed{{State: "UNREACHABLE", Agent: "node3", Attempt: 1, Since: minutes(3), UnreachableSince: minutes(10)}}
	big := step("big", api.StatusRunning, 1)
	big.Offers = []starter.OfferWait{{Count: 1, Partitions: []starter.Span{{}}, Since: minutes(1),
		Reason: "no agent with 64 GB of memory: the largest has 16 GB in all, 12 GB free"}}
	queued := step("queued", api.StatusRunning, 1)
	queued.Queued = []starter.Queued{{Since: minutes(-60 * 24), Try: 2, LastFailure: "heartbeat timeout"}}
	post := step("post", api.StatusWaiting, 0)
	post.WaitsFor = []starter.Need{{Step: "render", Status: api.StatusRunning}, {Step: "big", Status: api.StatusRunning}}
	blocked := step("blocked", api.StatusBlocked, 0)
	blocked.WaitsFor = []starter.Need{{Step: "load", Status: api.StatusFailed}}
	cleanup := step("cleanup", api.StatusWaiting, 0)
	cleanup.OnExit, cleanup.WaitsFor = true, post.WaitsFor
	return starter.Explanation{
		Run: runID, Status: api.StatusRunning, Started: started, Kill: &api.KillRequest{By: "ann", Reason: "wrong month"},
		Trouble:   []string{"no worker leads since 2026-04-01T06:12:00Z; the last was 4711@node9"},
		Scheduler: &starter.Scheduler{Framework: "default", Trouble: "no worker leads"},
		Steps:     []starter.StepExplanation{load, render, away, once, big, queued, post, blocked, cleanup},
	}
}

func TestExplain(t *testing.T) {
	b := newBench(t)
	var asked string
	b.runs.explain = func(id string, o starter.ExplainOptions) (starter.Explanation, error) {
		asked += fmt.Sprintf("%s %q %d\n", id, o.Step, o.Partition)
		return exampleExplanation(), nil
	}
	b.expect(ExitDone, "explain", runID)
	b.golden("explain.txt")
	b.expect(ExitDone, "explain", runID+"/render")
	b.expect(ExitDone, "explain", runID+"/render#17")
	if want := runID + " \"\" -1\n" + runID + " \"render\" -1\n" + runID + " \"render\" 17\n"; asked != want {
		t.Errorf("asked for\n%swant\n%s", asked, want)
	}
	if strings.Contains(b.stdout.String(), "\x1b") {
		t.Error("a task's log moves the cursor")
	}
	b.expect(ExitUsage, "explain", runID+"/")
	b.expect(ExitUsage, "explain", runID+"/render#x")
	b.expect(ExitUsage, "explain")
}

func TestExplainAsJSON(t *testing.T) {
	b := newBench(t)
	b.runs.explain = func(string, starter.ExplainOptions) (starter.Explanation, error) { return exampleExplanation(), nil }
	b.expect(ExitDone, "explain", "--output", "json", runID)
	var e starter.Explanation
	if err := json.Unmarshal([]byte(b.stdout.String()), &e); err != nil {
		t.Fatal(err)
	}
	if e.Run != runID || len(e.Steps) != 9 || e.Steps[0].ID != "load" || e.Steps[0].Failure.ExitCode != 7 || e.Steps[1].Offers[0].Count != 30 {
		t.Errorf("got %+v", e)
	}
}

func TestExplainNothing(t *testing.T) {
	for name, c := range map[string]struct {
		e    starter.Explanation
		want string
	}{
		"succeeded":   {starter.Explanation{Run: runID, Status: api.StatusSucceeded, Started: started, Ended: started.Add(time.Minute)}, "nothing to explain"},
		"not begun":   {starter.Explanation{Run: runID, Status: api.StatusRunning, Started: started}, "the flow is being read"},
		"no worker":   {starter.Explanation{Run: runID, Status: api.StatusRunning, Started: started, Trouble: []string{"no worker polls"}}, "Trouble  no worker polls"},
		"a done step": {starter.Explanation{Run: runID, Status: api.StatusRunning, Steps: []starter.StepExplanation{{StepState: api.StepState{ID: "a", Status: api.StatusSucceeded, Ended: started}}}}, "done at 2026-04-01 06:00:00 UTC"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.runs.explain = func(string, starter.ExplainOptions) (starter.Explanation, error) { return c.e, nil }
			b.expect(ExitDone, "explain", runID)
			if out := b.stdout.String(); !strings.Contains(out, c.want) {
				t.Errorf("got\n%s\nwant it to say %q", out, c.want)
			}
		})
	}
}

func TestExplainErrors(t *testing.T) {
	for want, err := range map[int]error{
		ExitNotFound:    fmt.Errorf("run %q: %w", runID, starter.ErrNotFound),
		ExitUnreachable: &starter.UnreachableError{What: "Temporal", Address: "temporal:7233", Err: errors.New("refused")},
	} {
		b := newBench(t)
		b.runs.explain = func(string, starter.ExplainOptions) (starter.Explanation, error) { return starter.Explanation{}, err }
		b.expect(want, "explain", runID)
	}
}

func TestDataDirMayBeRelative(t *testing.T) {
	b := newBench(t).withoutPlatform()
	b.runs.explain = func(string, starter.ExplainOptions) (starter.Explanation, error) {
		return starter.Explanation{}, starter.ErrNotFound
	}
	b.expect(ExitNotFound, "explain", "--data", "nearby", runID)
	if got := b.connected[0].Storage; !strings.HasPrefix(got, "file:///") || !strings.HasSuffix(got, "/nearby/store") {
		t.Errorf("the store is at %s", got)
	}
}

// However long the words, what is not one of them stays within the width.
func TestExplanationIsWrapped(t *testing.T) {
	w := &explanation{}
	w.line(6, "%s", strings.Repeat("ärger ", 100))
	for line := range strings.Lines(w.text.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > tableWidth || !strings.HasPrefix(line, "      ä") {
			t.Errorf("%d characters: %q", n, line)
		}
	}
}
