package agent

import (
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// Master and agent do not agree on whether an executor is there.
func TestLaunchExecutorFlag(t *testing.T) {
	r := start(t, settings(t))
	launch := func(task string, launchExecutor bool) {
		info := mesos.TaskInfo{
			Name: task, TaskID: mesos.TaskID{Value: task}, AgentID: r.ID(), Executor: executorInfo("e"), Data: []byte("run"),
		}
		r.tell(func(a link.Agent) { a.RunTask(framework1, info, launchExecutor) })
	}
	dropped := func(task, message string) {
		t.Helper()
		got := r.master.expect(t, task, "DROPPED")[0]
		if got.GetReason() != mesos.REASON_EXECUTOR_TERMINATED || got.GetMessage() != message || got.GetSource() != mesos.SOURCE_AGENT {
			t.Errorf("status %+v", got)
		}
	}
	launch("early", false)
	dropped("early", "No executor is expected to launch and there is none running")
	launch("first", true)
	r.master.expect(t, "first", "RUNNING")
	launch("second", false)
	r.master.expect(t, "second", "RUNNING")
	launch("third", true)
	dropped("third", "Master wants to launch executor, but one already exists")
	r.exited("e 0") // nobody may have an executor that the master does not know
	for _, task := range []string{"first", "second"} {
		r.master.expect(t, task, "RUNNING FAILED")
	}
}
