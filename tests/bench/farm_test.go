package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
	"github.com/baas-batch/baas/embedded/mesos/master"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	"github.com/baas-batch/baas/tasklet"
)

// farm is a cluster without processes: a real embedded master, and agents that
// only say what agents say. The first argument of a task's command says how long it
// runs: a duration, "gate" for until the farm is opened, or "forever" for until it
// is ended by hand.
type farm struct {
	tb     testing.TB
	master *master.Master

	acks atomic.Int64 // of updates

	mu      sync.Mutex
	starts  []start
	running map[string]*chore // by task ID
	changed chan struct{}
	opened  bool
	closed  bool
}

// start is one task that was started.
type start struct {
	id    tasklet.TaskID
	owner string
}

// chore is a task that runs.
type chore struct {
	agent     *plot
	framework mesos.FrameworkID
	task      mesos.TaskInfo
	launch    tasklet.Launch
}

// newFarm starts agents of so many CPUs each, and of more memory than matters.
func newFarm(tb testing.TB, agents int, cpus float64) *farm {
	tb.Helper()
	m, err := master.New(master.Config{AllocationInterval: 10 * time.Millisecond})
	if err != nil {
		tb.Fatal(err)
	}
	f := &farm{tb: tb, master: m, running: make(map[string]*chore), changed: make(chan struct{})}
	tb.Cleanup(func() {
		f.mu.Lock()
		f.closed = true
		f.mu.Unlock()
		m.Stop()
	})
	for i := range agents {
		m.Register(&plot{farm: f}, mesos.AgentInfo{
			Hostname: fmt.Sprintf("host-%d", i),
			Resources: []mesos.Resource{
				mesostest.Scalar("cpus", cpus), mesostest.Scalar("mem", 1<<20), mesostest.Scalar("disk", 1<<20),
			},
		})
	}
	return f
}

// wake tells those who wait in until. f.mu is held.
func (f *farm) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// until waits until what the farm has seen meets a condition, which is asked with
// the farm locked.
func (f *farm) until(what string, patience time.Duration, ok func() bool) {
	f.tb.Helper()
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		done, changed := ok(), f.changed
		starts, running := len(f.starts), len(f.running)
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			f.tb.Fatalf("waited %s in vain: %s; %d tasks were started, %d run", patience, what, starts, running)
		}
	}
}

// started copies the starts so far.
func (f *farm) started() []start {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]start(nil), f.starts...)
}

// finish ends one running task that was made with "forever", if there is one.
func (f *farm) finish() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, c := range f.running {
		if c.launch.Args[0] == "forever" {
			f.end(id, mesos.TASK_FINISHED, tasklet.Succeeded)
			return true
		}
	}
	return false
}

// open ends all tasks that wait at the gate, and those that come there later.
func (f *farm) open() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened = true
	for id, c := range f.running {
		if c.launch.Args[0] == "gate" {
			f.end(id, mesos.TASK_FINISHED, tasklet.Succeeded)
		}
	}
}

// end ends a task. f.mu is held.
func (f *farm) end(id string, state mesos.TaskState, outcome tasklet.Outcome) {
	c := f.running[id]
	if c == nil || f.closed {
		return
	}
	delete(f.running, id)
	f.wake()
	var data tasklet.StatusData
	for _, p := range c.launch.Partitions {
		data.Results = append(data.Results, tasklet.Result{Partition: p.Index, Outcome: outcome, Ended: time.Now()})
	}
	raw, err := json.Marshal(data)
	if err != nil {
		f.tb.Error(err)
	}
	c.tell(state, raw)
}

// tell sends a status update.
func (c *chore) tell(state mesos.TaskState, data []byte) {
	id, now := uuid.New(), float64(time.Now().UnixNano())/1e9
	agent := c.agent.id
	c.agent.farm.master.Update(link.StatusUpdate{
		Framework: c.framework, Agent: agent, Executor: &c.task.Executor.ExecutorID, Latest: state,
		Status: mesos.TaskStatus{
			TaskID: c.task.TaskID, AgentID: &agent, ExecutorID: &c.task.Executor.ExecutorID,
			State: state.Enum(), Source: mesos.SOURCE_EXECUTOR.Enum(), UUID: id[:], Data: data, Timestamp: &now,
		},
	})
}

// plot is one agent of a farm.
type plot struct {
	farm *farm
	id   mesos.AgentID
}

var _ link.Agent = (*plot)(nil)

func (p *plot) Registered(id mesos.AgentID) { p.id = id }

// RunTask starts a task at once.
func (p *plot) RunTask(framework mesos.FrameworkInfo, task mesos.TaskInfo, _ bool) {
	f := p.farm
	id, err := tasklet.ParseTaskID(task.TaskID.Value)
	c := &chore{agent: p, framework: *framework.ID, task: task}
	if err == nil {
		err = json.Unmarshal(task.Data, &c.launch)
	}
	if err != nil {
		f.tb.Errorf("task %s: %v", task.TaskID.Value, err)
		return
	}
	c.task.Data = nil
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.starts = append(f.starts, start{id, c.launch.Owner})
	f.running[task.TaskID.Value] = c
	f.wake()
	c.tell(mesos.TASK_RUNNING, nil)
	if f.opened && c.launch.Args[0] == "gate" {
		f.end(task.TaskID.Value, mesos.TASK_FINISHED, tasklet.Succeeded)
	}
	if last, err := time.ParseDuration(c.launch.Args[0]); err == nil {
		time.AfterFunc(last, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.end(task.TaskID.Value, mesos.TASK_FINISHED, tasklet.Succeeded)
		})
	}
}

func (p *plot) KillTask(_ mesos.FrameworkID, task mesos.TaskID, _ *mesos.KillPolicy) {
	p.farm.mu.Lock()
	defer p.farm.mu.Unlock()
	p.farm.end(task.Value, mesos.TASK_KILLED, tasklet.Killed)
}

// ShutdownExecutor ends one that has no tasks any more: the framework asks for no
// other.
func (p *plot) ShutdownExecutor(framework mesos.FrameworkID, executor mesos.ExecutorID) {
	p.farm.master.ExecutorExited(p.id, framework, executor, 0)
}

func (p *plot) Ping(bool) { p.farm.master.Pong(p.id) }

func (p *plot) Acknowledge(mesos.FrameworkID, mesos.TaskID, []byte) { p.farm.acks.Add(1) }

// The rest needs no answer here.

func (p *plot) Reregistered(mesos.AgentID, []link.TaskRef)                   {}
func (p *plot) Shutdown(string)                                              {}
func (p *plot) Drain(*mesos.DrainConfig)                                     {}
func (p *plot) ShutdownFramework(mesos.FrameworkID)                          {}
func (p *plot) UpdateFramework(mesos.FrameworkInfo)                          {}
func (p *plot) FrameworkMessage(mesos.FrameworkID, mesos.ExecutorID, []byte) {}
