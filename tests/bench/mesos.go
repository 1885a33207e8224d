package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/resources"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

// mesosPatience is how long the bare scheduler waits for the next event.
const mesosPatience = time.Minute

// measureExecutors runs tasks with an executor each by a scheduler that does nothing
// else: no retry, no reconciliation, no table. Some hundreds tell the rate; ten
// thousand would take the better part of an hour.
func measureExecutors(ctx context.Context, j job) (s Sample, err error) {
	cfg := embeddedmesos.Config{Dir: filepath.Join(j.Dir, "mesos")}
	cfg.Agent.AuthenticateExecutors = true // as the platform sets both
	cfg.Master.AllocationInterval = 10 * time.Millisecond
	cluster, err := embeddedmesos.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		err = errors.Join(err, cluster.Terminate(stopping))
		cluster.Stop()
	}()
	session, err := mesostest.Open(ctx, cluster.MasterURL(), mesostest.Framework(), mesostest.Options{})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	ev, err := session.AwaitFor(mesosPatience, mesostest.Type(scheduler.Event_SUBSCRIBED))
	if err != nil {
		return nil, err
	}
	session.FrameworkID = ev.Subscribed.FrameworkID.Value
	p := &plain{session: session, executor: j.SmallExecutor}
	if err := p.run(ctx, parallelism()); err != nil { // warms up
		return nil, err
	}
	begin := time.Now()
	err = p.run(ctx, j.Tasks)
	return Sample{"rate": float64(j.Tasks) / time.Since(begin).Seconds()}, err
}

// plain is the bare scheduler.
type plain struct {
	session  *mesostest.Session
	executor string
	launched int
}

// run launches so many tasks and waits until all have finished.
func (p *plain) run(ctx context.Context, n int) error {
	last := p.launched + n
	for finished := 0; finished < n; {
		ev, err := p.session.AwaitFor(mesosPatience, func(ev *scheduler.Event) bool {
			return ev.Type == scheduler.Event_OFFERS || ev.Type == scheduler.Event_UPDATE
		})
		if err != nil {
			return err
		}
		if ev.Type == scheduler.Event_OFFERS {
			if err := p.accept(ctx, ev.Offers.Offers, last); err != nil {
				return err
			}
			continue
		}
		status := ev.Update.Status
		switch status.GetState() {
		case api.TASK_FINISHED:
			finished++
		case api.TASK_STARTING, api.TASK_RUNNING:
		default:
			return fmt.Errorf("task %s: %s: %s", status.TaskID.Value, status.GetState(), status.GetMessage())
		}
		if err := p.session.Call(ctx, calls.Acknowledge(status.AgentID.Value, status.TaskID.Value, status.UUID)); err != nil {
			return err
		}
	}
	return nil
}

// accept fills offers with tasks; what is left is offered again at once.
func (p *plain) accept(ctx context.Context, offers []api.Offer, last int) error {
	for _, offer := range offers {
		cpus, _ := resources.CPUs(offer.Resources...)
		mem, _ := resources.Memory(offer.Resources...)
		var tasks []api.TaskInfo
		for room := min(int(cpus/taskCPUs+1e-6), int(mem/(taskMem+executorMem))); room > 0 && p.launched < last; room-- {
			p.launched++
			task, err := p.task(p.launched, offer.AgentID)
			if err != nil {
				return err
			}
			tasks = append(tasks, task)
		}
		call := calls.Accept(calls.OfferOperations{calls.OpLaunch(tasks...)}.WithOffers(offer.ID)).With(calls.RefuseSeconds(0))
		if len(tasks) == 0 {
			call = calls.Decline(offer.ID).With(calls.RefuseSeconds(10 * time.Millisecond))
		}
		if err := p.session.Call(ctx, call); err != nil {
			return err
		}
	}
	return nil
}

// What a task and its executor ask for; the executor the least that Mesos expects. The
// CPUs are those of one task on the platform, so that as many run side by side.
const (
	executorCPUs = 0.01
	executorMem  = 32 // MB
	taskMem      = 16
)

func (p *plain) task(i int, agent api.AgentID) (api.TaskInfo, error) {
	data, err := json.Marshal([]string{noop})
	if err != nil {
		return api.TaskInfo{}, err
	}
	id, shell := fmt.Sprintf("task-%d", i), false
	return api.TaskInfo{
		Name: id, TaskID: api.TaskID{Value: id}, AgentID: agent, Data: data,
		Resources: []api.Resource{mesostest.Scalar("cpus", taskCPUs-executorCPUs), mesostest.Scalar("mem", taskMem)},
		Executor: &api.ExecutorInfo{
			Type: api.ExecutorInfo_CUSTOM, ExecutorID: api.ExecutorID{Value: id},
			Command:   &api.CommandInfo{Shell: &shell, Value: &p.executor, Arguments: []string{p.executor}},
			Resources: []api.Resource{mesostest.Scalar("cpus", executorCPUs), mesostest.Scalar("mem", executorMem)},
		},
	}, nil
}
