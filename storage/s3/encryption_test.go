package s3_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

// recorder passes requests on to a server and keeps their headers.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []http.Header
}

func newRecorder(t *testing.T, server string) *recorder {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host // it is signed
	}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, request.Header.Clone())
		r.mu.Unlock()
		proxy.ServeHTTP(w, request)
	}))
	t.Cleanup(r.Close)
	return r
}

// last gives the headers of the last request.
func (r *recorder) last() http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[len(r.seen)-1]
}

// put sends content to a signed URL and tells the status of the answer.
func put(t *testing.T, to storage.Signed, content string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, to.URL, bytes.NewReader([]byte(content)))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range to.Header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// A signed URL asks for encryption by headers that its bearer cannot leave out or
// change; so do the calls that the store makes itself.
func TestEncryption(t *testing.T) {
	const algorithm, key = "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"
	server := servers.StartS3(t, nil)
	server.Credentials(t)
	for name, c := range map[string]struct {
		parameters []string
		want       map[string]string
	}{
		"none":    {nil, nil},
		"sse-s3":  {[]string{"sse", "AES256"}, map[string]string{algorithm: "AES256"}},
		"sse-kms": {[]string{"sse", "aws:kms", "kms_key", "key-1"}, map[string]string{algorithm: "aws:kms", key: "key-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := newRecorder(t, server.Endpoint)
			s := storagetest.Open(t, with(t, server.Bucket(t, name), append(c.parameters, "endpoint", proxy.URL)...))
			asked := func(what string) {
				t.Helper()
				for _, header := range []string{algorithm, key} {
					if got := proxy.last().Get(header); got != c.want[header] {
						t.Errorf("%s was sent with %s: %q, want %q", what, header, got, c.want[header])
					}
				}
			}
			signed, err := s.SignURL(t.Context(), "key", storage.SignOptions{Method: http.MethodPut, Expires: time.Minute})
			if err != nil || len(signed.Header) != len(c.want) {
				t.Fatalf("SignURL: headers %v, %v; want %v", signed.Header, err, c.want)
			}
			for header := range signed.Header {
				for _, value := range []string{"", "AES256-not"} {
					forged := storage.Signed{URL: signed.URL, Header: map[string]string{}}
					for h, v := range signed.Header {
						if forged.Header[h] = v; h == header {
							forged.Header[h] = value
						}
					}
					if value == "" {
						delete(forged.Header, header)
					}
					if status := put(t, forged, "plain"); status != http.StatusForbidden {
						t.Errorf("PUT with %s %q: %d", header, value, status)
					}
				}
			}
			if _, err := s.Stat(t.Context(), "key"); err == nil {
				t.Error("there is an object after PUTs that were refused")
			}
			if status := put(t, signed, "content"); status != http.StatusOK {
				t.Fatalf("PUT as signed: %d", status)
			}
			asked("the PUT")
			if _, err := storage.PutBytes(t.Context(), s, "own", []byte("content")); err != nil {
				t.Fatal(err)
			}
			asked("Put")
			id, err := s.CreateUpload(t.Context(), "upload")
			if err != nil {
				t.Fatal(err)
			}
			asked("CreateUpload")
			part, err := s.SignPart(t.Context(), "upload", id, 1, storage.SignOptions{Expires: time.Minute})
			if err != nil || len(part.Header) > 0 {
				t.Errorf("SignPart: headers %v, %v: the upload itself says how", part.Header, err)
			}
		})
	}
}
