package agent

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
	"github.com/baas-batch/baas/embedded/mesos/link"
)

func TestRestart(t *testing.T) {
	r := start(t, settings(t))
	e := executorInfo("e")
	r.run(e, "done", "finish")
	r.master.expect(t, "done", "RUNNING FINISHED")
	see(r.master, func() any { r.master.hold = true; return nil })
	r.run(e, "runs", "run")
	r.run(e, "ends", "run")
	held := r.master.expect(t, "runs", "RUNNING")[0]
	r.master.expect(t, "ends", "RUNNING")
	pid, addr := r.pid("e"), r.Addr()

	r.restart(func() {
		if !alive(pid) {
			t.Fatal("the executor died with its agent")
		}
		see(r.master, func() any { r.master.updates, r.master.hold = nil, false; return nil })
		if err := os.WriteFile(filepath.Join(r.sandbox("e"), "ends"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	})
	if r.Addr() != addr || r.pid("e") != pid {
		t.Errorf("serves %s, executor %d; before %s, %d", r.Addr(), r.pid("e"), addr, pid)
	}
	r.master.expect(t, "ends", "RUNNING FINISHED")
	if again := r.master.expect(t, "runs", "RUNNING")[0]; string(again.UUID) != string(held.UUID) {
		t.Error("the withheld update came with another UUID")
	}
	if got := states(r.master.of("done")); got != "" {
		t.Errorf("acknowledged updates came again: %s", got)
	}
	state := see(r.master, func() link.AgentState { return r.master.states[0] })
	var tasks []string
	for _, task := range state.Tasks {
		tasks = append(tasks, task.TaskID.Value)
	}
	slices.Sort(tasks)
	if !slices.Equal(tasks, []string{"ends", "runs"}) || len(state.Executors) != 1 || len(state.Frameworks) != 1 ||
		state.Executors[0].Info.FrameworkID == nil || state.Info.ID.Value != "agent-1" {
		t.Errorf("re-registered with %+v", state)
	}
	r.run(e, "next", "finish")
	r.master.expect(t, "next", "RUNNING FINISHED")
	if n := see(r.master, func() int { return len(r.master.exits) }); n != 0 {
		t.Errorf("exits: %v", r.master.exits)
	}
}

// An executor without a task stays as it was.
func TestRestartWithIdleExecutor(t *testing.T) {
	r := start(t, settings(t))
	e := executorInfo("e")
	for range 3 {
		r.run(e, "a", "finish")
		r.master.expect(t, "a", "RUNNING FINISHED")
		eventually(t, "acknowledged", func() bool {
			var left bool
			r.box.call(func() { left = r.frameworks[*framework1.ID].executors[e.ExecutorID].incomplete() })
			return !left
		})
		pid := r.pid("e")
		r.restart(func() { see(r.master, func() any { r.master.updates = nil; return nil }) })
		if r.pid("e") != pid {
			t.Fatal("the executor was replaced")
		}
	}
}

func TestExecutorDiesWhileAgentIsDown(t *testing.T) {
	for name, without := range map[string]bool{"cgroup": false, "tree": true} {
		t.Run(name, func(t *testing.T) {
			cfg := settings(t)
			cfg.NoCgroups = without
			testExecutorDiesWhileAgentIsDown(t, start(t, cfg))
		})
	}
}

func testExecutorDiesWhileAgentIsDown(t *testing.T, r *rig) {
	e := executorInfo("e")
	r.run(e, "a", "run")
	r.run(e, "daemon", "daemon")
	daemon := readPID(t, filepath.Join(r.sandbox("e"), "daemon"))
	r.master.expect(t, "a", "RUNNING")
	eventually(t, "daemon known", func() bool {
		records, err := r.store.Containers()
		for _, record := range records {
			isDaemon := func(p container.Process) bool { return p.PID == daemon }
			return err == nil && (record.Cgroup != "" || slices.ContainsFunc(record.Seen, isDaemon))
		}
		return false
	})
	pid := r.pid("e")
	r.restart(func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "executor dead", func() bool { return !alive(pid) })
		if !alive(daemon) {
			t.Fatal("the daemon died with the executor: nothing is tested")
		}
	})
	last := r.master.expect(t, "a", "RUNNING FAILED")[1]
	if last.GetReason() != mesos.REASON_EXECUTOR_TERMINATED || last.GetSource() != mesos.SOURCE_AGENT {
		t.Errorf("status %+v", last)
	}
	eventually(t, "daemon dead", func() bool { return !alive(daemon) })
	r.run(e, "again", "finish")
	r.master.expect(t, "again", "RUNNING FINISHED")
}

