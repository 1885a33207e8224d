package executor

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

func TestRunsATask(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`echo hello; echo world >&2; echo '{"n": 3, "s": "x"}' > $BAAS_OUTPUTS/outputs.json
		printf 'a,b\n' > $BAAS_OUTPUTS/table; mkdir $BAAS_OUTPUTS/parts
		printf one > $BAAS_OUTPUTS/parts/b; printf three > $BAAS_OUTPUTS/parts/a; echo halfway > $BAAS_EXIT_STATUS`)
	r.output(l, "n", tasklet.TypeInt)
	r.output(l, "s", tasklet.TypeString)
	r.output(l, "table", tasklet.TypeFile)
	r.output(l, "parts", tasklet.TypeFiles)
	state, results := r.run(l)
	if state != mesos.TASK_FINISHED || len(results) != 1 {
		t.Fatalf("state %s, results %+v", state, results)
	}
	res := results[0]
	if res.Outcome != tasklet.Succeeded || res.ExitCode != 0 || res.ExitStatus != "halfway" || res.Agent != "test-agent" {
		t.Errorf("result %+v", res)
	}
	if string(res.Outputs["n"]) != "3" || string(res.Outputs["s"]) != `"x"` {
		t.Errorf("values %s %s", res.Outputs["n"], res.Outputs["s"])
	}
	if got := r.logOf(l, 0); got != "hello\nworld\n" {
		t.Errorf("log %q", got)
	}
	var table tasklet.FileRef
	if err := json.Unmarshal(res.Outputs["table"], &table); err != nil {
		t.Fatal(err)
	}
	r.checkRef(table, "a,b\n")
	var parts []tasklet.FileRef
	if err := json.Unmarshal(res.Outputs["parts"], &parts); err != nil {
		t.Fatal(err)
	}
	if len(parts) != 2 || parts[0].Name != "a" || parts[1].Name != "b" || parts[0].Key != parts[1].Key {
		t.Fatalf("parts %+v", parts)
	}
	r.checkRef(parts[0], "three")
	r.checkRef(parts[1], "one")
	if res.Usage.WallTime <= 0 || res.Ended.Before(res.Started) {
		t.Errorf("usage %+v", res.Usage)
	}
}

func (r *rig) checkRef(ref tasklet.FileRef, want string) {
	r.t.Helper()
	data, ok := r.store.get(ref.Key)
	if !ok || ref.Offset+ref.Size > int64(len(data)) {
		r.t.Fatalf("ref %+v has nothing behind it", ref)
	}
	got := string(data[ref.Offset : ref.Offset+ref.Size])
	sum, _ := hashReader(r.t.Context(), strings.NewReader(want), int64(len(want)))
	if got != want || ref.SHA256 != sum || ref.Tag != tasklet.FileRefTag {
		r.t.Errorf("ref %+v gives %q", ref, got)
	}
}

func TestQuickTaskSendsOneUpdate(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.RunningAfter = time.Hour }})
	l := r.job("true")
	r.run(l)
	if got := r.agent.states(l.TaskID); !slices.Equal(got, []mesos.TaskState{mesos.TASK_FINISHED}) {
		t.Errorf("updates: %v", got)
	}
}

func TestNothingSaidIsNoObject(t *testing.T) {
	r := newRig(t, setup{})
	for _, l := range []*tasklet.Launch{r.job("true"), r.job("false")} {
		result := r.one(l)
		if _, stored := r.store.get(l.Partitions[0].Log.Key); stored || result.Log != nil {
			t.Errorf("%s: log %v, stored: %v", result.Outcome, result.Log, stored)
		}
	}
}

