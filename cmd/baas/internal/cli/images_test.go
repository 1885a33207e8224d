package cli

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/baas-batch/baas/images"
)

// What --registry, --registry-auth and --image-arch say is what registries are asked.
func TestImageOptions(t *testing.T) {
	var asked []string
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked = append(asked, r.URL.Path+" "+user+":"+password)
		if password == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(registry.Close)
	host := strings.TrimPrefix(registry.URL, "http://")
	b := newBench(t)
	b.env["BAAS_MESOS"] = "http://m:5050"
	b.env["S_BAAS__REGISTRY"] = `{"auths": {"` + host + `": {"auth": "bWU6aHVudGVyMg=="}}}`
	var got WorkerOptions
	b.program.Parts.Worker = func(_ context.Context, o WorkerOptions) error { got = o; return nil }
	b.expect(ExitDone, "worker", "--registry", host, "--image-arch", "arm64", "--secrets", "env://S_", "--registry-auth", "baas/registry")
	_, err := got.Images.Pin(t.Context(), "team/tool:1")
	if !errors.Is(err, images.ErrNotFound) || !strings.Contains(err.Error(), host+" for linux/arm64") {
		t.Error(err)
	}
	if last := asked[len(asked)-1]; last != "/v2/team/tool/manifests/1 me:hunter2" {
		t.Errorf("asked for %q", asked)
	}
	b.expect(ExitDone, "worker", "--unpinned-images")
	if got.Images != nil {
		t.Error("images are pinned")
	}
	b.expect(ExitDone, "worker", "--allow-volume", "bank=/data/bank:rw", "--allow-volume", "*=/data/public")
	if !slices.Equal(got.Volumes, []string{"bank=/data/bank:rw", "*=/data/public"}) {
		t.Errorf("volumes %q", got.Volumes)
	}
	for says, args := range map[string][]string{
		"not the whole":   {"--allow-volume", "bank=/"},
		"OWNER=PATH":      {"--allow-volume", "/data/../etc"},
		"no provider":     {"--registry-auth", "baas/registry"},
		"names no secret": {"--registry-auth", "../x", "--secrets", "env://S_"},
		"is of no use":    {"--registry-auth", "baas/registry", "--unpinned-images"},
		"HOST:PORT":       {"--registry", "https://registry.example.com"},
	} {
		if code := b.run(append([]string{"worker"}, args...)...); code != ExitUsage || !strings.Contains(b.stderr.String(), says) {
			t.Errorf("%v: %d %s", args, code, b.stderr.String())
		}
	}
}
