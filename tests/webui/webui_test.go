// Package webui looks at the Temporal Web UI as people do who follow a run: in a
// browser.
package webui

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/baas-batch/baas/api"
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
	host := awaitProgress(t, c, started.Run)

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

	state, err := c.Describe(t.Context(), started.Run)
	if err != nil {
		t.Fatal(err)
	}
	b.open(run("user-metadata"))
	b.shows("pages "+state.OrderDate, started.Run+" · running · started ")
	b.showsRows("step | status | done | active | failed | time | reason",
		"extract | succeeded | 1 of 1 |  |  | "+took(t, state, "extract")+" | ",
		"check | failed | 0 of 1 |  | 1 | "+took(t, state, "check")+" | exit code 3",
		"work | running | 0 of 3 | 3 |  | "+since(t, state, "work")+" | ",
		"report | waiting |  |  |  |  | ")
	b.shoot("user-metadata")

	if err := c.Kill(t.Context(), started.Run, "seen", "tester"); err != nil {
		t.Fatal(err)
	}
	b.open(run("search-attributes"))
	b.shows(`"BaasStatus": "killed"`)
}
