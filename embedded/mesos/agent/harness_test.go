package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// master is a fake that remembers what it hears. It acknowledges updates unless
// it holds them.
type master struct {
	onRegister   func(agent link.Agent, info mesos.AgentInfo)
	onReregister func(agent link.Agent, state link.AgentState)

	mu           sync.Mutex
	agent        link.Agent
	hold         bool
	states       []link.AgentState
	updates      []link.StatusUpdate
	ended        map[string]bool // tasks whose terminal update was acknowledged
	exits        []string
	executors    map[[2]string]bool // of framework and ID: believed alive
	messages     []string
	pongs        int
	unregistered int
}

func newMaster() *master {
	return &master{
		ended:      map[string]bool{},
		executors:  map[[2]string]bool{},
		onRegister: func(agent link.Agent, _ mesos.AgentInfo) { agent.Registered(mesos.AgentID{Value: "agent-1"}) },
		onReregister: func(agent link.Agent, state link.AgentState) {
			agent.Reregistered(*state.Info.ID, nil)
		},
	}
}

func (m *master) Register(agent link.Agent, info mesos.AgentInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = agent
	clear(m.executors)
	m.onRegister(agent, info)
}

func (m *master) Reregister(agent link.Agent, state link.AgentState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = agent
	m.states = append(m.states, state)
	clear(m.executors)
	for _, e := range state.Executors {
		m.executors[[2]string{e.Framework.Value, e.Info.ExecutorID.Value}] = true
	}
	m.onReregister(agent, state)
}

func (m *master) Unregister(mesos.AgentID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unregistered++
}

func (m *master) Oversubscribe(mesos.AgentID, []mesos.Resource) {}

func (m *master) Pong(mesos.AgentID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pongs++
}

func (m *master) Update(u link.StatusUpdate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.updates = append(m.updates, u)
	if !m.hold {
		if terminal(*u.Status.State) {
			m.ended[u.Status.TaskID.Value] = true
		}
		m.agent.Acknowledge(u.Framework, u.Status.TaskID, u.Status.UUID)
	}
}

func (m *master) ExecutorMessage(_ mesos.AgentID, _ mesos.FrameworkID, _ mesos.ExecutorID, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = append(m.messages, string(data))
}

func (m *master) ExecutorExited(_ mesos.AgentID, f mesos.FrameworkID, e mesos.ExecutorID, status int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.executors, [2]string{f.Value, e.Value})
	m.exits = append(m.exits, fmt.Sprintf("%s %d", e.Value, status))
}

// see runs f under the lock.
func see[T any](m *master, f func() T) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f()
}

// of gives the distinct updates of a task, in order.
func (m *master) of(task string) []mesos.TaskStatus {
	return see(m, func() []mesos.TaskStatus {
		var list []mesos.TaskStatus
		for _, u := range m.updates {
			same := func(s mesos.TaskStatus) bool { return string(s.UUID) == string(u.Status.UUID) }
			if u.Status.TaskID.Value == task && !slices.ContainsFunc(list, same) {
				list = append(list, u.Status)
			}
		}
		return list
	})
}

func states(list []mesos.TaskStatus) string {
	var names []string
	for _, s := range list {
		names = append(names, strings.TrimPrefix(s.GetState().String(), "TASK_"))
	}
	return strings.Join(names, " ")
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// expect waits for exactly these states of a task.
func (m *master) expect(t *testing.T, task, want string) []mesos.TaskStatus {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); states(m.of(task)) != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("task %s: %s, want %s\n%v", task, states(m.of(task)), want, m.of(task))
		}
	}
	return m.of(task)
}

// rig is an agent with its master.
type rig struct {
	*Agent
	t      *testing.T
	cfg    Config
	master *master
}

var testResources = []mesos.Resource{Scalar("cpus", 4), Scalar("mem", 4096)}

