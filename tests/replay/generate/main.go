// Command generate writes the histories of package replay: it runs real flows on
// an embedded Temporal, with activities that answer as a script says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/embedded"
	"github.com/baas-batch/baas/workflows"
)

func main() {
	out := flag.String("out", "tests/replay/testdata", "directory for the histories")
	only := flag.String("only", "", "write this history only")
	dry := flag.Bool("n", false, "print the counts of events and write nothing")
	flag.Parse()
	if err := generate(context.Background(), *out, *only, *dry); err != nil {
		log.Fatal(err)
	}
}

func generate(ctx context.Context, out, only string, dry bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	server, err := embedded.StartTemporal(ctx, embedded.TemporalConfig{NoUI: true})
	if err != nil {
		return err
	}
	defer server.Stop()
	options := server.ClientOptions()
	options.Identity = "generate"
	c, err := client.Dial(options)
	if err != nil {
		return err
	}
	defer c.Close()

	s := newStage(c)
	stop, err := s.serve()
	if err != nil {
		return err
	}
	defer stop()
	for _, scene := range scenes {
		if only != "" && only != scene.name {
			continue
		}
		if err := s.play(ctx, scene); err != nil {
			return fmt.Errorf("%s: %w", scene.name, err)
		}
		for i, id := range scene.workflowIDs() {
			history, err := s.history(ctx, id)
			if err != nil {
				return fmt.Errorf("%s: %w", scene.name, err)
			}
			name := scene.name
			if i > 0 {
				name += "_child"
			}
			fmt.Printf("%-20s %6d events\n", name, len(history.Events))
			if dry || scene.counted {
				continue
			}
			if err := write(filepath.Join(out, name+".json"), history); err != nil {
				return err
			}
		}
	}
	return nil
}

// serve runs the workers for all queues of the scenes.
func (s *stage) serve() (stop func(), err error) {
	var running []worker.Worker
	stop = func() {
		for _, w := range running {
			w.Stop()
		}
	}
	for _, queue := range []string{api.TaskQueue, launchQueue, controlQueue, api.LeadQueue(frameworkName)} {
		w := worker.New(s.client, queue, worker.Options{Identity: "generate", DisableRegistrationAliasing: true})
		s.register(w)
		workflows.Register(w)
		if err := w.Start(); err != nil {
			stop()
			return nil, err
		}
		running = append(running, w)
	}
	return stop, nil
}

// play starts a scene's workflow and waits for its end.
func (s *stage) play(ctx context.Context, scene scene) error {
	plan, err := scene.plan()
	if err != nil {
		return err
	}
	s.begin(scene, plan)
	options := client.StartWorkflowOptions{ID: scene.workflowIDs()[0], TaskQueue: api.TaskQueue}
	var run client.WorkflowRun
	if scene.framework {
		run, err = s.client.ExecuteWorkflow(ctx, options, api.WorkflowFramework, api.FrameworkInput{Name: frameworkName})
	} else {
		run, err = s.client.ExecuteWorkflow(ctx, options, api.WorkflowBatchFlow, api.RunInput{OrderDate: "2026-01-31"})
	}
	if err != nil {
		return err
	}
	if scene.killAfter > 0 {
		select {
		case <-s.reached:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.kill(ctx, run.GetID(), scene.killOne); err != nil {
			return err
		}
	}
	err = run.Get(ctx, nil)
	if ctx.Err() != nil {
		return errors.Join(errors.New("did not end in time"), err)
	}
	fmt.Printf("%-20s ended: %v\n", scene.name, err)
	return nil
}

// kill ends the run, or one of its partitions.
func (s *stage) kill(ctx context.Context, id string, one bool) error {
	if !one {
		return s.client.CancelWorkflow(ctx, id, "")
	}
	handle, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID:   id,
		UpdateName:   api.UpdateKillPartitions,
		Args:         []any{api.KillPartitionsRequest{Step: "many", Partitions: []int{0}, By: "ann"}},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	return handle.Get(ctx, nil)
}

func (s *stage) history(ctx context.Context, id string) (*historypb.History, error) {
	iterator := s.client.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	history := &historypb.History{}
	for iterator.HasNext() {
		event, err := iterator.Next()
		if err != nil {
			return nil, err
		}
		history.Events = append(history.Events, event)
	}
	return history, nil
}

// write leaves out what names the machine: the queues that workers make for themselves.
func write(path string, history *historypb.History) error {
	for _, event := range history.Events {
		queue := event.GetWorkflowTaskScheduledEventAttributes().GetTaskQueue()
		if queue.GetKind() == enumspb.TASK_QUEUE_KIND_STICKY {
			queue.Name = "sticky"
		}
	}
	data, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(history)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