func TestExecutorDoesNotComeBack(t *testing.T) {
	cfg := settings(t)
	cfg.ExecutorReregistrationTimeout = 300 * time.Millisecond
	r := start(t, cfg)
	r.run(executorInfo("e"), "a", "run")
	r.master.expect(t, "a", "RUNNING")
	pid := r.pid("e")
	r.restart(func() {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	})
	last := r.master.expect(t, "a", "RUNNING GONE")[1]
	if last.GetReason() != mesos.REASON_EXECUTOR_REREGISTRATION_TIMEOUT {
		t.Errorf("status %+v", last)
	}
	if alive(pid) {
		t.Error("the executor lives")
	}
}

// Without checkpointing nothing is recovered, and nothing is left running.
func TestRestartWithoutCheckpoint(t *testing.T) {
	r := start(t, settings(t))
	f := framework1
	f.Checkpoint = p(false)
	r.runAs(f, mesos.TaskInfo{
		Name: "a", TaskID: mesos.TaskID{Value: "a"}, AgentID: r.ID(), Executor: executorInfo("e"), Data: []byte("deaf"),
	})
	r.master.expect(t, "a", "RUNNING")
	pid := r.pid("e")
	r.restart(func() {
		if !alive(pid) {
			t.Fatal("the executor has gone by itself: nothing is tested")
		}
	})
	eventually(t, "executor dead", func() bool { return !alive(pid) })
	if state := see(r.master, func() link.AgentState { return r.master.states[0] }); len(state.Tasks) != 0 {
		t.Errorf("re-registered with %+v", state.Tasks)
	}
}

func TestChangedConfiguration(t *testing.T) {
	cfg := settings(t)
	r := start(t, cfg)
	r.run(executorInfo("e"), "a", "run")
	r.master.expect(t, "a", "RUNNING")
	r.Stop()
	for name, change := range map[string]func(*Config){
		"less memory": func(c *Config) { c.Resources = []mesos.Resource{Scalar("cpus", 4), Scalar("mem", 4095)} },
		"no cpus":     func(c *Config) { c.Resources = []mesos.Resource{Scalar("mem", 4096)} },
		"hostname":    func(c *Config) { c.Hostname = "other" },
	} {
		changed := cfg
		change(&changed)
		if a, err := New(changed); !errors.Is(err, ErrIncompatible) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				a.Stop()
			}
		}
	}
	r.cfg.Resources = []mesos.Resource{Scalar("cpus", 8), Scalar("mem", 4096)}
	r.begin()
	state := see(r.master, func() link.AgentState { return r.master.states[0] })
	if got := sum(state.Info.Resources, "cpus"); got != 8 {
		t.Errorf("%g cpus", got)
	}
	r.tell(func(a link.Agent) { a.ShutdownExecutor(*framework1.ID, mesos.ExecutorID{Value: "e"}) })
	r.exited("e -1") // no child of this agent's
	eventually(t, "framework gone", func() bool {
		var left int
		r.box.call(func() { left = len(r.frameworks) })
		return left == 0
	})
	r.Stop()
	r.cfg.Resources = []mesos.Resource{Scalar("cpus", 1)}
	r.begin() // nothing was running: as a new agent
}

