package agent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// contextNow is over already: Terminate then kills without grace.
func contextNow() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

func TestTaskLife(t *testing.T) {
	for _, codec := range []string{"protobuf", "json"} {
		t.Run(codec, func(t *testing.T) {
			cfg := settings(t)
			cfg.AuthenticateExecutors = true
			r := start(t, cfg)
			e := executorInfo("e")
			e.Command.Environment.Variables[0] = variable(executorVariable, codec)
			r.run(e, "a", "finish")
			r.run(e, "b", "run")
			list := r.master.expect(t, "a", "RUNNING FINISHED")
			s := list[0]
			if s.GetSource() != mesos.SOURCE_EXECUTOR || s.Reason != nil || s.GetAgentID().Value != "agent-1" ||
				s.GetExecutorID().Value != "e" || s.Timestamp == nil || len(s.UUID) != 16 {
				t.Errorf("status %+v", s)
			}
			if c := s.ContainerStatus; c == nil || int(c.GetExecutorPID()) != r.pid("e") || c.ContainerID.Value == "" {
				t.Errorf("container status %+v", c)
			}
			r.master.expect(t, "b", "RUNNING")
			r.tell(func(a link.Agent) { a.KillTask(*framework1.ID, mesos.TaskID{Value: "b"}, nil) })
			r.master.expect(t, "b", "RUNNING KILLED")
			r.tell(func(a link.Agent) {
				a.FrameworkMessage(*framework1.ID, mesos.ExecutorID{Value: "e"}, []byte("hello"))
			})
			eventually(t, "message", func() bool {
				return see(r.master, func() bool { return slices.Contains(r.master.messages, "echo hello") })
			})
			r.tell(func(a link.Agent) { a.ShutdownExecutor(*framework1.ID, e.ExecutorID) })
			r.exited("e 0")
		})
	}
}

func (r *rig) exited(want string) {
	r.t.Helper()
	eventually(r.t, "exit "+want, func() bool {
		return see(r.master, func() bool { return slices.Contains(r.master.exits, want) })
	})
}

// Unacknowledged, an update comes again with the same UUID, and the next waits.
func TestUpdatesAreRepeated(t *testing.T) {
	r := start(t, settings(t))
	see(r.master, func() any { r.master.hold = true; return nil })
	r.run(executorInfo("e"), "a", "finish")
	eventually(t, "three sends", func() bool { return see(r.master, func() bool { return len(r.master.updates) >= 3 }) })
	list := r.master.expect(t, "a", "RUNNING")
	eventually(t, "latest state", func() bool {
		return see(r.master, func() bool {
			return r.master.updates[len(r.master.updates)-1].Latest == mesos.TASK_FINISHED
		})
	})
	r.tell(func(a link.Agent) {
		a.Acknowledge(*framework1.ID, mesos.TaskID{Value: "a"}, []byte("0123456789abcdef"))
	})
	r.tell(func(a link.Agent) { a.Acknowledge(*framework1.ID, mesos.TaskID{Value: "a"}, list[0].UUID) })
	list = r.master.expect(t, "a", "RUNNING FINISHED")
	r.tell(func(a link.Agent) { a.Acknowledge(*framework1.ID, mesos.TaskID{Value: "a"}, list[1].UUID) })
	eventually(t, "stream ends", func() bool {
		var left int
		r.box.call(func() { left = len(r.streams) })
		return left == 0
	})
}

func TestExecutorDeath(t *testing.T) {
	for name, without := range map[string]bool{"cgroup": false, "tree": true} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(t)
			cfg.NoCgroups = without
			testExecutorDeath(t, start(t, cfg))
		})
	}
}

