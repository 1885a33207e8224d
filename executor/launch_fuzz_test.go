package executor

import (
	"encoding/json"
	"log/slog"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosexec "github.com/mesos/mesos-go/api/v1/lib/executor"

	"github.com/baas-batch/baas/tasklet"
)

const fuzzedTask = "wf-1~run~act~0~1"

// launchSeeds are launch data, right and wrong in one point each.
var launchSeeds = []string{
	`{"v":1,"task":"wf-1~run~act~0~1","owner":"o","app":"a","run":"r","step":"s","attempt":1,"shell":"true","limits":{"grace":1},` +
		`"env":{"A":"b","BAAS_RUN":"other"},"outputs":[{"name":"n","type":"int"},{"name":"f","type":"files"}],"bundle":{"key":"k","size":1,"sha256":"x","name":"n","url":"u"},` +
		`"partitions":[{"i":0,"in":{"v":{"value":[1, "a"]},"f":{"files":[{"key":"a/b","size":5,"name":"x","url":"u"}]},"l":{"list":true,"files":[{"key":"k","offset":3,"size":1,"url":"u"},{"key":"k","size":1,"name":"../y","url":"u"}]}},` +
		`"log":{"key":"l","url":"u"},"ckpt":{},"out":{"f":{"key":"k","url":"u"}},"restore":{"key":"c","size":2,"url":"u"}},{"i":7,"log":{},"ckpt":{}}],"result":{"key":"r","url":"u"}}`,
	minimalLaunch(`"args":["a","b"]`, `{"i":0}`),
	minimalLaunch(`"args":["../../bin/sh"]`, `{"i":0}`),
	minimalLaunch(`"shell":"x","limits":{"mem":-1,"grace":0}`, `{"i":0}`),
	minimalLaunch(`"shell":"x","limits":{"grace":-9223372036854775808}`, `{"i":0}`),
	minimalLaunch(`"shell":"x","outputs":[{"name":"../x","type":"file"}]`, `{"i":0}`),
	minimalLaunch(`"shell":"x","outputs":[{"name":"x","type":"file"},{"name":"x","type":"int"}]`, `{"i":0}`),
	minimalLaunch(`"shell":"x","env":{"A=B":"c","":"d"}`, `{"i":0}`),
	minimalLaunch(`"shell":"x"`, `{"i":-1}`),
	minimalLaunch(`"shell":"x"`, `{"i":1},{"i":1}`),
	minimalLaunch(`"shell":"x"`, `{"i":9223372036854775807}`),
	minimalLaunch(`"shell":"x"`, `{"i":0,"in":{"a/b":{"value":1}}}`),
	minimalLaunch(`"shell":"x"`, `{"i":0,"in":{"a-b":{"value":1},"a_b":{"value":"\u0000"}}}`),
	minimalLaunch(`"shell":"x"`, `{"i":0,"in":{"a":{"files":[{"offset":9223372036854775807,"size":9223372036854775807}]}}}`),
	minimalLaunch(`"shell":"x"`, `{"i":0,"restore":{"offset":-1,"size":-1}}`),
	`{"v":1,"task":"` + strings.Repeat("x", 4096) + `"}`,
	`{"v":2}`, `[]`, `null`, `{"v":1e400}`, strings.Repeat(`{"env":`, 200),
	minimalLaunch(`"shell":"x","segments":{"targets":[{"key":"k","url":"u"}],"every":1,"size":1},"in":{"a":{"value":1}}`, `{"i":0,"env":{"A":"b"}}`),
	minimalLaunch(`"shell":"x","segments":{"targets":[{"key":"k"}],"every":-1}`, `{"i":0}`),
	minimalLaunch(`"shell":"x","in":{"../a":{"value":1}}`, `{"i":0}`),
}

func minimalLaunch(command, partitions string) string {
	return `{"v":1,"task":"` + fuzzedTask + `",` + command + `,"partitions":[` + partitions + `],"result":{"url":"u"}}`
}