func TestRegistration(t *testing.T) {
	cfg := settings(t)
	cfg.MasterPingTimeout = time.Hour
	r := start(t, cfg)
	r.run(executorInfo("e"), "a", "run")
	r.master.expect(t, "a", "RUNNING")
	reregistered := func(n int) {
		t.Helper()
		eventually(t, "re-registration", func() bool {
			return see(r.master, func() bool { return len(r.master.states) >= n }) && r.mode() == running
		})
	}
	r.tell(func(a link.Agent) { a.Ping(true) })
	eventually(t, "pong", func() bool { return see(r.master, func() bool { return r.master.pongs == 1 }) })
	r.tell(func(a link.Agent) { a.Ping(false) })
	reregistered(1)

	// A new master knows a task that never came here. It answers the second call.
	old := see(r.master, func() link.Agent { return r.master.agent })
	see(r.master, func() any {
		asked := 0
		r.master.onReregister = func(agent link.Agent, state link.AgentState) {
			if asked++; asked > 1 {
				agent.Reregistered(*state.Info.ID, []link.TaskRef{
					{Framework: *framework1.ID, Task: mesos.TaskID{Value: "lost"}},
					{Framework: *framework1.ID, Task: mesos.TaskID{Value: "a"}},
				})
			}
		}
		return nil
	})
	r.Detected(r.master)
	reregistered(3)
	lost := r.master.expect(t, "lost", "DROPPED")[0]
	if lost.GetReason() != mesos.REASON_RECONCILIATION || len(lost.UUID) != 16 {
		t.Errorf("status %+v", lost)
	}
	old.KillTask(*framework1.ID, mesos.TaskID{Value: "a"}, nil)
	old.ShutdownFramework(*framework1.ID)
	r.tell(func(a link.Agent) { a.Ping(true) }) // what comes after is handled after
	eventually(t, "pong", func() bool { return see(r.master, func() bool { return r.master.pongs == 3 }) })
	if got := states(r.master.of("a")); got != "RUNNING" {
		t.Errorf("an old master was obeyed: %s", got)
	}

	r.Detected(nil)
	eventually(t, "disconnection", func() bool { return r.mode() == disconnected })
	r.Detected(r.master)
	reregistered(4)

	// Removed by the master, it kills all and comes back as a new agent.
	pid := r.pid("e")
	see(r.master, func() any {
		r.master.onRegister = func(agent link.Agent, info mesos.AgentInfo) {
			if info.ID == nil {
				agent.Registered(mesos.AgentID{Value: "agent-2"})
			}
		}
		r.master.agent.Shutdown("test")
		return nil
	})
	eventually(t, "new ID", func() bool { return r.ID().Value == "agent-2" && r.mode() == running })
	if alive(pid) {
		t.Error("the executor lives")
	}
	r.run(executorInfo("e"), "b", "finish")
	r.master.expect(t, "b", "RUNNING FINISHED")
}

func TestSilentMaster(t *testing.T) {
	cfg := settings(t)
	cfg.MasterPingTimeout = 100 * time.Millisecond
	r := start(t, cfg)
	eventually(t, "re-registration", func() bool { return see(r.master, func() bool { return len(r.master.states) > 0 }) })
}

func TestGarbageCollection(t *testing.T) {
	cfg := settings(t)
	cfg.GCDelay = time.Hour
	r := start(t, cfg)
	r.run(executorInfo("dead"), "a", "exit")
	r.run(executorInfo("live"), "b", "run")
	r.exited("dead 768")
	r.master.expect(t, "b", "RUNNING")
	eventually(t, "executor removed", func() bool {
		var n int
		r.box.call(func() { n = len(r.frameworks[*framework1.ID].executors) })
		return n == 1
	})
	dead := filepath.Dir(r.sandbox("dead"))
	r.collect(time.Now().Add(-time.Hour))
	if _, err := os.Stat(r.sandbox("dead")); err != nil {
		t.Errorf("a young sandbox: %v", err)
	}
	r.collect(time.Now().Add(time.Second))
	eventually(t, "sandbox removed", func() bool {
		_, err := os.Stat(filepath.Dir(dead))
		return os.IsNotExist(err)
	})
	if _, err := os.Stat(filepath.Join(r.sandbox("live"), "stdout")); err != nil {
		t.Errorf("sandbox of a living executor: %v", err)
	}
}

