package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime/pprof"

	"github.com/baas-batch/baas/mesos"
)

// profiled measures under a CPU profile, if profiles are wanted. What was allocated
// before goes into a file of its own, to be taken off: `go tool pprof -base`.
func (j job) profiled(name string, measure func() (Sample, error)) (s Sample, err error) {
	if j.Profile == "" {
		return measure()
	}
	if err := j.allocations(name + ".before.allocs.pprof"); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(j.Profile, name+".cpu.pprof"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	s, err = measure()
	pprof.StopCPUProfile()
	return s, errors.Join(err, j.allocations(name+".allocs.pprof"))
}

func (j job) allocations(name string) error {
	f, err := os.Create(filepath.Join(j.Profile, name))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// profileExecutor has the executors write profiles of all their life when they end.
func (j job) profileExecutor(c *mesos.Config) {
	if j.Profile == "" {
		return
	}
	env := maps.Clone(c.ExecutorEnv)
	if env == nil {
		env = make(map[string]string)
	}
	env["BAAS_EXECUTOR_PROFILE"] = j.Profile
	c.ExecutorEnv = env
}
