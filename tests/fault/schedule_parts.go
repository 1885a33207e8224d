package fault

import (
	"syscall"

	"github.com/baas-batch/baas/tests/harness"
)

// killWorker kills the worker that leads, or one that does not.
func killWorker(leading bool) func(*testbed, *injection) (effect, bool) {
	return func(s *testbed, in *injection) (effect, bool) {
		i, key, ok := s.someWorker(in, leading)
		if !ok || s.Workers[i].Kill() != nil {
			return effect{}, false
		}
		return effect{keys: key, end: func() { s.do(s.Workers[i].Launch()) }}, true
	}
}

// pauseWorker stops the worker that leads, or one that does not, by SIGSTOP.
func pauseWorker(leading bool) func(*testbed, *injection) (effect, bool) {
	return func(s *testbed, in *injection) (effect, bool) {
		i, key, ok := s.someWorker(in, leading)
		if !ok || s.Workers[i].Pause() != nil {
			return effect{}, false
		}
		return effect{keys: key, end: func() { s.do(s.Workers[i].Resume()) }}, true
	}
}

// killExecutors kills the executors of one agent, and with them their tasks.
func killExecutors(s *testbed, in *injection) (effect, bool) {
	i, _, ok := s.some(in, "agent", s.cfg.Agents)
	return effect{}, ok && s.KillExecutors(i) > 0
}

// pauseExecutors stops the executors of one agent; their tasks run on.
func pauseExecutors(s *testbed, in *injection) (effect, bool) {
	i, key, ok := s.some(in, "agent", s.cfg.Agents)
	if !ok {
		return effect{}, false
	}
	var paused []harness.Proc
	for _, p := range s.Executors(i) {
		if p.Alive() && syscall.Kill(p.PID, syscall.SIGSTOP) == nil {
			paused = append(paused, p)
		}
	}
	resume := func() {
		for _, p := range paused {
			if p.Alive() {
				_ = syscall.Kill(p.PID, syscall.SIGCONT) // it may have been killed
			}
		}
	}
	return effect{keys: key, end: resume}, len(paused) > 0
}

// killTask kills the process of one task, which is the user's failure.
func killTask(s *testbed, in *injection) (effect, bool) {
	for _, i := range in.rand.Perm(len(s.runs)) {
		r := s.runs[i]
		living := r.Ledger().Living()
		for _, j := range in.rand.Perm(len(living)) {
			e := living[j]
			step, _ := r.Flow.step(e.Step)
			kills := 0
			for _, k := range r.kills {
				if k.Partition == e.Partition {
					kills++
				}
			}
			if step.killable(kills) && r.Kill(e) {
				return effect{}, true
			}
		}
	}
	return effect{}, false
}

// killRun kills a run as its user would. What Temporal cannot be told now is told
// later.
func killRun(s *testbed, in *injection) (effect, bool) {
	r := s.runs[in.rand.IntN(len(s.runs))]
	if s.killed[r] || r.ended() {
		return effect{}, false
	}
	s.killing[r] = true // the call may arrive although it fails
	ctx, cancel := s.soon()
	defer cancel()
	if err := s.Runs.Kill(ctx, r.ID, "a fault", "test"); err != nil {
		return effect{}, false
	}
	s.killed[r] = true
	return effect{}, true
}

// loseAgent cuts an agent off its master.
func loseAgent(s *testbed, in *injection) (effect, bool) {
	i, key, ok := s.some(in, "agent", s.cfg.Agents)
	if !ok {
		return effect{}, false
	}
	s.LoseAgent(i)
	return effect{keys: key, end: func() { s.ReturnAgent(i) }}, true
}

// killAgent kills an agent's own process, and starts it again.
func killAgent(s *testbed, in *injection) (effect, bool) {
	i, key, ok := s.some(in, "agent", s.cfg.Agents)
	if !ok {
		return effect{}, false
	}
	s.KillAgent(i)
	return effect{keys: key, end: func() { s.RestartAgent(i) }}, true
}

// loseMachine ends an agent with all that runs there. It comes back after a while,
// or is marked gone first and another one comes in its place.
func loseMachine(replaced bool) func(*testbed, *injection) (effect, bool) {
	return func(s *testbed, in *injection) (effect, bool) {
		i, keys, ok := s.some(in, "agent", s.cfg.Agents)
		if !ok || replaced && !s.markable() {
			return effect{}, false
		}
		if replaced {
			keys = append(keys, mastersKey)
		}
		s.LoseMachine(i)
		s.Harm(i)
		return effect{keys: keys, end: func() {
			if replaced {
				s.MarkGone(i)
			}
			s.Harm(i) // what ran there comes to light only now
			s.ReturnAgent(i)
			s.RestartAgent(i)
		}}, true
	}
}

// markGone marks an agent that lives as gone: it ends all its executors, and
// another one comes in its place.
func markGone(s *testbed, in *injection) (effect, bool) {
	i, _, ok := s.some(in, "agent", s.cfg.Agents)
	if !ok || !s.markable() {
		return effect{}, false
	}
	s.MarkGone(i)
	return effect{}, true
}

// markable tells whether a master leads that knows all agents. One that is marked
// gone before the master has seen it is a fault of Mesos' own (MESOS-9739): what is
// asked of its tasks gets no answer until the next master leads.
func (s *testbed) markable() bool {
	ctx, cancel := s.soon()
	defer cancel()
	return !s.busy[mastersKey] && s.Cluster.AwaitAgents(ctx) == nil
}