func testExecutorDeath(t *testing.T, r *rig) {
	e := executorInfo("e")
	see(r.master, func() any { r.master.hold = true; return nil })
	r.run(e, "done", "finish")
	r.run(e, "running", "run")
	r.run(e, "daemon", "daemon")
	daemon := readPID(t, filepath.Join(r.sandbox("e"), "daemon"))
	r.box.call(func() { r.frameworks[*framework1.ID].executors[e.ExecutorID].container.Usage() }) // as the memory watch does
	r.master.expect(t, "done", "RUNNING")
	eventually(t, "FINISHED checkpointed", func() bool {
		task := (*mesos.Task)(nil)
		r.box.call(func() { task = r.taskOf(streamKey{*framework1.ID, mesos.TaskID{Value: "done"}}) })
		return task.GetState() == mesos.TASK_FINISHED
	})
	if err := syscall.Kill(r.pid("e"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.exited("e 9")
	if alive(daemon) {
		t.Error("a daemon outlived its executor")
	}
	// While its updates wait, the executor cannot be used.
	r.run(e, "early", "finish")
	early := r.master.expect(t, "early", "DROPPED")[0]
	if early.GetReason() != mesos.REASON_EXECUTOR_TERMINATED || early.GetSource() != mesos.SOURCE_AGENT {
		t.Errorf("status %+v", early)
	}
	r.exited("e -1") // the one that the master counts for the task
	see(r.master, func() any { r.master.hold = false; return nil })
	r.master.expect(t, "done", "RUNNING FINISHED")
	last := r.master.expect(t, "running", "RUNNING FAILED")[1]
	if last.GetReason() != mesos.REASON_EXECUTOR_TERMINATED || last.GetSource() != mesos.SOURCE_AGENT || len(last.UUID) != 16 ||
		last.GetMessage() != "Executor terminated" {
		t.Errorf("status %+v", last)
	}
	eventually(t, "executor removed", func() bool {
		var left int
		r.box.call(func() { left = len(r.frameworks) })
		return left == 0
	})
	r.run(e, "again", "finish")
	r.master.expect(t, "again", "RUNNING FINISHED")
}

func TestExecutorExits(t *testing.T) {
	r := start(t, settings(t))
	r.run(executorInfo("e"), "a", "exit")
	r.master.expect(t, "a", "RUNNING FAILED")
	r.exited("e 768") // 3 << 8
}

func TestMemoryLimit(t *testing.T) {
	r := start(t, settings(t))
	r.run(executorInfo("e"), "small", "run")
	r.run(executorInfo("other"), "other", "run")
	r.run(executorInfo("e"), "large", "memory 400") // the container has 128+64+64 MB
	for _, task := range []string{"large", "small"} {
		last := r.master.expect(t, task, "RUNNING FAILED")[1]
		if last.GetReason() != mesos.REASON_CONTAINER_LIMITATION_MEMORY ||
			!strings.HasPrefix(last.GetMessage(), "Memory limit exceeded: Requested: 256MB Maximum Used: ") ||
			sum(last.GetLimitation().GetResources(), "mem") <= 256 {
			t.Errorf("status %+v", last)
		}
	}
	r.exited("e 9")
	r.master.expect(t, "other", "RUNNING")
}

// TaskInfo.limits lets a task use more than it asks for.
func TestMemoryLimitOfTask(t *testing.T) {
	r := start(t, settings(t))
	e := executorInfo("e")
	r.runAs(framework1, mesos.TaskInfo{
		Name: "a", TaskID: mesos.TaskID{Value: "a"}, AgentID: r.ID(), Executor: e, Data: []byte("memory 400"),
		Resources: []mesos.Resource{Scalar("mem", 64)}, Limits: map[string]mesos.Value_Scalar{"mem": {Value: 2000}},
	})
	r.master.expect(t, "a", "RUNNING")
	eventually(t, "memory used", func() bool {
		var c interface{ Proportional() int64 }
		r.box.call(func() { c = r.frameworks[*framework1.ID].executors[e.ExecutorID].container })
		return c.Proportional() > 350<<20
	})
	r.master.expect(t, "a", "RUNNING")
	for want, resources := range map[int64][]mesos.Resource{0: nil, minMemory << 20: {Scalar("mem", 1)}} {
		e := newExecutor(*framework1.ID, mesos.ExecutorInfo{Resources: resources}, "c", "d")
		if e.raiseMemory(); e.memory != want {
			t.Errorf("%v: limit %d, want %d", resources, e.memory, want)
		}
	}
}

func TestShutdownKillsTheDeaf(t *testing.T) {
	r := start(t, settings(t))
	e := executorInfo("e")
	e.ShutdownGracePeriod = &mesos.DurationInfo{Nanoseconds: int64(200 * time.Millisecond)}
	r.run(e, "a", "deaf")
	r.master.expect(t, "a", "RUNNING")
	r.tell(func(a link.Agent) { a.ShutdownExecutor(*framework1.ID, e.ExecutorID) })
	r.exited("e 9")
	r.master.expect(t, "a", "RUNNING FAILED")
	if out := readFile(t, filepath.Join(r.sandbox("e"), "stdout")); !strings.Contains(out, "shutdown") {
		t.Errorf("SHUTDOWN was not sent: %s", out)
	}
}

func TestShutdownFramework(t *testing.T) {
	r := start(t, settings(t))
	r.run(executorInfo("e"), "a", "run")
	r.master.expect(t, "a", "RUNNING")
	r.tell(func(a link.Agent) { a.ShutdownFramework(*framework1.ID) })
	r.exited("e 0")
	eventually(t, "framework gone", func() bool {
		var left int
		r.box.call(func() { left = len(r.frameworks) + len(r.streams) })
		return left == 0
	})
	if got := states(r.master.of("a")); got != "RUNNING" {
		t.Errorf("updates of a framework that is gone: %s", got)
	}
}

// What cannot be launched, and what it is answered.
func TestRefused(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	cfg := settings(t)
	cfg.ExecutorRegistrationTimeout = time.Second
	r := start(t, cfg)
	shell := func(value string) *mesos.CommandInfo { return &mesos.CommandInfo{Value: &value} }
	type status struct {
		state   mesos.TaskState
		reason  mesos.TaskStatus_Reason
		message string
	}
	for name, test := range map[string]struct {
		change func(*mesos.TaskInfo)
		want   status
	}{
		"fetch": {
			func(t *mesos.TaskInfo) { t.Executor.Command.URIs = []mesos.CommandInfo_URI{{Value: server.URL + "/x"}} },
			status{mesos.TASK_FAILED, mesos.REASON_CONTAINER_LAUNCH_FAILED, "404"},
		},
		"image": {
			func(t *mesos.TaskInfo) {
				t.Executor.Container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(),
					Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{Type: mesos.Image_DOCKER.Enum()}}}
			},
			status{mesos.TASK_FAILED, mesos.REASON_CONTAINER_LAUNCH_FAILED, "images are not supported"},
		},
		"docker": {
			func(t *mesos.TaskInfo) {
				t.Executor.Container = &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum()}
			},
			status{mesos.TASK_FAILED, mesos.REASON_CONTAINER_LAUNCH_FAILED, "container of type DOCKER"},
		},
		"command": {
			func(t *mesos.TaskInfo) { t.Executor, t.Command = nil, shell("true") },
			status{mesos.TASK_ERROR, mesos.REASON_TASK_INVALID, "command executor"},
		},
		"no such file": {
			func(t *mesos.TaskInfo) {
				t.Executor.Command = &mesos.CommandInfo{Shell: p(false), Value: p("./nowhere")}
			},
			status{mesos.TASK_FAILED, mesos.REASON_EXECUTOR_TERMINATED, "no such file"},
		},
		"never subscribes": {
			func(t *mesos.TaskInfo) { t.Executor.Command = shell("sleep 1000") },
			status{mesos.TASK_FAILED, mesos.REASON_EXECUTOR_REGISTRATION_TIMEOUT, "did not register within 1secs"},
		},
		"bad executor id": {
			func(t *mesos.TaskInfo) { t.Executor.ExecutorID.Value = ".." },
			status{mesos.TASK_DROPPED, mesos.REASON_EXECUTOR_TERMINATED, "disallowed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			task := mesos.TaskInfo{Name: name, TaskID: mesos.TaskID{Value: name}, AgentID: r.ID(), Executor: executorInfo(name)}
			test.change(&task)
			r.runAs(framework1, task)
			want := strings.TrimPrefix(test.want.state.String(), "TASK_")
			got := r.master.expect(t, name, want)[0]
			if got.GetReason() != test.want.reason || !strings.Contains(got.GetMessage(), test.want.message) ||
				got.GetSource() != mesos.SOURCE_AGENT || len(got.UUID) != 16 {
				t.Errorf("status %+v", got)
			}
		})
	}
	r.exited(".. -1")
	if text := readFile(t, filepath.Join(r.sandbox("fetch"), "stderr")); !strings.Contains(text, "404") {
		t.Errorf("stderr of the sandbox: %s", text)
	}
}