// FuzzLaunch: what is taken as launch data has nothing in it that leads out of
// the partition's directories, no number that no task can have, and an
// environment in which the platform has the last word; what is refused, is in a
// short sentence.
func FuzzLaunch(f *testing.F) {
	for _, seed := range launchSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := decodeLaunch(data, fuzzedTask)
		if err != nil {
			checkRefusal(t, data)
			return
		}
		if (l.Shell == "") == (len(l.Args) == 0) || l.TaskID != fuzzedTask || l.Segments == nil && l.Result.URL == "" ||
			min(l.Limits.Memory, l.Limits.Disk, l.Limits.Log, int64(l.Limits.Timeout), int64(l.Limits.Grace)) < 0 {
			t.Errorf("taken: %+v", l)
		}
		for _, o := range l.Outputs {
			checkName(t, o.Name)
		}
		if n := len(l.Partitions); n == 0 || n > maxPartitions {
			t.Errorf("taken with %d partitions", n)
		}
		for _, p := range l.Partitions {
			checkPartition(t, l, p)
		}
		again, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeLaunch(again, fuzzedTask); err != nil || asJSON(t, back) != string(again) {
			t.Errorf("%s became %s, %v", again, asJSON(t, back), err)
		}
	})
}

// checkRefusal lets an executor refuse the launch, and looks at what it tells.
func checkRefusal(t *testing.T, data []byte) {
	t.Helper()
	x := idleExecutor(t)
	x.launch(mesos.TaskInfo{TaskID: mesos.TaskID{Value: fuzzedTask}, Data: data})
	_, updates, _ := x.outbox.unacknowledged()
	if len(updates) != 1 || len(x.tasks) != 0 {
		t.Fatalf("%d updates, %d tasks", len(updates), len(x.tasks))
	}
	status := updates[0].Status
	if n := len(status.GetMessage()); status.GetState() != mesos.TASK_FAILED || n == 0 || n > 600 || !utf8.ValidString(status.GetMessage()) || len(status.Data) > tasklet.MaxStatusData {
		t.Errorf("%s, %d bytes of data: %q", status.GetState(), len(status.Data), status.GetMessage())
	}
}

func checkName(t *testing.T, name string) {
	t.Helper()
	if name == "" || !filepath.IsLocal(name) || filepath.Base(name) != name || strings.ContainsAny(name, "\x00\n") || len(name) > 255 {
		t.Errorf("the name %q is taken", name)
	}
}

