// Package webui looks at a run's pages in the Temporal Web UI, as a person would.
package webui

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
)

const pages = `
name: pages
steps:
  extract:
    run: echo extracted
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

func TestExplore(t *testing.T) {
	b := newBrowser(t)
	p := harness.Start(t, func(c *platform.Config) { c.NoUI = false })
	file := filepath.Join(harness.Dir(t), "flow.yaml")
	os.WriteFile(file, []byte(pages), 0o644)
	s, err := harness.Client(p).Start(t.Context(), starter.StartOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", s)
	base := p.Temporal.UIURL() + "/namespaces/default/workflows/" + s.Instance + "/" + s.FirstID + "/"
	for _, page := range []string{"timeline", "history", "pending-activities", "user-metadata", "search-attributes"} {
		b.open(base + page)
		time.Sleep(12 * time.Second)
		var text string
		b.do(chromedp.Evaluate(`document.body.innerText`, &text))
		t.Logf("=== %s\n%s", page, text)
		b.shoot(page)
	}
	harness.Client(p).Kill(t.Context(), s.Run, "seen", "me")
}
