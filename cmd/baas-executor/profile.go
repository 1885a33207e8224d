//go:build profile

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profiled writes what the executor has used in all its life, CPU time and what was
// allocated, to files named after this process in the directory that
// BAAS_EXECUTOR_PROFILE names, if there is one.
func profiled(run func() error) (err error) {
	dir := os.Getenv("BAAS_EXECUTOR_PROFILE")
	if dir == "" {
		return run()
	}
	name := filepath.Join(dir, fmt.Sprintf("executor-%d", os.Getpid()))
	cpu, err := os.Create(name + ".cpu.pprof")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cpu.Close()) }()
	allocs, err := os.Create(name + ".allocs.pprof")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, allocs.Close()) }()
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	err = run()
	pprof.StopCPUProfile()
	return errors.Join(err, pprof.Lookup("allocs").WriteTo(allocs, 0))
}