func settings(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	// Executors of other users go through it.
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{
		WorkDir: filepath.Join(dir, "work"), Resources: testResources,
		RegistrationBackoffFactor: 20 * time.Millisecond, MemoryInterval: 50 * time.Millisecond,
		ExecutorReregistrationTimeout: 10 * time.Second, UpdateRetryMin: 100 * time.Millisecond,
		ExecutorShutdownGracePeriod: 10 * time.Second,
	}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return cfg
}

func start(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, cfg: cfg, master: newMaster()}
	r.begin()
	t.Cleanup(func() {
		if t.Failed() {
			r.printLogs()
		}
		ended, cancel := contextNow()
		defer cancel()
		if err := r.Terminate(ended); err != nil && ended.Err() == nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) begin() {
	r.t.Helper()
	a, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Agent = a
	r.Detected(r.master)
	eventually(r.t, "registration", func() bool { return r.mode() == running })
}

func (r *rig) mode() (s state) {
	r.box.call(func() { s = r.Agent.state })
	return s
}

// restart is what a kill -9 and a new start of the agent are to everybody else.
func (r *rig) restart(between func()) {
	r.t.Helper()
	r.Stop()
	between()
	r.begin()
}

func (r *rig) printLogs() {
	logs, _ := filepath.Glob(filepath.Join(r.cfg.WorkDir, "slaves/*/frameworks/*/executors/*/runs/*/std*"))
	for _, path := range logs {
		data, _ := os.ReadFile(path)
		r.t.Logf("%s:\n%s", path, data)
	}
}

func p[T any](v T) *T { return &v }

var framework1 = mesos.FrameworkInfo{
	Name: "test", ID: &mesos.FrameworkID{Value: "framework-1"}, Checkpoint: p(true),
	Capabilities: []mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE}},
}

func variable(name, value string) mesos.Environment_Variable {
	return mesos.Environment_Variable{Name: name, Value: &value}
}

// executorInfo runs this test binary.
func executorInfo(id string) *mesos.ExecutorInfo {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return &mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_CUSTOM, ExecutorID: mesos.ExecutorID{Value: id}, FrameworkID: framework1.ID,
		Command: &mesos.CommandInfo{
			Shell: p(false), Value: &self, Arguments: []string{"executor"},
			Environment: &mesos.Environment{Variables: []mesos.Environment_Variable{variable(executorVariable, "protobuf")}},
		},
		Resources: []mesos.Resource{Scalar("cpus", 0.1), Scalar("mem", 128)},
	}
}

func (r *rig) run(e *mesos.ExecutorInfo, task, data string) {
	r.runAs(framework1, mesos.TaskInfo{
		Name: task, TaskID: mesos.TaskID{Value: task}, AgentID: r.ID(), Executor: e, Data: []byte(data),
		Resources: []mesos.Resource{Scalar("cpus", 0.1), Scalar("mem", 64)},
	})
}

func (r *rig) runAs(f mesos.FrameworkInfo, task mesos.TaskInfo) {
	see(r.master, func() any {
		launch := false
		if task.Executor != nil {
			id := [2]string{f.ID.Value, task.Executor.ExecutorID.Value}
			launch, r.master.executors[id] = !r.master.executors[id], true
		}
		r.master.agent.RunTask(f, task, launch)
		return nil
	})
}

func (r *rig) tell(f func(link.Agent)) {
	see(r.master, func() any { f(r.master.agent); return nil })
}

// pid of a living executor.
func (r *rig) pid(executor string) int {
	r.t.Helper()
	var pid int
	eventually(r.t, "executor "+executor, func() bool {
		r.box.call(func() {
			for _, f := range r.frameworks {
				if e := f.executors[mesos.ExecutorID{Value: executor}]; e != nil && e.container != nil {
					pid = e.container.Record().PID
				}
			}
		})
		return pid != 0
	})
	return pid
}

func (r *rig) sandbox(executor string) string {
	return filepath.Join(r.runsDir(*framework1.ID, mesos.ExecutorID{Value: executor}), "latest")
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	var data []byte
	eventually(t, path, func() bool {
		var err error
		data, err = os.ReadFile(path)
		return err == nil && len(data) > 0
	})
	return string(data)
}

func readPID(t *testing.T, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(readFile(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
