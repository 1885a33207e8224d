package mesostest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/encoding/codecs"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/executor/calls"
	"github.com/mesos/mesos-go/api/v1/lib/executor/config"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpexec"
)

const (
	executorVariable = "MESOSTEST_EXECUTOR"

	// orphanTime is how long an executor outlives an agent that does not return.
	orphanTime = time.Minute
)

// ExecutorMain comes first in TestMain: the test binary is also the executor that
// its tests launch, and as such it never returns from here.
func ExecutorMain() {
	if os.Getenv(executorVariable) == "" {
		return
	}
	if err := runExecutor(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// ExecutorCommand starts this test binary as an executor. What it does with a
// task stands in TaskInfo.data: "finish" ends it at once, "run" waits for KILL.
// The message "finish TASK" ends a task, "die" the executor; any other one is
// sent back.
func ExecutorCommand() (*mesos.CommandInfo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &mesos.CommandInfo{
		Shell: ptr(false), Value: ptr(self), Arguments: []string{self},
		Environment: &mesos.Environment{Variables: []mesos.Environment_Variable{{Name: executorVariable, Value: ptr("1")}}},
	}, nil
}

type executorState struct {
	send    calls.Sender
	tasks   map[mesos.TaskID]mesos.TaskInfo // whose first update is not acknowledged
	updates map[string]executor.Call_Update // not acknowledged
	order   []string                        // of updates
}

func runExecutor() error {
	cfg, err := config.FromEnv()
	if err != nil {
		return err
	}
	var headers []httpcli.RequestOpt
	if token := os.Getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"); token != "" {
		headers = append(headers, httpcli.Header("Authorization", "Bearer "+token))
	}
	cli := httpcli.New(
		httpcli.Endpoint("http://"+cfg.AgentEndpoint+"/api/v1/executor"),
		httpcli.Codec(codecs.ByMediaType[codecs.MediaTypeProtobuf]),
		httpcli.Do(httpcli.With(httpcli.Timeout(0))),
	)
	who := executor.CallOptions{calls.Framework(cfg.FrameworkID), calls.Executor(cfg.ExecutorID)}
	s := &executorState{
		send:    calls.SenderWith(httpexec.NewSender(cli.Send, headers...), who...),
		tasks:   map[mesos.TaskID]mesos.TaskInfo{},
		updates: map[string]executor.Call_Update{},
	}
	subscriber := calls.SenderWith(httpexec.NewSender(cli.Send, append(headers, httpcli.Close(true))...), who...)
	for heard := time.Now(); time.Since(heard) < orphanTime; time.Sleep(100 * time.Millisecond) {
		resp, err := subscriber.Send(context.Background(), calls.NonStreaming(s.subscription()))
		if err != nil {
			continue
		}
		for err == nil {
			var ev executor.Event
			if err = resp.Decode(&ev); err == nil && !s.handle(&ev) {
				return nil
			}
		}
		resp.Close()
		heard = time.Now()
	}
	return nil
}

func (s *executorState) subscription() *executor.Call {
	var tasks []mesos.TaskInfo
	for _, t := range s.tasks {
		tasks = append(tasks, t)
	}
	var updates []executor.Call_Update
	for _, id := range s.order {
		if u, waiting := s.updates[id]; waiting {
			updates = append(updates, u)
		}
	}
	return calls.Subscribe(tasks, updates)
}

// handle reports whether the executor goes on.
func (s *executorState) handle(ev *executor.Event) bool {
	switch ev.Type {
	case executor.Event_LAUNCH:
		t := ev.Launch.Task
		s.tasks[t.TaskID] = t
		s.update(t.TaskID, mesos.TASK_RUNNING)
		if string(t.Data) == "finish" {
			s.update(t.TaskID, mesos.TASK_FINISHED)
		}
	case executor.Event_KILL:
		s.update(ev.Kill.TaskID, mesos.TASK_KILLED)
	case executor.Event_ACKNOWLEDGED:
		delete(s.tasks, ev.Acknowledged.TaskID)
		delete(s.updates, string(ev.Acknowledged.UUID))
	case executor.Event_MESSAGE:
		if task, ok := bytes.CutPrefix(ev.Message.Data, []byte("finish ")); ok {
			s.update(mesos.TaskID{Value: string(task)}, mesos.TASK_FINISHED)
		} else if string(ev.Message.Data) == "die" {
			os.Exit(3)
		} else {
			s.call(calls.Message(ev.Message.Data))
		}
	case executor.Event_SHUTDOWN:
		return false
	}
	return true
}

func (s *executorState) update(task mesos.TaskID, state mesos.TaskState) {
	id := uuid.New()
	call := calls.Update(mesos.TaskStatus{
		TaskID: task, State: state.Enum(), Source: mesos.SOURCE_EXECUTOR.Enum(), UUID: id[:],
	})
	s.updates[string(id[:])] = *call.Update
	s.order = append(s.order, string(id[:]))
	s.call(call) // if it fails it goes along with the next subscription
}

func (s *executorState) call(call *executor.Call) {
	if resp, _ := s.send.Send(context.Background(), calls.NonStreaming(call)); resp != nil {
		resp.Close()
	}
}
