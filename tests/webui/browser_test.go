package webui

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/baas-batch/baas/tests/harness"
)

// screenshots names the environment variable with the directory for screenshots;
// none are made without it.
const screenshots = "BAAS_SCREENSHOTS"

// browser is one tab of a headless Chromium.
type browser struct {
	*testing.T
	tab context.Context
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("the Web UI is looked at with Chromium: please install the package chromium (%v)", err)
	}
	ctx, stop := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(path), chromedp.WindowSize(1400, 1000),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		// A container's /dev/shm is often too small for Chromium.
		chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(stop)
	tab, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	// The first action starts Chromium, which then lives as long as that action's context.
	if err := chromedp.Run(tab); err != nil {
		t.Fatalf("start of %s: %v", path, err)
	}
	return &browser{t, tab}
}

// open shows a page.
func (b *browser) open(url string) {
	b.Helper()
	if err := b.do(chromedp.Navigate(url)); err != nil {
		b.Fatalf("open %s: %v", url, err)
	}
}

// shows waits until the page shows all the texts.
func (b *browser) shows(texts ...string) {
	b.Helper()
	var page string
	var missing []string
	for deadline := time.Now().Add(harness.Patience); ; {
		if err := b.do(chromedp.Evaluate(`document.body.innerText`, &page)); err != nil {
			b.Fatalf("text of the page: %v", err)
		}
		missing = missing[:0]
		for _, text := range texts {
			if !strings.Contains(page, text) {
				missing = append(missing, text)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.shoot("missing")
			b.Fatalf("the page does not show %q, but\n%s", missing, page)
		}
		_ = b.do(chromedp.Poll(`true`, nil, chromedp.WithPollingInterval(100*time.Millisecond)))
	}
}

func (b *browser) do(actions ...chromedp.Action) error {
	ctx, cancel := context.WithTimeout(b.tab, harness.Patience)
	defer cancel()
	return chromedp.Run(ctx, actions...)
}

// shoot saves what the window shows, when that is asked for.
func (b *browser) shoot(name string) {
	b.Helper()
	dir := os.Getenv(screenshots)
	if dir == "" {
		return
	}
	var png []byte
	err := b.do(chromedp.CaptureScreenshot(&png))
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)); err != nil {
		b.Error(err)
	}
}
