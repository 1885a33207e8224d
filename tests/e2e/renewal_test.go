package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/servers"
	"github.com/baas-batch/baas/worker"
)

// outlives is a flow whose tasks run for longer than their URLs live.
const outlives = `
name: outlives
steps:
  write:
    run: |
      sleep 8
      echo "written late" >"$BAAS_OUTPUTS/letter"
      echo "the log's end"
    outputs: {letter: file}
  read:
    with: {letter: '${{ steps.write.outputs.letter }}'}
    run: |
      sleep 8
      cp "$BAAS_INPUT_LETTER" "$BAAS_OUTPUTS/copy"
    outputs: {copy: string}
`

// refusals passes requests on to a server of storage, and counts the signed ones that
// it refuses.
type refusals struct {
	*httptest.Server
	count atomic.Int64
}

func newRefusals(t *testing.T, address string) *refusals {
	t.Helper()
	r := &refusals{}
	r.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: address})
			p.Out.Host = p.In.Host // it is signed, and Swift builds its storage URL of it
		},
		ModifyResponse: func(response *http.Response) error {
			signed := strings.Contains(strings.ToLower(response.Request.URL.RawQuery), "sig")
			if signed && (response.StatusCode == http.StatusForbidden || response.StatusCode == http.StatusUnauthorized) {
				r.count.Add(1)
			}
			return nil
		},
	})
	t.Cleanup(r.Close)
	return r
}

// Tasks outlive their URLs: the executor asks for new ones until it has stored all.
func TestURLsDieUnderTasks(t *testing.T) {
	s3, swift := servers.StartS3(t, nil), servers.StartSwift(t)
	s3.Credentials(t)
	s3.Bucket(t, "bucket")
	container := swift.Container(t, "container")
	atS3, atSwift := newRefusals(t, strings.TrimPrefix(s3.Endpoint, "http://")), newRefusals(t, swift.Address())
	s3.Endpoint, swift.AuthURL = atS3.URL, atSwift.URL+"/auth/v1.0"
	swift.Credentials(t)
	for _, store := range []struct {
		name, url string
		proxy     *refusals
	}{
		{"S3", s3.URL("bucket"), atS3},
		{"Swift", container, atSwift},
	} {
		t.Run(store.name, func(t *testing.T) {
			p := of(start(t, func(c *platform.Config) {
				c.StorageURL = store.url
				c.Worker = func(w *worker.Config) { w.URLLifetime = 5 * time.Second }
			}))
			last := succeeded(t, p, run(t, p, map[string]string{"flow.yaml": outlives}, nil), patience)
			equal(t, output(t, last, "read", "copy"), "written late")
			if n := store.proxy.count.Load(); n < 4 { // output, log and result of one task, log and result of the other
				t.Errorf("%d signed requests were refused: the URLs have not died", n)
			}
			logs := 0
			for info, err := range storage.All(t.Context(), p.store, storage.ListOptions{Prefix: "runs/outlives/"}) {
				if err != nil {
					t.Fatal(err)
				}
				if content, _, err := storage.GetBytes(t.Context(), p.store, info.Key, 1<<20); err == nil && string(content) == "the log's end\n" {
					logs++
				}
			}
			equal(t, logs, 1)
		})
	}
}
