package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/catalog"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/harness"
)

// dir makes a directory that tasks, which run as other users, can pass through.
func dir(t *testing.T) string {
	t.Helper()
	return harness.Dir(t)
}

// start starts a platform in this process, and stops it when the test ends.
func start(t *testing.T, change ...func(*platform.Config)) *platform.Platform {
	t.Helper()
	return harness.Start(t, change...)
}

// target is where a flow is started.
type target struct {
	client client.Client
	store  storage.Store
}

func platformOf(c client.Client, s storage.Store) target { return target{c, s} }

func of(p *platform.Platform) target { return platformOf(p.Client, p.Store) }

// runs is the Go client of the platform.
func (p target) runs() *starter.Client {
	return starter.New(starter.Config{Temporal: p.client, Store: p.store, Catalog: catalog.Catalog{}})
}

// run starts a flow from its files; flow.yaml is the flow itself.
func run(t *testing.T, p target, files map[string]string, params map[string]string) client.WorkflowRun {
	t.Helper()
	app := dir(t)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(app, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	started, err := p.runs().Start(t.Context(), starter.StartOptions{File: filepath.Join(app, "flow.yaml"), Args: params})
	if err != nil {
		t.Fatal(err)
	}
	return p.client.GetWorkflow(t.Context(), started.Instance, started.FirstID)
}

// ended waits for the end of a run and gives its last state.
func ended(t *testing.T, p target, r client.WorkflowRun, limit time.Duration) starter.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	id := api.RunID(r.GetID(), r.GetRunID())
	last, err := p.runs().Wait(ctx, id)
	if err != nil {
		now, _ := p.runs().Describe(t.Context(), id)
		t.Fatalf("run %s: %v\n%s", id, err, show(now))
	}
	return last
}

// succeeded waits for the end of a run that must succeed.
func succeeded(t *testing.T, p target, r client.WorkflowRun, limit time.Duration) starter.Run {
	t.Helper()
	last := ended(t, p, r, limit)
	if last.Status != api.StatusSucceeded {
		t.Fatalf("the run ended as %s\n%s", last.Status, show(last))
	}
	return last
}

// show gives a run's state for a failure message.
func show(r starter.Run) string {
	text := fmt.Sprintf("run %s: %s %s", r.Run, r.Status, r.Reason)
	for _, s := range r.Steps {
		text += fmt.Sprintf("\n  %s: %s, %d of %d done, %d failed, %d active, %d retries %s", s.ID, s.Status,
			s.Done, s.Partitions, s.Failed, s.Active, s.Retries, s.Reason)
	}
	for _, a := range r.Activities {
		text += fmt.Sprintf("\n  activity %s, try %d: %+v %s", a.ID, a.Try, a.Details, a.LastFailure)
	}
	return text
}

func TestHello(t *testing.T) {
	p := of(start(t))
	last := succeeded(t, p, run(t, p, map[string]string{
		"flow.yaml": `
name: hello
steps:
  greet:
    run: ./greet.sh
    outputs: {greeting: string, letter: file}
  shout:
    run: tr a-z A-Z <"$BAAS_INPUT_LETTER" >"$BAAS_OUTPUTS/loud"; echo "$BAAS_INPUT_GREETING"
    with: {letter: '${{ steps.greet.outputs.letter }}', greeting: '${{ steps.greet.outputs.greeting }}'}
    outputs: {loud: string}
`,
		"greet.sh": "#!/bin/sh\necho '{\"greeting\": \"hello\"}' >$BAAS_OUTPUTS/outputs.json; echo a letter >$BAAS_OUTPUTS/letter\n",
	}, nil), 2*time.Minute)
	equal(t, output(t, last, "shout", "loud"), "A LETTER")
}
