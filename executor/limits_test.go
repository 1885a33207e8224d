package executor

import (
	"regexp"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

func TestMemoryLimit(t *testing.T) {
	r := newRig(t, setup{})
	neighbour := r.job("read x < " + r.fifo("go"))
	neighbour.Limits.Memory = 64 << 20
	r.launch(neighbour)
	r.agent.status(neighbour.TaskID, mesos.TASK_RUNNING)
	// tail keeps a line in memory until it is whole. Two of them, each within the
	// limit alone.
	l := r.job("for i in 1 2; do (head -c 40m /dev/zero; sleep 1000) | tail -n 1 & done; wait")
	l.Limits.Memory = 64 << 20
	state, results := r.run(l)
	res := results[0]
	if state != mesos.TASK_FAILED || res.Outcome != tasklet.OutOfMemory || !regexp.MustCompile(`^used \d+ MB of 67 MB$`).MatchString(res.Reason) {
		t.Errorf("%s %+v", state, res)
	}
	if res.Usage.PeakMemory <= 64<<20 {
		t.Errorf("peak of %d bytes", res.Usage.PeakMemory)
	}
	if left := len(r.below()); left != 1 {
		t.Errorf("%d processes left, not the neighbour's one", left)
	}
	r.open("go")
	if state, _ := r.finish(neighbour); state != mesos.TASK_FINISHED {
		t.Errorf("neighbour: %s", state)
	}
}

func TestTimeLimit(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("trap 'exit 0' TERM; while :; do sleep 0.01; done", 0)
	l.Limits.Timeout = 200 * time.Millisecond
	res := r.one(l)
	if res.Outcome != tasklet.TimedOut || res.Reason != "over its time limit of 200ms" || res.ExitCode != 0 {
		t.Errorf("%+v", res)
	}
	if res.Usage.WallTime < 0.2 {
		t.Errorf("%+v", res.Usage)
	}
	hard := r.job("trap '' TERM; while :; do sleep 0.01; done")
	hard.Limits.Timeout = 100 * time.Millisecond
	if res := r.one(hard); res.Outcome != tasklet.TimedOut || res.Signal != "SIGKILL" {
		t.Errorf("%+v", res)
	}
}

func TestDiskLimit(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("head -c 3m /dev/zero > a; head -c 3m /dev/zero > $BAAS_OUTPUTS/b; sleep 1000")
	l.Limits.Disk = 5 << 20
	res := r.one(l)
	if res.Outcome != tasklet.DiskFull || !regexp.MustCompile(`^used \d\.\d MB of 5\.2 MB$`).MatchString(res.Reason) {
		t.Errorf("%+v", res)
	}
}

func TestMetering(t *testing.T) {
	r := newRig(t, setup{})
	// The work is done by an orphan of another session, which ends by itself.
	dir := r.shared()
	l := r.job(`(setsid awk 'BEGIN {for (i = 0; i < 6000000; i++) s += i; print s > "` + dir + `/sum"; close("` + dir + `/sum"); system("sleep 0.2")}' &)
		while [ ! -s ` + dir + `/sum ]; do sleep 0.01; done`)
	res := r.one(l)
	if res.Outcome != tasklet.Succeeded || res.Usage.CPUSeconds < 0.1 || res.Usage.CPUSeconds > 2*res.Usage.WallTime+1 {
		t.Errorf("%+v", res)
	}
	idle := r.one(r.job("sleep 0.5"))
	if idle.Usage.CPUSeconds > 0.2 || idle.Usage.WallTime < 0.5 || idle.Usage.PeakMemory <= 0 || idle.Usage.PeakMemory > 64<<20 {
		t.Errorf("%+v", idle.Usage)
	}
}
