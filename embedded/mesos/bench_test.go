package mesos_test

import (
	"context"
	"fmt"
	"testing"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	"github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// BenchmarkNoOpTasks sends tasks that end at once through one executor, 50 to an
// ACCEPT, with every update acknowledged; one operation is one task.
func BenchmarkNoOpTasks(b *testing.B) {
	const perAccept, atOnce = 50, 400
	c, err := mesos.Start(b.Context(), mesos.Config{Dir: b.TempDir(), Agents: []mesos.AgentConfig{{
		Resources: []api.Resource{mesostest.Scalar("cpus", 64), mesostest.Scalar("mem", 4096)},
	}}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := c.Terminate(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	info := mesostest.Framework()
	s := mesostest.Subscribe(b, c.MasterURL(), info, mesostest.Options{})
	command, err := mesostest.ExecutorCommand()
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	launched, done := 0, 0
	for done < b.N {
		ev := s.Await(b, "OFFERS or UPDATE", func(ev *scheduler.Event) bool {
			return (ev.Type == scheduler.Event_OFFERS && launched < b.N && launched-done < atOnce) || ev.Type == scheduler.Event_UPDATE
		})
		if u := ev.GetUpdate(); u != nil {
			if u.Status.UUID == nil {
				b.Fatalf("%s: %s %s", u.Status.TaskID.Value, u.Status.GetState(), u.Status.GetMessage())
			}
			s.Must(b, calls.Acknowledge(u.Status.AgentID.Value, u.Status.TaskID.Value, u.Status.UUID))
			if u.Status.GetState() == api.TASK_FINISHED {
				done++
			}
			continue
		}
		offer := ev.Offers.Offers[0]
		fit := min(perAccept, mesostest.Fit(offer, 0.1))
		var tasks []api.TaskInfo
		for ; len(tasks) < fit && launched < b.N; launched++ {
			ti := mesostest.Task(fmt.Sprintf("t%d", launched), offer, "executor", 0.1, 1)
			ti.Executor.Command, ti.Data = command, []byte("finish")
			tasks = append(tasks, ti)
		}
		s.Accept(b, []api.OfferID{offer.ID}, tasks...)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
