package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
)

var update = flag.Bool("update", false, "write the golden files")

const runID = "statements-9f86d081884c7d65-5e2f91aa"

func TestMain(m *testing.M) {
	time.Local = time.UTC // golden files hold times in the local zone
	os.Exit(m.Run())
}

const goodFlow = `name: statements
params:
  month: {type: string, pattern: '^\d{4}-\d{2}$'}
steps:
  split: {run: 'echo a', outputs: {parts: list}}
  render: {for_each: '${{ steps.split.outputs.parts }}', run: 'echo b'}
`

var started = time.Date(2026, 4, 1, 6, 0, 0, 0, time.UTC)

// exampleRun is a run that has ended as told.
func exampleRun(status api.Status) starter.Run {
	r := starter.Run{WorkflowID: "statements-9f86d081884c7d65", TemporalRunID: "0199-5e2f91aa"}
	r.Run, r.App, r.Owner, r.Status, r.Started, r.OrderDate = runID, "statements", "adhoc", status, started, "2026-03-31"
	if status.Final() {
		r.Ended = started.Add(90 * time.Second)
	}
	r.Steps = []api.StepState{
		{ID: "split", Status: api.StatusSucceeded, Partitions: 1, Done: 1, Started: started, Ended: started.Add(2 * time.Second),
			Outputs: map[string]json.RawMessage{"parts": json.RawMessage(`["a","b"]`), "rate": json.RawMessage(`"1.07"`)}},
		{ID: "render", ForEach: true, Status: status, Partitions: 200, Done: 117, Active: 50, Running: 38, Waiting: 12, Failed: 1, Started: started.Add(2 * time.Second),
			Reason: "partition 7: exit code 3\nwhich is a long story that nobody wants to read in a table of a hundred columns"},
		{ID: "cleanup", OnExit: true, Status: api.StatusWaiting},
	}
	r.Steps[1].Outputs = map[string]json.RawMessage{"statement": refs("a.pdf", "b.pdf")}
	return r
}

func refs(names ...string) json.RawMessage {
	var list []tasklet.FileRef
	for _, name := range names {
		list = append(list, tasklet.NewFileRef("runs/"+name, 1500, "00", name))
	}
	raw, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return raw
}

