package mesos

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/mesos/placement"
)

// executor is one kind of executor: Mesos compares the ExecutorInfo of a launch
// with that of the living executor of the same ID and refuses the task if they
// differ, but ignores changed labels and grace period. So the ID is a digest over
// all of it, and what stands under one ID never changes.
type executor struct {
	id       string
	info     *mesos.ExecutorInfo
	overhead placement.Vector
}

// executors makes executors from specs. It may be used by several goroutines.
type executors struct {
	cfg *Config

	mu    sync.Mutex
	known map[ExecutorSpec]*executor // without those of one task
}

func newExecutors(cfg *Config) *executors {
	return &executors{cfg: cfg, known: make(map[ExecutorSpec]*executor)}
}

// of gives the executor that serves a task.
func (e *executors) of(spec ExecutorSpec, taskID string) (*executor, error) {
	if spec.Isolation != "" {
		return e.build(spec, taskID)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.known[spec]; x != nil {
		return x, nil
	}
	x, err := e.build(spec, "")
	if err == nil {
		e.known[spec] = x
	}
	return x, err
}

func (e *executors) build(spec ExecutorSpec, taskID string) (*executor, error) {
	overhead, role := spec.revocable.of(e.cfg.ExecutorResources.vector()), e.cfg.roleOf(spec.Owner)
	info := &mesos.ExecutorInfo{
		Type:                mesos.ExecutorInfo_CUSTOM,
		FrameworkID:         &mesos.FrameworkID{Value: e.cfg.FrameworkID},
		Command:             e.command(),
		Resources:           scalars(overhead, role),
		Name:                ptr("baas executor of " + spec.Owner),
		Source:              ptr(e.cfg.Name),
		ShutdownGracePeriod: &mesos.DurationInfo{Nanoseconds: e.cfg.ExecutorGrace.Nanoseconds()},
		Labels: labels(map[string]string{
			"baas.owner": spec.Owner, "baas.image": spec.Image, "baas.isolation": spec.Isolation,
		}),
	}
	volumes, err := spec.Volumes.list()
	if err == nil && len(volumes) > 0 && spec.Image == "" {
		err = errors.New("volumes without an image")
	}
	if err != nil {
		return nil, fmt.Errorf("executor of owner %q: %w", spec.Owner, err)
	}
	if spec.Image != "" {
		info.Container = &mesos.ContainerInfo{
			Type: mesos.ContainerInfo_MESOS.Enum(),
			Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{
				Type:   mesos.Image_DOCKER.Enum(),
				Docker: &mesos.Image_Docker{Name: spec.Image},
			}},
			Volumes: volumes,
		}
	}
	files, err := spec.URIs.uris()
	if err != nil {
		return nil, fmt.Errorf("executor of owner %q: %w", spec.Owner, err)
	}
	info.Command.URIs = append(info.Command.URIs, files...)
	described, err := info.Marshal() // no maps inside, so equal infos give equal bytes
	if err != nil {
		return nil, fmt.Errorf("executor of owner %q: %w", spec.Owner, err)
	}
	digest := sha256.New()
	for _, part := range [][]byte{described, []byte(e.cfg.ExecutorSHA256), []byte(taskID)} {
		fmt.Fprintf(digest, "%d:", len(part))
		digest.Write(part)
	}
	info.ExecutorID.Value = "baas-" + hex.EncodeToString(digest.Sum(nil)[:16])
	return &executor{id: info.ExecutorID.Value, info: info, overhead: overhead}, nil
}

func (e *executors) command() *mesos.CommandInfo {
	c := &mesos.CommandInfo{
		Shell:     ptr(false),
		Value:     &e.cfg.ExecutorCommand,
		Arguments: append([]string{path.Base(e.cfg.ExecutorCommand)}, e.cfg.ExecutorArgs...),
	}
	if e.cfg.ExecutorURI != "" {
		c.URIs = []mesos.CommandInfo_URI{{
			Value:      e.cfg.ExecutorURI,
			Executable: ptr(true),
			Extract:    ptr(false),
			Cache:      ptr(true),
		}}
		if !path.IsAbs(e.cfg.ExecutorCommand) {
			c.URIs[0].OutputFile = ptr(path.Clean(e.cfg.ExecutorCommand))
		}
	}
	if len(e.cfg.ExecutorEnv) > 0 {
		c.Environment = &mesos.Environment{}
		for _, name := range slices.Sorted(maps.Keys(e.cfg.ExecutorEnv)) {
			c.Environment.Variables = append(c.Environment.Variables, mesos.Environment_Variable{
				Name: name, Type: mesos.Environment_Variable_VALUE.Enum(), Value: ptr(e.cfg.ExecutorEnv[name]),
			})
		}
	}
	return c
}

// taskInfo describes a task for a LAUNCH.
func taskInfo(w *waiting, o *offer, l Launch) mesos.TaskInfo {
	info := mesos.TaskInfo{
		Name:      w.Name,
		TaskID:    mesos.TaskID{Value: w.ID},
		AgentID:   mesos.AgentID{Value: o.agent.ID},
		Executor:  w.executor.info,
		Resources: append(scalars(w.need, o.role), portResource(w.Ports, o.role)...),
		Data:      l.Data,
		Labels:    labels(l.Labels),
	}
	if info.Name == "" {
		info.Name = w.ID
	}
	info.Limits = w.Limits.scalars()
	if w.Grace > 0 {
		info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: w.Grace.Nanoseconds()}}
	}
	return info
}

// labels sorts, and leaves out what is empty.
func labels(m map[string]string) *mesos.Labels {
	var out []mesos.Label
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if m[key] != "" {
			out = append(out, mesos.Label{Key: key, Value: ptr(m[key])})
		}
	}
	if out == nil {
		return nil
	}
	return &mesos.Labels{Labels: out}
}

func ptr[T any](v T) *T { return &v }
