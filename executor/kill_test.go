package executor

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

// stubborn ignores SIGTERM, and so does a grandchild that has left its session
// and its parent. Their process IDs go to two files.
func stubborn(dir string) string {
	return `trap '' TERM
		(setsid sh -c 'trap "" TERM; echo $$ > ` + dir + `/grandchild; exec 0<&- 1>&- 2>&-; while :; do sleep 1000; done' &)
		echo $$ > ` + dir + `/command
		while :; do sleep 1000; done`
}

func (r *rig) pid(path string) int {
	r.t.Helper()
	pid, err := strconv.Atoi(r.waitFile(path))
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

func TestKillReachesEveryDescendant(t *testing.T) {
	for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, s)
			l := r.job(stubborn(r.shared()))
			l.Limits.Grace = time.Hour
			r.launch(l)
			command, grandchild := r.pid(r.shared()+"/command"), r.pid(r.shared()+"/grandchild")
			begun := time.Now()
			r.agent.kill(l.TaskID, 400*time.Millisecond) // the event's grace period counts
			state, results := r.finish(l)
			if state != mesos.TASK_KILLED || len(results) != 1 || results[0].Outcome != tasklet.Killed || results[0].Signal != "SIGKILL" {
				t.Errorf("%s %+v", state, results)
			}
			if d := time.Since(begun); d < 400*time.Millisecond {
				t.Errorf("killed after %s, before the grace period was over", d)
			}
			if alive(command) || alive(grandchild) {
				t.Errorf("command %d and grandchild %d: %v %v", command, grandchild, alive(command), alive(grandchild))
			}
			if left := r.below(); len(left) > 0 {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

func TestTermComesFirst(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`trap 'echo cleaning up; exit 0' TERM; echo > ` + r.fifo("up") + `; while :; do sleep 0.01; done`)
	l.Limits.Grace = time.Hour
	r.launch(l)
	r.waitFile(r.shared() + "/up")
	r.agent.kill(l.TaskID, 0)
	state, results := r.finish(l)
	if state != mesos.TASK_KILLED || results[0].Outcome != tasklet.Killed || results[0].ExitCode != 0 {
		t.Errorf("%s %+v", state, results)
	}
	if log := r.logOf(l, 0); !strings.Contains(log, "cleaning up") {
		t.Errorf("log %q", log)
	}
}

func TestLeftoversEndWithTheCommand(t *testing.T) {
	for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
		t.Run(name, func(t *testing.T) { testLeftovers(t, newRig(t, s)) })
	}
}

func testLeftovers(t *testing.T, r *rig) {
	// The neighbour runs all the while and must not be hurt.
	neighbour := r.job("read x < " + r.fifo("go"))
	r.launch(neighbour)
	r.agent.status(neighbour.TaskID, mesos.TASK_RUNNING)
	dir := r.shared()
	l := r.job(`(env -i setsid sh -c 'trap "" TERM; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
		echo $$ > ` + dir + `/left; exec sleep 1000' > /dev/null 2>&1 &)
		while [ ! -s ` + dir + `/left ]; do sleep 0.01; done`)
	res := r.one(l)
	if res.Outcome != tasklet.Succeeded {
		t.Errorf("%+v", res)
	}
	if pid := r.pid(dir + "/left"); alive(pid) {
		t.Error("what the command left behind still runs")
	}
	r.open("go")
	if state, _ := r.finish(neighbour); state != mesos.TASK_FINISHED {
		t.Errorf("neighbour: %s", state)
	}
}

// Without a user to tell it by, a process that hides well is nobody's; it must
// not outlive all that it could belong to.
func TestHiddenProcessDiesWithItsLastSuspect(t *testing.T) {
	r := newRig(t, asNobody(t))
	neighbour := r.job("read x < " + r.fifo("go"))
	r.launch(neighbour)
	r.agent.status(neighbour.TaskID, mesos.TASK_RUNNING)
	dir := r.shared()
	r.run(r.job(`cd /; (env -i setsid sh -c 'echo $$ > ` + dir + `/pid; exec sleep 1000' > /dev/null 2>&1 &)
		while [ ! -s ` + dir + `/pid ]; do :; done`))
	pid := r.pid(dir + "/pid")
	r.open("go")
	r.finish(neighbour)
	eventually(t, "death of the hidden process", func() bool { return !alive(pid) })
}

// A hydra never stands still: each of its heads forks the next one and exits.
// Unlike a fork bomb it does not grow, which the machine is grateful for.
func TestHydra(t *testing.T) {
	for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
		t.Run(name, func(t *testing.T) { testHydra(t, newRig(t, s)) })
	}
}