func states(runs ...starter.Run) func(context.Context, string) iter.Seq2[starter.Run, error] {
	return func(context.Context, string) iter.Seq2[starter.Run, error] {
		return func(yield func(starter.Run, error) bool) {
			for _, r := range runs {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func TestUsageErrors(t *testing.T) {
	b := newBench(t)
	flow := b.file(goodFlow)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"rnu"}, `did you mean "run"?`},
		{[]string{"--address", "x", "ls"}, "options stand after the command"},
		{[]string{"run"}, "takes one flow file"},
		{[]string{"run", flow, flow}, "takes one flow file"},
		{[]string{"run", "nowhere.yaml"}, "nowhere.yaml"},
		{[]string{"run", flow, "-p", "month"}, "expected NAME=VALUE"},
		{[]string{"run", flow, "-p", "month=2026-01", "-p", "month=2026-02"}, "given twice"},
		{[]string{"run", flow, "--nope"}, "unknown option --nope; see: baas run --help"},
		{[]string{"run", flow, "--dettach"}, "did you mean --detach?"},
		{[]string{"validate", os.TempDir()}, "not a regular file"},
		{[]string{"run", flow}, `parameter "month" (string) is missing`},
		{[]string{"run", flow, "-p", "month=March"}, `does not match the pattern`},
		{[]string{"run", flow, "-p", "mnth=2026-01"}, `did you mean "month"?`},
		{[]string{"run", flow, "-p", "month=2026-01", "--date", "tomorrow"}, `order date "tomorrow"`},
		{[]string{"ls", "x"}, "takes no argument"},
		{[]string{"ls", "--status", "done"}, "expected running, succeeded"},
		{[]string{"ls", "--limit", "0"}, "--limit is 0"},
		{[]string{"ls", "--output", "xml"}, "expected table or json"},
		{[]string{"status"}, "takes one run ID"},
		{[]string{"logs", runID + "/render#x"}, "expected a number from 0"},
		{[]string{"logs", runID + "/"}, "expected RUN"},
		{[]string{"worker"}, "no Mesos"},
		{[]string{"up", "--agents", "0"}, "--agents must be at least 1"},
		{[]string{"version", "x"}, "takes no argument"},
	} {
		b.stderr = syncBuffer{}
		b.expect(ExitUsage, test.args...)
		if got := b.stderr.String(); !strings.Contains(got, test.want) {
			t.Errorf("baas %s says %q, want %q", strings.Join(test.args, " "), got, test.want)
		}
	}
	if len(b.connected)+len(b.embedded) > 0 {
		t.Error("a mistake of usage reached a platform")
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		ExitNotFound:    fmt.Errorf("run %q: %w", "x", starter.ErrNotFound),
		ExitUnreachable: &starter.UnreachableError{What: "Temporal", Address: "10.0.0.1:7233", Err: errors.New("refused")},
		ExitFailed:      io.ErrUnexpectedEOF,
		ExitUsage:       &starter.InvalidError{Others: []string{"one", "two"}},
	} {
		b := newBench(t)
		b.runs.describe = func(string) (starter.Run, error) { return starter.Run{}, err }
		b.expect(want, "status", runID)
		if !strings.Contains(b.stderr.String(), strings.Split(err.Error(), "\n")[0]) {
			t.Errorf("stderr %q does not tell of %v", b.stderr.String(), err)
		}
	}
}

func TestHelp(t *testing.T) {
	b := newBench(t)
	b.expect(ExitDone, "--help")
	for _, c := range b.program.app().Commands {
		if !strings.Contains(b.stdout.String(), "  "+c.Name+" ") {
			t.Errorf("the help does not name %s", c.Name)
		}
	}
	for _, c := range b.program.app().Commands {
		b.stdout = syncBuffer{}
		b.expect(ExitDone, c.Name, "--help")
		if !strings.Contains(b.stdout.String(), "Example:\n  baas "+c.Name) {
			t.Errorf("%s --help has no example:\n%s", c.Name, b.stdout.String())
		}
		for line := range strings.Lines(b.stdout.String()) {
			if strings.Contains(line, "`") || utf8.RuneCountInString(line) > tableWidth+1 {
				t.Errorf("%s --help: %d characters: %s", c.Name, utf8.RuneCountInString(line), line)
			}
		}
	}
}

func TestListing(t *testing.T) {
	b := newBench(t)
	b.runs.list = func(o starter.ListOptions) ([]starter.Summary, error) {
		if o.App != "statements" || o.Status != api.StatusRunning || o.Limit != 2 {
			t.Errorf("asked for %+v", o)
		}
		return []starter.Summary{
			{Run: runID, App: "statements", Owner: "adhoc", Status: api.StatusRunning, OrderDate: "2026-03-31", Started: started},
			{Run: strings.Repeat("long", 5) + "-9f86d081884c7d65-5e2f91aa", Status: api.StatusSucceeded, Started: started, Ended: started.Add(time.Hour)},
		}, nil
	}
	b.expect(ExitDone, "ls", "--app", "statements", "--status=running", "--limit", "2")
	b.golden("ls.txt")
	b.stdout = syncBuffer{}
	b.expect(ExitDone, "ls", "--app", "statements", "--status", "running", "--limit", "2", "-o", "json")
	b.golden("ls.json")
}

func TestEmptyListingIsAnEmptyList(t *testing.T) {
	b := newBench(t)
	b.runs.list = func(starter.ListOptions) ([]starter.Summary, error) { return nil, nil }
	b.expect(ExitDone, "ls", "-o", "json")
	if got := b.stdout.String(); got != "[]\n" {
		t.Errorf("got %q", got)
	}
}

func TestStatus(t *testing.T) {
	b := newBench(t)
	b.runs.describe = func(id string) (starter.Run, error) {
		r := exampleRun(api.StatusRunning)
		r.Activities = []starter.Activity{
			{ID: "render-1", Step: "render", Details: api.Details{
				Total:  10,
				Agents: []api.AgentDetail{{Host: "node1"}},
				Tasks:  []api.TaskDetail{{First: 0, Count: 1, State: "RUNNING", Progress: "12/40 pages"}, {First: 8, Count: 8, State: "STAGING"}},
			}},
			{ID: "render-2", Step: "render", Details: api.Details{State: "waiting", Total: 8, Done: 1, Reason: "no agent offers 64 CPUs"}},
			{ID: "render-3", Step: "render", Details: api.Details{State: "waiting", Total: 1, Reason: "no agent offers 64 CPUs"}},
			{ID: "render-4", Step: "render"},
		}
		return r, nil
	}
	b.expect(ExitDone, "status", runID)
	b.golden("status.txt")
	b.stdout = syncBuffer{}
	b.expect(ExitDone, "status", runID, "--output", "json")
	var r starter.Run
	if err := json.Unmarshal([]byte(b.stdout.String()), &r); err != nil || r.Run != runID || len(r.Activities) != 4 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestStatusShowsSomeOfManyTasks(t *testing.T) {
	b := newBench(t)
	b.runs.describe = func(string) (starter.Run, error) {
		r := exampleRun(api.StatusRunning)
		r.Kill = &api.KillRequest{By: "bob", Reason: "wrong\x1b[2Jmonth"}
		for i := range 500 {
			r.Activities = append(r.Activities, starter.Activity{ID: fmt.Sprint("render-", i), Step: "render", Details: api.Details{
				Tasks: []api.TaskDetail{{First: 499 - i, Count: 1, State: "RUNNING"}},
			}})
		}
		return r, nil
	}
	b.expect(ExitDone, "status", runID)
	got := b.stdout.String()
	for _, want := range []string{"render#0 ", "render#19 ", "… and 480 more; --output json has all", "running, being killed by bob: wrong [2Jmonth\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "render#20 ") || strings.Contains(got, "\x1b") {
		t.Errorf("got\n%s", got)
	}
}

func TestStatusOfARange(t *testing.T) {
	b := newBench(t)
	b.runs.describe = func(string) (starter.Run, error) {
		r := exampleRun(api.StatusRunning)
		r.Steps[1].Killed, r.Steps[1].NotRun = 2, 5
		r.Activities = []starter.Activity{{ID: "render-1", Step: "render", Details: api.Details{
			Total: 200, Done: 50, Reason: "no agent is free",
			Tasks: []api.TaskDetail{{First: 5, Count: 74, State: "RUNNING", Parts: [][2]int{{5, 5}, {9, 81}}}},
			Range: &api.RangeDetail{Running: 74, Backoffs: []api.BackoffDetail{{Attempt: 2, Count: 70, Until: started}}},
		}}}
		return r, nil
	}
	b.expect(ExitDone, "status", runID)
	got := b.stdout.String()
	for _, want := range []string{"render#5 and 73 more  RUNNING", "render (6) ", "render (70) ", "for attempt 2 until " + stamp(started), "2 killed, 5 not run"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestWatchTellsTheEnd(t *testing.T) {
	for status, want := range map[api.Status]int{
		api.StatusSucceeded: ExitDone, api.StatusFailed: ExitFailed, api.StatusKilled: ExitFailed,
	} {
		for _, format := range []string{"table", "json"} {
			b := newBench(t)
			b.runs.watch = states(exampleRun(api.StatusRunning), exampleRun(status))
			b.expect(want, "status", "--watch", runID, "--output", format)
		}
	}
}

func TestKill(t *testing.T) {
	b := newBench(t)
	var asked []string
	b.runs.kill = func(id, reason, by string) error {
		asked = append(asked, id, reason, by)
		return nil
	}
	b.expect(ExitDone, "kill", runID, "--reason", "wrong month")
	delete(b.env, "USER")
	b.expect(ExitDone, "kill", runID)
	if want := []string{runID, "wrong month", "ann", runID, "", "uid0"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	b.runs.kill = func(string, string, string) error { return &starter.EndedError{Run: runID, Status: api.StatusFailed} }
	b.expect(ExitNotFound, "kill", runID)
	if !strings.Contains(b.stderr.String(), "has ended already: it failed") {
		t.Errorf("says %q", b.stderr.String())
	}
}

func TestKillPartition(t *testing.T) {
	b := newBench(t)
	var asked []api.KillPartitionsRequest
	b.runs.killPartitions = func(id string, request api.KillPartitionsRequest) error {
		asked = append(asked, request)
		return nil
	}
	b.expect(ExitDone, "kill", runID+"/render#17", "--reason", "it loops")
	want := []api.KillPartitionsRequest{{Step: "render", Partitions: []int{17}, By: "ann", Reason: "it loops"}}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("asked for %+v, want %+v", asked, want)
	}
	if text := b.stdout.String(); !strings.Contains(text, runID+"/render#17") {
		t.Errorf("says %q", text)
	}
	b.expect(ExitUsage, "kill", runID+"/render")
	if !strings.Contains(b.stderr.String(), "name the run, or a partition") {
		t.Errorf("says %q", b.stderr.String())
	}
}

func TestKillNeedsAPlatform(t *testing.T) {
	b := newBench(t).withoutPlatform()
	b.expect(ExitUnreachable, "kill", runID)
	if !strings.Contains(b.stderr.String(), "start one with: baas up") {
		t.Errorf("says %q", b.stderr.String())
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version", "-v"} {
		b := newBench(t)
		b.expect(ExitDone, arg)
		if got := b.stdout.String(); got != "v1.2.3\n" {
			t.Errorf("baas %s prints %q", arg, got)
		}
	}
}

func TestOutputs(t *testing.T) {
	b := newBench(t)
	b.runs.describe = func(string) (starter.Run, error) { return exampleRun(api.StatusSucceeded), nil }
	b.expect(ExitDone, "outputs", runID)
	b.golden("outputs.txt")

	b.stdout = syncBuffer{}
	var asked []string
	b.runs.download = func(o starter.Output, dir string) ([]string, error) {
		asked = append(asked, o.Step+"/"+o.Name)
		return make([]string, len(o.Files)), nil
	}
	b.expect(ExitDone, "outputs", runID, "--download", "/tmp/there")
	if got := b.stdout.String(); got != "2 files in /tmp/there\n" || len(asked) != 3 {
		t.Errorf("got %q after %q", got, asked)
	}
}

func TestLogs(t *testing.T) {
	b := newBench(t)
	var asked starter.LogOptions
	b.runs.logs = func(id string, o starter.LogOptions) iter.Seq2[starter.LogChunk, error] {
		asked = o
		return func(yield func(starter.LogChunk, error) bool) {
			_ = yield(starter.LogChunk{Step: "a", Attempt: 1, Data: []byte("one\ntw")}, nil) &&
				yield(starter.LogChunk{Step: "a", Attempt: 1, Data: []byte("o\nhalf")}, nil) &&
				yield(starter.LogChunk{Step: "b", Partition: 3, Attempt: 2, Data: []byte("three\n")}, nil) &&
				yield(starter.LogChunk{Step: "a", Attempt: 1, Data: []byte("end")}, nil)
		}
	}
	b.expect(ExitDone, "logs", runID, "-f")
	if !asked.Follow || asked.Step != "" || asked.Partition != starter.AllPartitions {
		t.Errorf("asked for %+v", asked)
	}
	b.golden("logs.txt")
	b.stdout = syncBuffer{}
	b.expect(ExitDone, "logs", runID+"/a#0")
	if asked.Follow || asked.Step != "a" || asked.Partition != 0 {
		t.Errorf("asked for %+v", asked)
	}
	if got := b.stdout.String(); got != "one\ntwo\nhalfthree\nend" {
		t.Errorf("got %q", got)
	}
}

func TestValidate(t *testing.T) {
	b := newBench(t).withoutPlatform()
	b.expect(ExitDone, "validate", b.file(goodFlow))
	bad := b.file("name: a\nsteps:\n  x: {rnu: echo}\n  y: {run: 'echo', needs: [z]}\n")
	b.expect(ExitUsage, "validate", bad)
	if got := b.stderr.String(); !strings.Contains(got, "3:7") || !strings.Contains(got, "4:") || !strings.Contains(got, "nothing was started") {
		t.Errorf("got %s", got)
	}
	b.stdout = syncBuffer{}
	b.expect(ExitUsage, "validate", "-o", "json", bad)
	var answer validation
	if err := json.Unmarshal([]byte(b.stdout.String()), &answer); err != nil || answer.Valid || len(answer.Problems) < 2 || answer.Problems[0].Line != 3 {
		t.Errorf("got %+v, %v", answer, err)
	}
}

func TestGraph(t *testing.T) {
	b := newBench(t).withoutPlatform()
	b.expect(ExitDone, "graph", b.file(goodFlow))
	if got := b.stdout.String(); !strings.HasPrefix(got, "flowchart") {
		t.Errorf("got %q", got)
	}
}

func TestFlagsAndArgumentsInAnyOrder(t *testing.T) {
	valued := map[string]bool{"p": true, "output": true}
	for _, test := range []struct{ in, flags, words string }{
		{"FILE -p a=b -d", "-p a=b -d", "FILE"},
		{"-p a=b FILE", "-p a=b", "FILE"},
		{"--output=json FILE", "--output=json", "FILE"},
		{"FILE -p", "-p", "FILE"},
		{"-d -- -FILE -x", "-d", "-FILE -x"},
		{"-", "", "-"},
	} {
		flags, words := splitFlags(strings.Fields(test.in), valued)
		if strings.Join(flags, " ") != test.flags || strings.Join(words, " ") != test.words {
			t.Errorf("%s: got flags %q and words %q", test.in, flags, words)
		}
	}
}

func TestBytesText(t *testing.T) {
	for want, n := range map[string]int64{"0 B": 0, "999 B": 999, "1 kB": 1000, "1.5 kB": 1500, "1 MB": 999_999, "256 MB": 256_000_000, "2.5 GB": 2_500_000_000} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
