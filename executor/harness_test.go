package executor

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/syncbuf"
)

// rig is an executor process with an agent and a store around it.
type rig struct {
	t       testing.TB
	agent   *testAgent
	store   *testStore
	sandbox string
	cmd     *exec.Cmd
	stderr  *syncbuf.Buffer
	exited  chan struct{}
	serial  atomic.Int32
}

// setup says what is not usual about a rig.
type setup struct {
	env    []string
	binary string // "": the test binary
	uid    uint32 // 0: as the test
	closed bool   // the sandbox is below a directory closed to others
	tune   func(*Tuning)
}

func quickTuning() Tuning {
	t := DefaultTuning()
	t.WatchdogFloor = 300 * time.Millisecond
	t.DiskEvery = 100 * time.Millisecond
	t.CheckpointEvery = 50 * time.Millisecond
	t.ProgressEvery = 50 * time.Millisecond
	t.RenewAfter = 300 * time.Millisecond
	t.AskEvery = 200 * time.Millisecond
	t.BackoffMax = time.Second
	t.Stall = 10 * time.Second
	return t
}

func newRig(t testing.TB, s setup) *rig {
	t.Helper()
	base := t.TempDir()
	if !s.closed {
		if err := os.Chmod(filepath.Dir(base), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := &rig{
		t: t, agent: newTestAgent(t), store: newTestStore(t),
		sandbox: filepath.Join(base, "sandbox"), stderr: &syncbuf.Buffer{}, exited: make(chan struct{}),
	}
	r.agent.answer = r.store.answer
	if err := os.Mkdir(r.sandbox, 0o755); err != nil {
		t.Fatal(err)
	}
	tune := quickTuning()
	if s.tune != nil {
		s.tune(&tune)
	}
	tuning, err := json.Marshal(tune)
	if err != nil {
		t.Fatal(err)
	}
	if s.binary == "" {
		s.binary = os.Args[0]
	}
	r.cmd = exec.Command(s.binary)
	r.cmd.Env = append([]string{
		asExecutor + "=1", testTuning + "=" + string(tuning), "GORACE=halt_on_error=1 atexit_sleep_ms=0",
		"PATH=" + os.Getenv("PATH"), "SECRET_OF_AGENT=do-not-pass",
		"MESOS_FRAMEWORK_ID=f", "MESOS_EXECUTOR_ID=e", "MESOS_DIRECTORY=/agent/view", "MESOS_SANDBOX=" + r.sandbox,
		"MESOS_AGENT_ENDPOINT=" + r.agent.addr, "MESOS_CHECKPOINT=1", "MESOS_RECOVERY_TIMEOUT=1mins",
		"MESOS_SUBSCRIPTION_BACKOFF_MAX=2secs", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=8secs",
		"MESOS_EXECUTOR_AUTHENTICATION_TOKEN=very-secret-token",
	}, s.env...)
	r.cmd.Stderr = r.stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.uid != 0 {
		r.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.uid, Gid: s.uid}
		if err := os.Chown(r.sandbox, int(s.uid), int(s.uid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.exited)
	}()
	t.Cleanup(r.close)
	r.agent.wait("subscription", func() bool { return len(r.agent.subscribe) > 0 })
	return r
}

func (r *rig) close() {
	select {
	case <-r.exited:
	default:
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.exited:
		case <-time.After(20 * time.Second):
			r.t.Error("executor does not end on SIGTERM")
			_ = r.cmd.Process.Kill()
			<-r.exited
		}
	}
	log := r.stderr.String()
	if strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") || strings.Contains(log, "sig=") || strings.Contains(log, "very-secret") {
		r.t.Errorf("executor raced, panicked or told a secret")
	}
	if r.t.Failed() {
		r.t.Logf("log of the executor:\n%s", log)
	}
}

// exitCode waits for the end of the executor.
func (r *rig) exitCode() int {
	r.t.Helper()
	select {
	case <-r.exited:
	case <-time.After(patience):
		r.t.Fatal("executor does not end")
	}
	return r.cmd.ProcessState.ExitCode()
}

// job gives launch data of one shell command for some partitions.
func (r *rig) job(shell string, partitions ...int) *tasklet.Launch {
	if len(partitions) == 0 {
		partitions = []int{0}
	}
	id := fmt.Sprintf("wf-%d~run~act~%d~1", r.serial.Add(1), partitions[0])
	l := &tasklet.Launch{
		Version: tasklet.WireVersion, TaskID: id, Owner: "team", App: "app", Run: "run-1", Step: "step", Attempt: 1,
		Shell: shell, Limits: tasklet.Limits{Grace: 300 * time.Millisecond}, Result: r.store.target(id + "/result"),
	}
	for _, i := range partitions {
		l.Partitions = append(l.Partitions, tasklet.Partition{
			Index: i, Log: r.store.target(fmt.Sprintf("%s/%d.log", id, i)),
			Checkpoint: r.store.target(fmt.Sprintf("%s/%d.ckpt", id, i)),
		})
	}
	return l
}