func testHydra(t *testing.T, r *rig) {
	l := r.job(`trap '' TERM; head() { sleep 0.05; head & }; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head & done
		echo up > ` + r.shared() + `/up; while :; do sleep 0.05; done`)
	r.launch(l)
	r.waitFile(r.shared() + "/up")
	first := r.below()
	eventually(t, "next generation", func() bool {
		return !slices.ContainsFunc(first, func(p proc) bool {
			now, ok := readProc(p.pid)
			return ok && now.start == p.start && p.pid != p.session // but for the command itself
		})
	})
	begun := time.Now()
	r.agent.kill(l.TaskID, time.Millisecond)
	if state, _ := r.finish(l); state != mesos.TASK_KILLED {
		t.Errorf("%s", state)
	}
	if left := r.below(); len(left) > 0 {
		t.Errorf("%d processes left", len(left))
	}
	t.Logf("killed in %s", time.Since(begun))
}

func TestPartitionKill(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("test $BAAS_PARTITION = 1 && sleep 1000; exit 0", 0, 1, 2, 3)
	r.launch(l)
	r.agent.status(l.TaskID, mesos.TASK_RUNNING)
	for range 2 { // the leader repeats itself
		r.agent.order(tasklet.Order{TaskID: l.TaskID, Kill: []int{1, 3}})
	}
	state, results := r.finish(l)
	if state != mesos.TASK_FAILED || len(results) != 4 {
		t.Fatalf("%s %+v", state, results)
	}
	want := []tasklet.Outcome{tasklet.Succeeded, tasklet.Killed, tasklet.Succeeded, tasklet.Killed}
	for i, res := range results {
		if res.Outcome != want[i] {
			t.Errorf("partition %d: %+v", i, res)
		}
	}
	if results[3].Log != nil || results[3].Usage.WallTime != 0 {
		t.Error("a partition that was killed before it began has run")
	}
}

func TestKillAtAnyMoment(t *testing.T) {
	r := newRig(t, setup{})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var jobs []*tasklet.Launch
	for range 40 {
		l := r.job("sleep 0.01", 0, 1, 2)
		l.Limits.Grace = time.Hour // a kill that loses its way is never made up for
		jobs = append(jobs, l)
		r.launch(l)
		time.AfterFunc(time.Duration(rnd.IntN(80))*time.Millisecond, func() { r.agent.kill(l.TaskID, 0) })
	}
	for _, l := range jobs {
		state, results := r.finish(l)
		switch {
		case state == mesos.TASK_FINISHED && len(results) == 3:
		case state == mesos.TASK_KILLED && (len(results) < 3 || results[2].Outcome == tasklet.Killed):
		default:
			t.Errorf("%s %+v", state, results)
		}
		for i, res := range results {
			if killed := res.Outcome == tasklet.Killed; killed && i < len(results)-1 || !killed && res.Outcome != tasklet.Succeeded {
				t.Errorf("partition %d: %+v", i, res)
			}
		}
	}
	if left := r.below(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestKillOfATaskEndsItsOtherPartitionsUnrun(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("sleep 1000", 0, 1)
	r.launch(l)
	r.agent.status(l.TaskID, mesos.TASK_RUNNING)
	r.agent.kill(l.TaskID, 0)
	if state, results := r.finish(l); state != mesos.TASK_KILLED || len(results) != 1 || results[0].Outcome != tasklet.Killed {
		t.Errorf("%s %+v", state, results)
	}
}

func TestShutdown(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(stubborn(r.shared()))
	r.launch(l)
	grandchild := r.pid(r.shared() + "/grandchild")
	r.agent.shutdown()
	if code := r.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if state, results := r.finish(l); state != mesos.TASK_KILLED || results[0].Outcome != tasklet.Killed {
		t.Errorf("%s %+v", state, results)
	}
	if alive(grandchild) {
		t.Error("the grandchild lives on")
	}
}

func TestTasksDieWithTheirExecutor(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("echo $$ > " + r.shared() + "/pid; exec sleep 1000")
	r.launch(l)
	pid := r.pid(r.shared() + "/pid")
	if err := r.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.exitCode()
	eventually(t, "death of the task", func() bool { return !alive(pid) })
}

func TestSignalsOfATerminalDoNotEndTheExecutor(t *testing.T) {
	r := newRig(t, setup{})
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
		if err := r.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	// A task takes them again.
	l := r.job("kill -INT $$; sleep 1000")
	if res := r.one(l); res.Signal != "SIGINT" {
		t.Errorf("%+v", res)
	}
}
