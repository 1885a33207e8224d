// Package webui looks at the Temporal Web UI as people do who follow a run: in a
// browser.
package webui

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/embedded"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

// pages is a run of which something has succeeded, failed, runs and waits. Its
// tasks run until they are killed.
const pages = `
name: pages
steps:
  extract:
    run: echo extracted
  check:
    run: exit 3
  work:
    needs: [extract]
    for_each: {from: 1, to: 3}
    with: {item: '${{ item }}'}
    resources: {cpus: 0.1, mem: 16MB}
    run: |
      echo "7/400 item $BAAS_INPUT_ITEM" >"$BAAS_PROGRESS"
      exec sleep 600
  report:
    needs: [work]
    run: echo reported
`

func TestPagesOfARun(t *testing.T) {
	b := newBrowser(t)
	p := harness.Start(t, func(c *platform.Config) { c.NoUI = false })
	c := harness.Client(p)
	file := filepath.Join(harness.Dir(t), "flow.yaml")
	if err := os.WriteFile(file, []byte(pages), 0o644); err != nil {
		t.Fatal(err)
	}
	started, err := c.Start(t.Context(), starter.StartOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	run := func(page string) string {
		return p.Temporal.UIURL() + "/namespaces/default/workflows/" + started.Instance + "/" + started.FirstID + "/" + page
	}
	state := awaitProgress(t, c, started.Run, 3)
	host := state.Activities[0].Details.Agents[0].Host

	b.open(run("timeline"))
	b.shows("extract", "work #0", "work #1", "work #2")
	b.shoot("timeline")

	b.open(run("pending-activities"))
	b.shows("work-1", "work-2", "work-3", fmt.Sprintf(`"host": %q`, host), `"state": "RUNNING"`,
		`"progress": "7/400 item 1"`, `"progress": "7/400 item 2"`, `"progress": "7/400 item 3"`)
	b.shoot("pending-activities")

	b.open(run("search-attributes"))
	b.shows(`"BaasApp": "pages"`, `"BaasOwner": "adhoc"`, `"BaasStatus": "running"`)
	b.shoot("search-attributes")

	work, ok := state.Step("work")
	if !ok {
		t.Fatalf("no step work: %+v", state)
	}
	b.open(run("user-metadata"))
	b.shows("pages "+state.OrderDate, started.Run+" · running · started "+state.Started.UTC().Format(time.DateTime)+" UTC")
	b.showsRows("step | status | done | active | failed | time",
		"extract | succeeded | 1 of 1 |  |  | ",
		"check | failed | 0 of 1 |  | 1 | ",
		"work | running | 0 of 3 | 3 |  | since "+work.Started.UTC().Format(time.TimeOnly), "report | waiting | ")
	b.shows("check: exit code 3")
	b.shoot("user-metadata")

	if err := c.Kill(t.Context(), started.Run, "seen", "tester"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	if _, err := c.Wait(ctx, started.Run); err != nil {
		t.Fatal(err)
	}
	b.open(run("search-attributes"))
	b.shows(`"BaasStatus": "killed"`)
}

// awaitProgress waits until the run's failing step has failed, and so many
// activities have told of an agent and of progress.
func awaitProgress(t *testing.T, c *starter.Client, run string, activities int) starter.Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	var last starter.Run
	for state, err := range c.Watch(ctx, run, 100*time.Millisecond) {
		if err != nil {
			t.Fatalf("%v; the last state was %+v", err, last)
		}
		last = state
		check, _ := state.Step("check")
		told := 0
		for _, a := range state.Activities {
			if len(a.Details.Agents) == 1 && len(a.Details.Tasks) == 1 && a.Details.Tasks[0].Progress != "" {
				told++
			}
		}
		if check != nil && check.Status == api.StatusFailed && told == activities && len(state.Activities) == told {
			return state
		}
	}
	t.Fatalf("the run has ended: %+v", last)
	return last
}

// Text of users may hold what Markdown, and the renderer's extensions of it, take
// for their own: here that of the details' golden file is read in the browser.
func TestReasonsAreShownAsTheyAre(t *testing.T) {
	b := newBrowser(t)
	server, err := embedded.StartTemporal(t.Context(), embedded.TemporalConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	details, err := os.ReadFile("../../workflows/testdata/details_running.md")
	if err != nil {
		t.Fatal(err)
	}
	b.open(server.UIURL() + "/render?content=" + url.QueryEscape(string(details)))
	const reason = `partition 41: cannot read “C:\new|old”: | see <b>the_log</b> & ` + "`usage`" +
		` of *render* --help, [$HOME/a_b] or $TMPDIR/~~x~~ &lt;`
	b.shows("step render, "+reason, "render: "+reason)
	b.showsRows("render | running | 120 of 200 | 50 | 1 | since 06:00:12", "cleanup (on exit) | waiting | ")
	b.shoot("reasons")
}
