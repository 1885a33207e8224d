package agent

import (
	"fmt"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
)

type metered struct {
	executor  *executorRun
	container *container.Container
	limit     int64
}

// watchContainers destroys those that use more memory than they have. It sums
// what is resident, which is cheap and counts shared pages more than once, and
// makes sure by the proportional sizes. The same look keeps track of what
// belongs to a container.
func (a *Agent) watchContainers() {
	ticker := time.NewTicker(a.cfg.MemoryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-ticker.C:
		}
		for _, m := range a.living() {
			a.look(m)
		}
	}
}

func (a *Agent) look(m metered) {
	usage := m.container.Usage()
	if m.container.Changed() {
		a.box.post(func() {
			if m.executor.state != executorTerminated {
				a.saveContainer(m.executor)
			}
		})
	}
	if m.limit <= 0 || usage.Memory <= m.limit {
		return
	}
	if used := m.container.Proportional(); used > m.limit {
		a.box.post(func() { a.outOfMemory(m.executor, used) })
	}
}

func (a *Agent) living() []metered {
	var list []metered
	a.box.call(func() {
		for _, f := range a.frameworks {
			for _, e := range f.executors {
				if e.container != nil && e.state != executorTerminated {
					list = append(list, metered{e, e.container, e.memory})
				}
			}
		}
	})
	return list
}

func (a *Agent) outOfMemory(e *executorRun, used int64) {
	if e.state == executorTerminated || e.doomed || used <= e.memory {
		return
	}
	a.log.Warn("container is over its memory", "framework", e.framework.Value, "executor", e.id().Value,
		"limit", e.memory, "used", used)
	mem := Scalar("mem", float64(used)/(1<<20))
	e.died = &termination{
		state: mesos.TASK_FAILED, reason: mesos.REASON_CONTAINER_LIMITATION_MEMORY,
		message:    fmt.Sprintf("Memory limit exceeded: Requested: %s Maximum Used: %s", size(e.memory), size(used)),
		limitation: &mesos.TaskResourceLimitation{Resources: []mesos.Resource{mem}},
	}
	a.destroy(e)
}

// size writes a number of bytes as Mesos does.
func size(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}} {
		if n%unit.size == 0 && n >= unit.size || n >= 100*unit.size {
			return fmt.Sprintf("%d%s", n/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}