func TestUpdates(t *testing.T) {
	r := newRig(t, setup{})
	slow := r.job("read x < " + r.fifo("go"))
	r.launch(slow)
	running := r.agent.status(slow.TaskID, mesos.TASK_RUNNING)
	var data tasklet.StatusData
	if err := json.Unmarshal(running.Data, &data); err != nil {
		t.Fatal(err)
	}
	if data.Sandbox != "/agent/view" || data.Log != "logs/"+slow.TaskID+"/%d.log" {
		t.Errorf("status data %+v", data)
	}
	if _, err := os.Stat(filepath.Join(r.sandbox, strings.ReplaceAll(data.Log, "%d", "0"))); err != nil {
		t.Error(err)
	}
	r.open("go")
	end := r.agent.end(slow.TaskID)
	if err := json.Unmarshal(end.Data, &data); err != nil || !data.Stored {
		t.Errorf("it does not say that the result object is there: %+v, %v", data, err)
	}
	if got := r.agent.states(slow.TaskID); !slices.Equal(got, []mesos.TaskState{mesos.TASK_RUNNING, mesos.TASK_FINISHED}) {
		t.Errorf("updates of a slow task: %v", got)
	}
	if len(end.UUID) != 16 || end.UUID[6]>>4 != 4 || bytes.Equal(end.UUID, running.UUID) {
		t.Errorf("UUIDs %x and %x", running.UUID, end.UUID)
	}
	if err := json.Unmarshal(end.Data, &data); err != nil || len(data.Results) != 1 || data.InStorage {
		t.Errorf("status data at the end: %+v, %v", data, err)
	}
	// Everything but the log goes after the terminal update.
	eventually(t, "clean directories", func() bool { return r.filesLeft() == 0 })
	if _, err := os.Stat(filepath.Join(r.sandbox, "logs", slow.TaskID, "0.log")); err != nil {
		t.Error("the log went too:", err)
	}
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	for _, token := range r.agent.tokens {
		if token != "Bearer very-secret-token" {
			t.Fatalf("call with authorization %q", token)
		}
	}
}

func TestBadLaunchData(t *testing.T) {
	r := newRig(t, setup{})
	for id, data := range map[string]string{
		"garbage":         "nonsense",
		"version":         `{"v": 99, "task": "version"}`,
		"other":           `{"v": 1, "task": "somebody-else"}`,
		"nocommand":       `{"v": 1, "task": "nocommand", "partitions": [{"i": 0}], "result": {"url": "http://x"}}`,
		"app-1~run~7~5~1": `{"v": 99, "task": "app-1~run~7~5~1"}`,
		"escape":          `{"v": 1, "task": "escape", "shell": "true", "partitions": [{"i": 0, "in": {"../x": {}}}], "result": {"url": "http://x"}}`,
	} {
		r.agent.launchRaw(id, []byte(data))
		end := r.agent.end(id)
		var status tasklet.StatusData
		if err := json.Unmarshal(end.Data, &status); err != nil {
			t.Fatal(err)
		}
		if end.GetState() != mesos.TASK_FAILED || len(status.Results) != 1 || status.Results[0].Outcome != tasklet.Invalid || end.GetMessage() == "" {
			t.Errorf("%s: %s %+v", id, end.GetState(), status)
			continue
		}
		// The first partition of the task, which the ID names.
		if name, err := tasklet.ParseTaskID(id); err == nil && status.Results[0].Partition != name.First {
			t.Errorf("%s: the result is one of partition %d", id, status.Results[0].Partition)
		}
		if status.Stored {
			t.Errorf("%s: there is no result object", id)
		}
	}
}

