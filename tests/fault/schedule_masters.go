package fault

import (
	"os"
	"time"
)

// mastersKey is held by faults of the masters themselves.
const mastersKey = "masters"

func restartMaster(s *testbed, _ *injection) (effect, bool) {
	if s.busy[mastersKey] {
		return effect{}, false
	}
	s.doubt()
	s.RestartMaster()
	return effect{}, true
}

// failoverMaster kills the leading master; another one leads at once, and the old
// one comes back as a standby.
func failoverMaster(s *testbed, _ *injection) (effect, bool) {
	return s.changeMaster(func() error { return s.Cluster.FailoverMaster(s.Context()) })
}

// deposeMaster is a failover that the old master learns of too late.
func deposeMaster(s *testbed, _ *injection) (effect, bool) {
	return s.changeMaster(func() error { return s.Cluster.DeposeMaster(s.Context()) })
}

func (s *testbed) changeMaster(change func() error) (effect, bool) {
	if s.busy[mastersKey] {
		return effect{}, false
	}
	s.doubt()
	old := s.Cluster.Leader()
	s.do(change())
	return effect{keys: []string{mastersKey}, end: func() { s.do(s.Cluster.ReviveMaster(s.Context(), old)) }}, true
}

// withoutMaster leaves nobody to lead for a while.
func withoutMaster(s *testbed, in *injection) (effect, bool) {
	if s.busy[mastersKey] {
		return effect{}, false
	}
	s.doubt()
	old := s.Cluster.Leader()
	s.do(s.Cluster.KillMaster(old))
	next := in.rand.IntN(s.cfg.Masters)
	return effect{keys: []string{mastersKey}, end: func() {
		s.do(s.Cluster.ReviveMaster(s.Context(), old))
		s.do(s.Cluster.ElectMaster(s.Context(), next))
	}}, true
}

// loseCalls has the leading master answer calls that it does not carry out, until
// it dies: that is why they are lost.
func loseCalls(s *testbed, in *injection) (effect, bool) {
	if s.busy[mastersKey] {
		return effect{}, false
	}
	e, ok := trick(calls, forget)(s, in)
	heal := e.end
	e.keys = append(e.keys, mastersKey)
	e.end = func() {
		heal()
		s.RestartMaster()
	}
	return e, ok
}

// killTemporal kills Temporal, and starts it again.
func killTemporal(s *testbed, _ *injection) (effect, bool) {
	if s.busy["temporal"] || s.Temporal.Kill() != nil {
		return effect{}, false
	}
	return effect{keys: []string{"temporal"}, end: s.StartTemporal}, true
}

func pauseTemporal(s *testbed, _ *injection) (effect, bool) {
	if s.busy["temporal"] || s.Temporal.Pause() != nil {
		return effect{}, false
	}
	return effect{keys: []string{"temporal"}, end: func() { s.do(s.Temporal.Resume()) }}, true
}

// hideExecutor makes the executor's binary unavailable, and kills the executors of
// an agent so that it is needed.
func hideExecutor(s *testbed, in *injection) (effect, bool) {
	agent, _, ok := s.some(in, "agent", s.cfg.Agents)
	path := s.Workers[0].Config.Executor
	if !ok || s.busy["binary"] || len(s.Executors(agent)) == 0 {
		return effect{}, false
	}
	s.hidden = true
	s.do(os.Rename(path, path+".away"))
	s.KillExecutors(agent)
	return effect{keys: []string{"binary"}, end: func() { s.do(os.Rename(path+".away", path)) }}, true
}

// storeDelay is how long each call of a slow store takes.
const storeDelay = 400 * time.Millisecond

func failStore(s *testbed, in *injection) (effect, bool) {
	return s.storeFault(in, StoreFault{Every: 1 + in.rand.IntN(3)})
}

func slowStore(s *testbed, in *injection) (effect, bool) {
	return s.storeFault(in, StoreFault{Delay: storeDelay})
}

func (s *testbed) storeFault(in *injection, f StoreFault) (effect, bool) {
	i, ok := s.leading()
	if key := name("store", i); ok && !s.busy[key] {
		control := s.Workers[i].Store
		struck := since(control.Struck)
		s.do(control.Set(f))
		return effect{keys: []string{key}, end: func() { s.do(control.Heal()) }, struck: struck}, true
	}
	return effect{}, false
}