// pack gives launch data of n partitions whose results go into segments.
func (r *rig) pack(shell string, n int) *tasklet.Launch {
	indexes := make([]int, n)
	for i := range indexes {
		indexes[i] = i
	}
	l := r.job(shell, indexes...)
	l.Result = tasklet.Target{}
	l.Segments = &tasklet.Segments{Every: time.Second, Size: 16 << 20}
	for i := range 8 {
		l.Segments.Targets = append(l.Segments.Targets, r.store.target(segmentKey(l.TaskID, i)))
	}
	for i := range l.Partitions {
		l.Partitions[i] = tasklet.Partition{Index: i}
	}
	return l
}

// output declares an output, with places for it.
func (r *rig) output(l *tasklet.Launch, name string, typ tasklet.OutputType) {
	l.Outputs = append(l.Outputs, tasklet.Output{Name: name, Type: typ})
	if !typ.IsFile() {
		return
	}
	for i := range l.Partitions {
		p := &l.Partitions[i]
		if p.Outputs == nil {
			p.Outputs = map[string]tasklet.Target{}
		}
		p.Outputs[name] = r.store.target(fmt.Sprintf("%s/%d/%s", l.TaskID, p.Index, name))
	}
}

func (r *rig) launch(l *tasklet.Launch) {
	r.t.Helper()
	r.store.know(l)
	data, err := json.Marshal(l)
	if err != nil {
		r.t.Fatal(err)
	}
	r.agent.launchRaw(l.TaskID, data)
}

// run launches a task and waits for its end.
func (r *rig) run(l *tasklet.Launch) (mesos.TaskState, []tasklet.Result) {
	r.t.Helper()
	r.launch(l)
	return r.finish(l)
}

// finish waits for the end of a task and gives its results from storage.
func (r *rig) finish(l *tasklet.Launch) (mesos.TaskState, []tasklet.Result) {
	r.t.Helper()
	status := r.agent.end(l.TaskID)
	data, ok := r.store.get(l.Result.Key)
	if !ok {
		r.t.Fatalf("%s ended as %s (%s) without a result object", l.TaskID, status.GetState(), status.GetMessage())
	}
	var object tasklet.ResultObject
	if err := json.Unmarshal(data, &object); err != nil {
		r.t.Fatal(err)
	}
	if object.TaskID != l.TaskID {
		r.t.Errorf("result object is of task %q", object.TaskID)
	}
	return status.GetState(), object.Results
}

// one runs a task of one partition and gives its result.
func (r *rig) one(l *tasklet.Launch) tasklet.Result {
	r.t.Helper()
	_, results := r.run(l)
	if len(results) != 1 {
		r.t.Fatalf("%d results, not 1", len(results))
	}
	return results[0]
}

// logOf gives a partition's stored log.
func (r *rig) logOf(l *tasklet.Launch, i int) string {
	r.t.Helper()
	data, ok := r.store.get(l.Partitions[i].Log.Key)
	if !ok {
		r.t.Fatal("no log stored")
	}
	return string(data)
}

// waitFile waits for a file that a task writes, below /tmp, and gives its content.
func (r *rig) waitFile(path string) string {
	r.t.Helper()
	var data []byte
	eventually(r.t, "file "+path, func() bool {
		var err error
		data, err = os.ReadFile(path)
		return err == nil && len(data) > 0
	})
	return strings.TrimSpace(string(data))
}

// shared gives a directory where every user may write.
func (r *rig) shared() string {
	dir := filepath.Join(filepath.Dir(r.sandbox), "shared")
	if err := os.Mkdir(dir, 0o777); err == nil {
		err = os.Chmod(dir, 0o777)
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return dir
}

// eventually polls for what has no event.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s within %s", what, patience)
		}
	}
}

// alive tells whether a process is there and no zombie.
func alive(pid int) bool {
	p, ok := readProc(pid)
	return ok && !p.zombie
}

// filesLeft counts what tasks have left in the directories of partitions.
func (r *rig) filesLeft() (n int) {
	found, err := filepath.Glob(filepath.Join(r.sandbox, "work", "partitions", "*", "*", "*"))
	if err != nil {
		r.t.Error(err)
	}
	for _, path := range found {
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSymlink { // to a bundle
			n++
		}
	}
	return n
}

// below lists the processes under the executor.
func (r *rig) below() []proc {
	all, _ := descendants(r.cmd.Process.Pid, maxPasses)
	return slices.DeleteFunc(all, func(p proc) bool { return p.zombie })
}
