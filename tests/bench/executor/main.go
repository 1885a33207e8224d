// Command executor is the smallest Mesos executor that runs a command: one task, whose
// data holds the program and its arguments (JSON). It is part of the bare Mesos floor.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg, err := config.FromEnv()
	if err != nil {
		return err
	}
	cli := httpcli.New(
		httpcli.Endpoint("http://"+cfg.AgentEndpoint+"/api/v1/executor"),
		httpcli.Codec(codecs.ByMediaType[codecs.MediaTypeProtobuf]),
		httpcli.Do(httpcli.With(httpcli.Timeout(0))),
		httpcli.DefaultHeader("Authorization", "Bearer "+os.Getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN")),
	)
	send := calls.SenderWith(httpexec.NewSender(cli.Send), calls.Framework(cfg.FrameworkID), calls.Executor(cfg.ExecutorID))
	stream, err := send.Send(ctx, calls.NonStreaming(calls.Subscribe(nil, nil)))
	if err != nil {
		return err
	}
	defer stream.Close()
	for updates := 0; ; {
		var ev executor.Event
		if err := stream.Decode(&ev); err != nil {
			return err
		}
		switch ev.Type {
		case executor.Event_LAUNCH:
			if err := launch(ctx, send, ev.Launch.Task); err != nil {
				return err
			}
		case executor.Event_ACKNOWLEDGED:
			if updates++; updates == 2 { // RUNNING and the last one
				return nil
			}
		case executor.Event_SHUTDOWN:
			return nil
		}
	}
}

func launch(ctx context.Context, send calls.Sender, task mesos.TaskInfo) error {
	var args []string
	if err := json.Unmarshal(task.Data, &args); err != nil {
		return err
	}
	if err := update(ctx, send, task.TaskID, mesos.TASK_RUNNING); err != nil {
		return err
	}
	state := mesos.TASK_FINISHED
	if err := exec.CommandContext(ctx, args[0], args[1:]...).Run(); err != nil {
		state = mesos.TASK_FAILED
	}
	return update(ctx, send, task.TaskID, state)
}

func update(ctx context.Context, send calls.Sender, task mesos.TaskID, state mesos.TaskState) error {
	id, now := uuid.New(), float64(time.Now().UnixNano())/1e9
	resp, err := send.Send(ctx, calls.NonStreaming(calls.Update(mesos.TaskStatus{
		TaskID: task, State: state.Enum(), Source: mesos.SOURCE_EXECUTOR.Enum(), UUID: id[:], Timestamp: &now,
	})))
	if resp != nil {
		resp.Close()
	}
	return err
}