func TestHowCommandsEnd(t *testing.T) {
	r := newRig(t, setup{})
	args := func(a ...string) func(*tasklet.Launch) {
		return func(l *tasklet.Launch) { l.Shell, l.Args = "", a }
	}
	for name, c := range map[string]struct {
		shell   string
		change  func(*tasklet.Launch)
		outcome tasklet.Outcome
		exit    int
		signal  string
		reason  string
	}{
		"exit code":      {shell: "exit 3", outcome: tasklet.Failed, exit: 3, reason: "exit code 3"},
		"signal":         {shell: "kill -SEGV $$", outcome: tasklet.Failed, exit: -1, signal: "SIGSEGV", reason: "ended by SIGSEGV"},
		"args":           {change: args("sh", "-c", `test "$1" = 'a  b'`, "-", "a  b"), outcome: tasklet.Succeeded},
		"no program":     {change: args("no-such-program"), outcome: tasklet.Invalid, exit: -1, reason: "no such command"},
		"no path":        {change: args("/no/such/program"), outcome: tasklet.Invalid, exit: -1, reason: "no such command"},
		"not executable": {change: args("/etc/passwd"), outcome: tasklet.Invalid, exit: -1, reason: "permission denied"},
		"missing output": {shell: "true", change: func(l *tasklet.Launch) {
			l.Outputs = []tasklet.Output{{Name: "total", Type: tasklet.TypeInt}}
		}, outcome: tasklet.Failed, reason: `output "total" is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			l := r.job(c.shell)
			if c.change != nil {
				c.change(l)
			}
			res := r.one(l)
			if res.Outcome != c.outcome || res.ExitCode != c.exit || res.Signal != c.signal || !strings.Contains(res.Reason, c.reason) {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`env -0 | tr '\0' '\n' | sed 's/=.*//' | sort; echo; pwd; echo $HOME; echo "$BAAS_INPUT_TEXT"
		echo $BAAS_INPUT_A_LIST; echo $BAAS_INPUT_NUM; cat "$BAAS_INPUT_DOC"; ls $BAAS_INPUT_DOCS
		cat $BAAS_INPUTS/docs/*; echo $EXTRA; ls -l /proc/self/fd | grep -c .; read x && echo stdin is not empty; ls -A`, 7)
	l.Env = map[string]string{"EXTRA": "more", "BAAS_RUN": "forged"}
	part := r.store.put("big", []byte("0123456789"))
	part.Offset, part.Size = 3, 4
	part.SHA256, _ = hashReader(t.Context(), strings.NewReader("3456"), 4)
	part.Name = "doc"
	l.Partitions[0].Inputs = map[string]tasklet.Input{
		"text":   {Value: json.RawMessage(`"a \"b\" $c\n"`)},
		"a-list": {Value: json.RawMessage(`[1, "x"]`)},
		"num":    {Value: json.RawMessage(`1.50`)},
		"doc":    {Files: []tasklet.Source{part}},
		"docs":   {List: true, Files: []tasklet.Source{r.store.put("k/same", []byte("1\n")), r.store.put("j/same", []byte("2\n")), r.store.put("empty", nil)}},
	}
	res := r.one(l)
	if res.Outcome != tasklet.Succeeded && res.ExitCode != 1 {
		t.Fatalf("%+v", res)
	}
	names, rest, _ := strings.Cut(r.logOf(l, 0), "\n\n")
	want := []string{
		"BAAS_APP", "BAAS_ATTEMPT", "BAAS_CHECKPOINT", "BAAS_EXIT_STATUS", "BAAS_INPUTS", "BAAS_INPUT_A_LIST", "BAAS_INPUT_DOC",
		"BAAS_INPUT_DOCS", "BAAS_INPUT_NUM", "BAAS_INPUT_TEXT", "BAAS_OUTPUTS", "BAAS_OWNER", "BAAS_PARTITION", "BAAS_PROCESS",
		"BAAS_PROGRESS", "BAAS_RUN", "BAAS_STEP", "EXTRA", "HOME", "LANG", "PATH", "PWD", "TMPDIR",
	}
	got := slices.DeleteFunc(strings.Fields(names), func(s string) bool { return s == "_" || s == "SHLVL" || s == "OLDPWD" })
	if !slices.Equal(got, want) {
		t.Errorf("variables:\n%v\nwant\n%v", got, want)
	}
	lines := strings.Split(rest, "\n")
	if lines[0] != lines[1] {
		t.Errorf("HOME %q is not the work directory %q", lines[1], lines[0])
	}
	tail := strings.Join(lines[2:], "\n")
	if want := "a \"b\" $c\n\n[1,\"x\"]\n1.50\n345600000-same\n00001-same\n00002-empty\n1\n2\nmore\n"; !strings.HasPrefix(tail, want) {
		t.Errorf("inputs:\n%q\nwant\n%q", tail, want)
	}
	if strings.Contains(tail, "stdin is not empty") {
		t.Error("stdin is not /dev/null")
	}
}

func TestPartitionsRunInOrderAndOnTheirOwn(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`echo $BAAS_PARTITION; echo $BAAS_PARTITION > $BAAS_OUTPUTS/i; test $BAAS_PARTITION != 5`, 4, 5, 6)
	r.output(l, "i", tasklet.TypeInt)
	state, results := r.run(l)
	if state != mesos.TASK_FAILED || len(results) != 3 {
		t.Fatalf("%s %+v", state, results)
	}
	for i, want := range []tasklet.Outcome{tasklet.Succeeded, tasklet.Failed, tasklet.Succeeded} {
		if results[i].Outcome != want || results[i].Partition != 4+i || r.logOf(l, i) != string(rune('4'+i))+"\n" {
			t.Errorf("partition %d: %+v", 4+i, results[i])
		}
	}
	const want = "2 of 3 partitions succeeded; partition 5 failed: exit code 1"
	if got := r.agent.end(l.TaskID); got.GetMessage() != want {
		t.Errorf("message %q, want %q", got.GetMessage(), want)
	}
	if !results[0].Ended.Before(results[2].Started) {
		t.Error("partitions overlap")
	}
}

func TestTasksRunSideBySide(t *testing.T) {
	r := newRig(t, setup{})
	// Each waits for the other: one after the other they would never end.
	a := r.job("echo > " + r.fifo("ab") + "; read x < " + r.fifo("ba"))
	b := r.job("read x < " + r.fifo("ab") + "; echo > " + r.fifo("ba"))
	r.launch(a)
	r.launch(b)
	for _, l := range []*tasklet.Launch{a, b} {
		if state, _ := r.finish(l); state != mesos.TASK_FINISHED {
			t.Errorf("%s", state)
		}
	}
}

func TestLargeResultsAreInStorageOnly(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`head -c 100000 /dev/zero | tr '\0' x > $BAAS_OUTPUTS/s`)
	r.output(l, "s", tasklet.TypeString)
	if res := r.one(l); len(res.Outputs["s"]) != 100002 {
		t.Errorf("value of %d bytes", len(res.Outputs["s"]))
	}
	var data tasklet.StatusData
	end := r.agent.end(l.TaskID)
	if err := json.Unmarshal(end.Data, &data); err != nil || !data.InStorage || len(data.Results) != 0 || len(end.Data) > tasklet.MaxStatusData {
		t.Errorf("status data of %d bytes: %+v, %v", len(end.Data), data, err)
	}
}

func TestProgress(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("echo '3/10 reading' > $BAAS_PROGRESS; read x < " + r.fifo("go"))
	r.launch(l)
	r.agent.wait("progress", func() bool {
		return slices.ContainsFunc(r.agent.reports, func(rep tasklet.Report) bool {
			return rep.TaskID == l.TaskID && len(rep.Progress) == 1 &&
				rep.Progress[0] == tasklet.Progress{Done: 3, Total: 10, Message: "reading"}
		})
	})
	r.open("go")
	r.finish(l)
}

func TestLogKeepsHeadAndTail(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`printf '\033[31mfirst\033[0m\n'; seq 1 100000; printf '\377\000last\n'`)
	l.Limits.Log = 20_000
	res := r.one(l)
	log := r.logOf(l, 0)
	if !strings.HasPrefix(log, "\x1b[31mfirst\x1b[0m\n1\n") || !strings.HasSuffix(log, "\n100000\n\xff\x00last\n") ||
		!strings.Contains(log, " bytes left out ...]\n") || len(log) > 20_100 || res.Log.Size != int64(len(log)) {
		t.Errorf("log of %d bytes: %.60q … %q", len(log), log, log[max(0, len(log)-60):])
	}
}

// fifo makes a named pipe, by which a test and tasks wait for each other.
func (r *rig) fifo(name string) string { return makeFifo(r.t, filepath.Join(r.shared(), name)) }

// open writes a line into a named pipe.
func (r *rig) open(name string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.shared(), name), os.O_WRONLY, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = f.SetWriteDeadline(time.Now().Add(patience))
	if _, err := f.WriteString("go\n"); err != nil {
		r.t.Error(err)
	}
	_ = f.Close()
}
