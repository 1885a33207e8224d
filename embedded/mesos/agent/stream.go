package agent

import (
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/checkpoint"
	"github.com/baas-batch/baas/embedded/mesos/link"
)

type streamKey struct {
	framework mesos.FrameworkID
	task      mesos.TaskID
}

// stream passes the updates of one task to the master, in order, each again and
// again until the framework acknowledges it (Mesos' task status update manager).
type stream struct {
	agent   *Agent
	key     streamKey
	log     *checkpoint.Log // nil: not checkpointed
	pending []mesos.TaskStatus
	known   map[string]bool // UUIDs ever received
	timer   *time.Timer
	over    bool // its terminal update is acknowledged, or nobody will
}

// stream gives the stream of a task, new if there is none.
func (a *Agent) stream(framework mesos.FrameworkID, task mesos.TaskID, log *checkpoint.Log) *stream {
	key := streamKey{framework, task}
	s := a.streams[key]
	if s == nil {
		s = &stream{agent: a, key: key, log: log, known: map[string]bool{}}
		a.streams[key] = s
	}
	return s
}

// add takes an update that was not known before, checkpointed if it must be.
func (s *stream) add(status mesos.TaskStatus) {
	s.known[string(status.UUID)] = true
	s.pending = append(s.pending, status)
	if len(s.pending) == 1 {
		s.resume()
	}
}

// resume sends the oldest update, and again with a growing backoff.
func (s *stream) resume() { s.forward(s.agent.cfg.UpdateRetryMin) }

func (s *stream) forward(retry time.Duration) {
	s.stopTimer()
	if s.over || len(s.pending) == 0 || s.agent.state != running {
		return
	}
	status := s.pending[0]
	latest := *status.State
	if task := s.agent.taskOf(s.key); task != nil {
		task.StatusUpdateState, task.StatusUpdateUUID = status.State, status.UUID
		latest = *task.State
	}
	s.agent.master.Update(link.StatusUpdate{
		Framework: s.key.framework, Agent: *s.agent.info.ID, Executor: status.ExecutorID,
		Status: status, Latest: latest,
	})
	uuid := string(status.UUID)
	s.timer = s.agent.box.after(retry, func() {
		if len(s.pending) > 0 && string(s.pending[0].UUID) == uuid {
			s.forward(min(2*retry, s.agent.cfg.UpdateRetryMax))
		}
	})
}

func (s *stream) stopTimer() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

func (s *stream) end() {
	s.over = true
	s.stopTimer()
	if s.agent.streams[s.key] == s {
		delete(s.agent.streams, s.key)
	}
}

// acknowledge takes the framework's word on an update.
func (a *Agent) acknowledge(framework mesos.FrameworkID, task mesos.TaskID, uuid []byte) {
	log := a.log.With("framework", framework.Value, "task", task.Value)
	if a.state != running {
		log.Warn("acknowledgement dropped", "state", a.state)
		return
	}
	s := a.streams[streamKey{framework, task}]
	if s == nil || len(s.pending) == 0 || string(s.pending[0].UUID) != string(uuid) {
		log.Debug("unexpected acknowledgement") // of an update that was sent twice
		return
	}
	if s.log != nil {
		if err := s.log.Ack(task, uuid); err != nil {
			log.Error("acknowledgement is not kept: it will be asked for again", "error", err)
			return
		}
	}
	last := s.pending[0]
	s.pending = s.pending[1:]
	if !terminal(*last.State) {
		s.resume()
		return
	}
	s.end()
	a.acknowledgedToTheEnd(framework, task)
}

// acknowledgedToTheEnd lets go of a task, and of its executor if that only
// waited for it.
func (a *Agent) acknowledgedToTheEnd(framework mesos.FrameworkID, task mesos.TaskID) {
	f := a.frameworks[framework]
	if f == nil {
		return
	}
	if e := f.executorOf(task); e != nil {
		e.complete(task)
		if e.state == executorTerminated && !e.incomplete() {
			a.removeExecutor(f, e)
		}
	}
	a.removeIdle(f)
}