func checkPartition(t *testing.T, l *tasklet.Launch, p tasklet.Partition) {
	t.Helper()
	if p.Index < 0 || p.Index > math.MaxInt32 {
		t.Errorf("partition %d is taken", p.Index)
	}
	p = withCommonInputs(l, p)
	for name, in := range p.Inputs {
		checkName(t, name)
		if !in.List && len(in.Files) > 1 {
			t.Errorf("%d files for one", len(in.Files))
		}
		names := stageNames(in.Files)
		for _, n := range names {
			checkName(t, n)
		}
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("staged as %q", names)
		}
		for _, f := range in.Files {
			if f.Size < 0 || f.Offset < 0 || f.Offset+f.Size < 0 {
				t.Errorf("%d bytes at %d are taken", f.Size, f.Offset)
			}
		}
	}
	d := dirs{base: "/b", work: "/b/w", inputs: "/b/i", outputs: "/b/o", checkpoint: "/b/c", tmp: "/b/t", state: "/b/s"}
	env, err := environment(Config{Path: "/nowhere", Lang: "C"}, l, p, d)
	if err != nil {
		return
	}
	seen := map[string]string{}
	for _, v := range env {
		name, value, ok := strings.Cut(v, "=")
		if _, twice := seen[name]; !ok || twice || name == "" || strings.ContainsRune(v, 0) || len(v) > maxVariable {
			t.Errorf("environment has %q", v)
		}
		seen[name] = value
	}
	if seen[tasklet.EnvOutputs] != d.outputs || seen[tasklet.EnvRun] != l.Run || seen[tasklet.EnvOwner] != l.Owner || seen[markerVariable] != "" {
		t.Errorf("environment %q", env)
	}
	if path, _, err := commandLine(l, d.work, env); err == nil && !filepath.IsAbs(path) {
		t.Errorf("runs %q", path)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// idleExecutor has no agent and no process table: nothing can be run in it.
func idleExecutor(t *testing.T) *Executor {
	t.Helper()
	x := &Executor{
		cfg: Config{Tuning: DefaultTuning()}, log: slog.New(slog.DiscardHandler), tasks: map[string]*task{}, broker: newBroker(nil),
		box: &sandbox{work: "/nowhere", logs: "/nowhere"}, outbox: newOutbox(slog.New(slog.DiscardHandler)), stop: make(chan struct{}),
	}
	x.host.Store("host")
	return x
}

// FuzzOrder: no message from the leader's side changes anything but what it is
// for: the request that it answers, and kills of partitions that the task has.
func FuzzOrder(f *testing.F) {
	for _, seed := range []string{
		`{"task":"wf-1~run~act~0~1","kill":[0,7,-1,99999999]}`, `{"task":"other","kill":[0]}`, `{"task":"wf-1~run~act~0~1"}`,
		`{"grant":{"id":"ID","url":"u","upload":"x","part_size":1,"parts":{"1":"u","-1":"v"}}}`, `{"grant":{"id":"ID","error":"no"}}`,
		`{"grant":{"id":"","part_size":9223372036854775807}}`, `null`, `[]`, `{"kill":[1e400]}`,
	} {
		f.Add([]byte(seed), int64(1<<30))
	}
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		x := idleExecutor(t)
		launch, err := decodeLaunch([]byte(launchSeeds[0]), fuzzedTask)
		if err != nil {
			t.Fatal(err)
		}
		running := newTask(x, launch)
		x.tasks[fuzzedTask] = running
		question := x.broker.question(fuzzedTask, tasklet.Request{Role: tasklet.RoleLog})
		id := question.report.Request.ID
		order := mesosexec.Event{Type: mesosexec.Event_MESSAGE, Message: &mesosexec.Event_Message{Data: []byte(strings.ReplaceAll(string(data), "ID", id))}}
		for range 3 { // as often as it likes
			x.handle(&order)
		}
		for index := range running.kills {
			if index != 0 && index != 7 {
				t.Errorf("partition %d, which is none of the task's, is to be killed", index)
			}
		}
		if len(x.tasks) != 1 || len(x.broker.open) != 1 {
			t.Errorf("%d tasks, %d requests", len(x.tasks), len(x.broker.open))
		}
		select {
		case g := <-question.answer:
			if g.ID != id {
				t.Errorf("answered by %+v", g)
			}
			if count, err := partCount(size, g.PartSize); err == nil && (count < 0 || count > maxParts || int64(count)*g.PartSize < size) {
				t.Errorf("%d bytes in %d parts of %d", size, count, g.PartSize)
			}
		default:
		}
	})
}

// FuzzTaskID: whatever ID Mesos lets pass, its directory is one component of a
// path, and an ID of ours has a directory of its own.
func FuzzTaskID(f *testing.F) {
	for _, id := range []string{fuzzedTask, "..", ".hidden", "a/b", "a b", strings.Repeat(".", 255), "%d", ""} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if len(id) > tasklet.MaxIDLength {
			return
		}
		name := directoryName(id)
		if filepath.Base(name) != name || !filepath.IsLocal(name) || name == "." || len(name) > 255 || strings.ContainsAny(name, "%\x00\n") {
			t.Errorf("%q has the directory %q", id, name)
		}
		parsed, err := tasklet.ParseTaskID(id)
		if err == nil && !strings.ContainsAny(id, " %") && id[0] != '.' && name != id {
			t.Errorf("%+v shares the directory %q", parsed, name)
		}
	})
}

func TestLaunchSeeds(t *testing.T) {
	var taken []int
	for i, seed := range launchSeeds {
		if _, err := decodeLaunch([]byte(seed), fuzzedTask); err == nil {
			taken = append(taken, i)
		}
	}
	if want := []int{0, 1, 2, 7, 12, 21}; !reflect.DeepEqual(taken, want) {
		t.Errorf("launch data %v are taken, want %v", taken, want)
	}
}