func TestKillBeforeLaunch(t *testing.T) {
	r := start(t, settings(t))
	e := executorInfo("e")
	e.Command = &mesos.CommandInfo{Value: p("sleep 1000")}
	r.run(e, "a", "run")
	r.tell(func(a link.Agent) { a.KillTask(*framework1.ID, mesos.TaskID{Value: "a"}, nil) })
	got := r.master.expect(t, "a", "KILLED")[0]
	if got.GetReason() != mesos.REASON_TASK_KILLED_DURING_LAUNCH || got.GetSource() != mesos.SOURCE_AGENT {
		t.Errorf("status %+v", got)
	}
	r.tell(func(a link.Agent) { a.KillTask(*framework1.ID, mesos.TaskID{Value: "unknown"}, nil) })
	got = r.master.expect(t, "unknown", "DROPPED")[0]
	if got.GetReason() != mesos.REASON_EXECUTOR_TERMINATED || got.GetMessage() != "Cannot find executor" {
		t.Errorf("status %+v", got)
	}
}

// An executor that comes up when all of its tasks have been killed has to go.
func TestExecutorWithNothingToDo(t *testing.T) {
	r := start(t, settings(t))
	e := executorInfo("e")
	*e.Command = mesos.CommandInfo{
		Value:       p("while [ ! -e go ]; do sleep 0.05; done; exec " + *e.Command.Value),
		Environment: e.Command.Environment,
	}
	r.run(e, "a", "run")
	r.tell(func(a link.Agent) { a.KillTask(*framework1.ID, mesos.TaskID{Value: "a"}, nil) })
	r.master.expect(t, "a", "KILLED")
	r.pid("e")
	if err := os.WriteFile(filepath.Join(r.sandbox("e"), "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.exited("e 0")
}

func TestUser(t *testing.T) {
	r := start(t, settings(t))
	e := executorInfo("e")
	e.Command = &mesos.CommandInfo{Value: p("id -un; stat -c %U . stdout stderr")}
	want, _, _ := strings.Cut(string(mustOutput(t, "id", "-un")), "\n")
	if os.Geteuid() == 0 {
		e.Command.User = p("nobody")
		want = "nobody"
		unknown := executorInfo("unknown")
		unknown.Command.User = p("nobody-has-this-name")
		r.run(unknown, "unknown", "run")
		got := r.master.expect(t, "unknown", "DROPPED")[0]
		if got.GetReason() != mesos.REASON_EXECUTOR_TERMINATED {
			t.Errorf("status %+v", got)
		}
	}
	r.run(e, "a", "")
	r.master.expect(t, "a", "FAILED")
	if got := strings.Fields(readFile(t, filepath.Join(r.sandbox("e"), "stdout"))); !slices.Equal(got, []string{want, want, want, want}) {
		t.Errorf("owners %v, want %s", got, want)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("AGENT_SECRET", "leaks")
	r := start(t, settings(t))
	e := executorInfo("e")
	e.Command = &mesos.CommandInfo{
		Shell: p(false), Value: p("env"), Arguments: []string{"env"},
		Environment: &mesos.Environment{Variables: []mesos.Environment_Variable{variable("MINE", "x"), variable("LIBPROCESS_PORT", "7")}},
	}
	r.run(e, "a", "")
	r.master.expect(t, "a", "FAILED")
	sandbox, err := filepath.EvalSymlinks(r.sandbox("e"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, line := range strings.Fields(readFile(t, filepath.Join(sandbox, "stdout"))) {
		name, value, _ := strings.Cut(line, "=")
		got[name] = value
	}
	want := map[string]string{
		"PATH": os.Getenv("PATH"), "LIBPROCESS_PORT": "7", "MINE": "x",
		"MESOS_FRAMEWORK_ID": "framework-1", "MESOS_EXECUTOR_ID": "e", "MESOS_SLAVE_ID": "agent-1",
		"MESOS_DIRECTORY": sandbox, "MESOS_SANDBOX": sandbox,
		"MESOS_AGENT_ENDPOINT": r.Addr(), "MESOS_SLAVE_PID": "slave(1)@" + r.Addr(),
		"MESOS_CHECKPOINT": "1", "MESOS_RECOVERY_TIMEOUT": "15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "10secs",
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "10secs", "MESOS_HTTP_COMMAND_EXECUTOR": "0",
		"BAAS_CONTAINER_ID": filepath.Base(sandbox),
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s=%q, want %q", name, got[name], value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s leaks", name)
		}
	}
}

func TestTerminate(t *testing.T) {
	r := start(t, settings(t))
	r.run(executorInfo("e"), "a", "run")
	r.master.expect(t, "a", "RUNNING")
	pid := r.pid("e")
	if err := r.Terminate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the executor lives")
	}
	if n := see(r.master, func() int { return r.master.unregistered }); n != 1 {
		t.Errorf("unregistered %d times", n)
	}
	r.Stop()
	r.begin()
	if n := see(r.master, func() int { return len(r.master.states) }); n != 0 {
		t.Error("a terminated agent came back as the one of before")
	}
}

func TestLocked(t *testing.T) {
	r := start(t, settings(t))
	if _, err := New(r.cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("second agent: %v", err)
	}
}

func TestTwoAgents(t *testing.T) {
	one, two := start(t, settings(t)), start(t, settings(t))
	one.run(executorInfo("e"), "a", "run")
	two.run(executorInfo("e"), "b", "run")
	one.master.expect(t, "a", "RUNNING")
	two.master.expect(t, "b", "RUNNING")
	pid := two.pid("e")
	one.Stop()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	two.master.expect(t, "b", "RUNNING FAILED")
	two.exited("e 9")
	one.begin()
	one.master.expect(t, "a", "RUNNING")
	if !alive(one.pid("e")) {
		t.Error("the other agent's executor died")
	}
}

func mustOutput(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