// Whenever the agent dies, a task that ran is told to have finished, a task
// that did not is told to have been dropped, and none is told both.
func TestRestartsAtRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := start(t, settings(t))
	e := executorInfo("e")
	var given []string // tasks that the master has sent
	r.master.onReregister = func(agent link.Agent, state link.AgentState) {
		var missing []link.TaskRef
		for _, id := range given {
			here := func(task mesos.Task) bool { return task.TaskID.Value == id }
			if !slices.ContainsFunc(state.Tasks, here) && !r.master.ended[id] {
				missing = append(missing, link.TaskRef{Framework: *framework1.ID, Task: mesos.TaskID{Value: id}})
			}
		}
		agent.Reregistered(*state.Info.ID, missing)
	}
	for round := range 10 {
		for i := range 8 {
			id := fmt.Sprintf("%d-%d", round, i)
			see(r.master, func() any { given = append(given, id); return nil })
			r.run(e, id, "finish")
		}
		pause := time.NewTimer(time.Duration(random.IntN(60)) * time.Millisecond)
		<-pause.C
		r.restart(func() {})
	}
	eventually(t, "an end of every task", func() bool {
		return see(r.master, func() bool { return len(r.master.ended) == len(given) })
	})
	var ran string
	logs, err := filepath.Glob(filepath.Join(filepath.Dir(r.sandbox("e")), "*-*", "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ran += string(data)
	}
	finished := 0
	for _, id := range given {
		got := states(r.master.of(id))
		switch times := strings.Count(ran, "ran "+id+"\n"); {
		case times == 1 && got == "RUNNING FINISHED":
			finished++
		case times == 0 && (got == "DROPPED" || got == "FAILED"):
		default:
			t.Errorf("task %s ran %d times: %s", id, times, got)
		}
	}
	t.Logf("%d of %d tasks finished", finished, len(given))
}

// runAgent is an agent in a process of its own, for TestKilledProcess: it runs
// one task and prints a line when that is acknowledged.
func runAgent(workDir string) {
	m := newMaster()
	a, err := New(Config{WorkDir: workDir, Resources: testResources})
	if err != nil {
		panic(err)
	}
	a.Detected(m)
	r := &rig{Agent: a, master: m}
	for r.mode() != running {
		time.Sleep(time.Millisecond)
	}
	r.run(executorInfo("e"), "a", "run")
	for len(m.of("a")) == 0 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("running")
	select {}
}

// The same with a real kill -9 of a real process.
func TestKilledProcess(t *testing.T) {
	cfg := settings(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self)
	agent.Env = append(os.Environ(), agentVariable+"="+cfg.WorkDir)
	agent.Stderr = os.Stderr
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if killed := agent.Process.Kill(); err != nil || killed != nil {
		t.Fatal(line, err, killed)
	}
	_ = agent.Wait() // it was killed

	runs := filepath.Join(cfg.WorkDir, "slaves/agent-1/frameworks/framework-1/executors/e/runs/latest")
	pid := readPID(t, filepath.Join(runs, "pid"))
	if !alive(pid) {
		t.Fatal("the executor died with its agent")
	}
	if err := os.WriteFile(filepath.Join(runs, "a"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	if got := r.pid("e"); got != pid {
		t.Errorf("executor %d, before %d", got, pid)
	}
	eventually(t, "end of the task", func() bool {
		return strings.HasSuffix(states(r.master.of("a")), "FINISHED")
	})
	r.tell(func(a link.Agent) { a.ShutdownExecutor(*framework1.ID, mesos.ExecutorID{Value: "e"}) })
	r.exited("e -1")
	eventually(t, "executor gone", func() bool { return !alive(pid) })
}
