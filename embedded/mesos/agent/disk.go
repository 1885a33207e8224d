package agent

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

type quota struct {
	executor *executorRun
	sandbox  string
	limit    int64
}

// watchDisks destroys containers whose sandbox has grown over their disk, as the
// disk/du isolator of Mesos does with --enforce_container_disk_quota.
func (a *Agent) watchDisks() {
	ticker := time.NewTicker(a.cfg.DiskInterval)
	defer ticker.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-ticker.C:
		}
		for _, q := range a.quotas() {
			if used := diskUsage(q.sandbox); used > q.limit {
				a.box.post(func() { a.outOfDisk(q, used) })
			}
		}
	}
}

// quotas lists the living containers that have disk in their resources.
func (a *Agent) quotas() []quota {
	var list []quota
	a.box.call(func() {
		for _, f := range a.frameworks {
			for _, e := range f.executors {
				if e.container == nil || e.state == executorTerminated {
					continue
				}
				if mb := sum(e.resources(), "disk"); mb > 0 {
					list = append(list, quota{e, e.directory, int64(mb * (1 << 20))})
				}
			}
		}
	})
	return list
}

// diskUsage counts the blocks of all files below a directory; of what vanishes
// meanwhile it counts nothing.
func diskUsage(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				bytes += st.Blocks * 512
			}
		}
		return nil
	})
	return bytes
}

func (a *Agent) outOfDisk(q quota, used int64) {
	e := q.executor
	if e.state == executorTerminated || e.doomed {
		return
	}
	a.log.Warn("container is over its disk", "framework", e.framework.Value, "executor", e.id().Value,
		"limit", q.limit, "used", used)
	disk := Scalar("disk", float64(q.limit)/(1<<20))
	e.died = &termination{
		state: mesos.TASK_FAILED, reason: mesos.REASON_CONTAINER_LIMITATION_DISK,
		message:    fmt.Sprintf("Disk usage (%s) exceeds quota (%s)", size(used), size(q.limit)),
		limitation: &mesos.TaskResourceLimitation{Resources: []mesos.Resource{disk}},
	}
	a.destroy(e)
}
