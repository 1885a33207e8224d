package webui

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/baas-batch/baas/tests/harness"
)

// screenshots names the environment variable that holds a directory for
// screenshots; none are made without it.
const screenshots = "BAAS_SCREENSHOTS"

// readable is a page's text, with that of its frames: the Web UI shows Markdown
// in one. Rows are those of its tables.
const readable = `
	const pages = [document, ...[...document.querySelectorAll('iframe')].map(f => f.contentDocument).filter(d => d?.body)];
	const text = pages.map(p => p.body.innerText).join('\n');
	const rows = pages.flatMap(p => [...p.querySelectorAll('tr')].map(r => [...r.cells].map(c => c.innerText.trim()).join(' | ')));`

// browser is one tab of a headless Chromium.
type browser struct {
	*testing.T
	tab context.Context
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("this test looks at the Web UI with Chromium; please install the package chromium: %v", err)
	}
	home := harness.Dir(t)
	ctx, stop := chromedp.NewExecAllocator(t.Context(),
		chromedp.UserDataDir(filepath.Join(home, "data")), chromedp.Env("HOME="+home, "TMPDIR="+home),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		// A container's /dev/shm is often too small.
		chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	// Chromium lives as long as the context of its first action.
	if err := chromedp.Do(tab, chromedp.EmulateViewport(1400, 1000)); err != nil {
		t.Fatalf("start of %s: %v", path, err)
	}
	return &browser{t, tab}
}

// do limits what one action may take.
func do[T any](b *browser, a chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(b.tab, harness.Patience)
	defer cancel()
	return chromedp.Run(ctx, a)
}

// open shows a page.
func (b *browser) open(url string) {
	b.Helper()
	if _, err := do(b, chromedp.Navigate(url)); err != nil {
		b.Fatalf("open %s: %v", url, err)
	}
}

// shows waits until each of the texts can be read on the page.
func (b *browser) shows(texts ...string) {
	b.Helper()
	b.await("text", "text.includes(want)", texts)
}

// showsRows waits until tables on the page have rows that begin so; " | " is
// between two cells.
func (b *browser) showsRows(rows ...string) {
	b.Helper()
	b.await("row", "rows.some(r => r.startsWith(want))", rows)
}

func (b *browser) await(what, condition string, wants []string) {
	b.Helper()
	for _, want := range wants {
		_, err := do(b, chromedp.PollFunction[bool]("want => {"+readable+"return "+condition+"}",
			chromedp.WithPollingArgs(want), chromedp.WithPollingInterval(50*time.Millisecond),
			chromedp.WithPollingTimeout(0)))
		if err != nil {
			page, _ := do(b, chromedp.Evaluate[string]("(() => {"+readable+"return text})()"))
			b.shoot("missing")
			b.Fatalf("the page does not show the %s %q (%v), but\n%s", what, want, err, page)
		}
	}
}

// shoot saves what can be seen without scrolling, where that is asked for.
func (b *browser) shoot(name string) {
	b.Helper()
	dir := os.Getenv(screenshots)
	if dir == "" {
		return
	}
	png, err := do(b, chromedp.CaptureScreenshot())
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)); err != nil {
		b.Error(err)
	}
}
