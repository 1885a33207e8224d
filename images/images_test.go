package images

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// testRegistry is a registry in this process. With a password, it wants one.
type testRegistry struct {
	t        *testing.T
	url      string
	host     string
	password string
	broken   bool
}

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{t: t}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, password, _ := req.BasicAuth()
		switch {
		case r.broken:
			http.Error(w, "busy", http.StatusServiceUnavailable)
		case r.password != "" && password != r.password && req.Method != http.MethodPut && req.Method != http.MethodPost:
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		default:
			inner.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(server.Close)
	r.url, r.host = server.URL, strings.TrimPrefix(server.URL, "http://")
	return r
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func (r *testRegistry) put(path, mediaType string, body []byte) {
	r.t.Helper()
	method := http.MethodPut
	if strings.Contains(path, "/blobs/") {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, r.url+"/v2/"+path, strings.NewReader(string(body)))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		r.t.Fatalf("%s: %s", path, resp.Status)
	}
}

const (
	dockerList   = "application/vnd.docker.distribution.manifest.list.v2+json"
	ociManifest  = "application/vnd.oci.image.manifest.v1+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
)

type descriptor struct {
	MediaType string            `json:"mediaType"`
	Size      int               `json:"size"`
	Digest    string            `json:"digest"`
	Platform  map[string]string `json:"platform,omitempty"`
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// push stores an image of one platform, and describes it.
func (r *testRegistry) push(repository, tag, mediaType, architecture, content string) descriptor {
	r.t.Helper()
	config := asJSON(r.t, map[string]any{"os": "linux", "architecture": architecture, "comment": content})
	r.put(repository+"/blobs/uploads/?digest="+digest(config), "application/octet-stream", config)
	manifest := asJSON(r.t, map[string]any{
		"schemaVersion": 2, "mediaType": mediaType, "layers": []any{},
		"config": descriptor{MediaType: dockerConfig, Size: len(config), Digest: digest(config)},
	})
	r.put(repository+"/manifests/"+tag, mediaType, manifest)
	return descriptor{mediaType, len(manifest), digest(manifest), map[string]string{"os": "linux", "architecture": architecture}}
}

func TestPin(t *testing.T) {
	r := newRegistry(t)
	first := r.push("team/tool", "1.0", dockerManifest, "amd64", "first")
	arm := r.push("team/many", "arm", dockerManifest, "arm64", "arm")
	intel := r.push("team/many", "intel", dockerManifest, "amd64", "intel")
	list := asJSON(t, map[string]any{"schemaVersion": 2, "mediaType": dockerList, "manifests": []descriptor{arm, intel}})
	r.put("team/many/manifests/latest", dockerList, list)
	p := New(Config{Default: r.host})
	pin := func(name, want string) {
		t.Helper()
		if got, err := p.Pin(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	pin(r.host+"/team/tool:1.0", r.host+"/team/tool@"+first.Digest)
	pin("team/tool:1.0", "team/tool@"+first.Digest) // of the default registry, and named as it was
	pin(r.host+"/team/many", r.host+"/team/many@"+intel.Digest)
	pin("none/at/all@"+first.Digest, "none/at/all@"+first.Digest)
	if got, err := New(Config{Architecture: "arm64"}).Pin(t.Context(), r.host+"/team/many"); err != nil || got != r.host+"/team/many@"+arm.Digest {
		t.Errorf("%s, %v", got, err)
	}
	// The tag moves: runs that start now get the new image.
	second := r.push("team/tool", "1.0", dockerManifest, "amd64", "second")
	if first.Digest == second.Digest {
		t.Fatal("both images are the same")
	}
	pin(r.host+"/team/tool:1.0", r.host+"/team/tool@"+second.Digest)
}

func TestImagesThatCannotBePinned(t *testing.T) {
	r := newRegistry(t)
	r.push("team/oci", "1", ociManifest, "amd64", "x")
	r.push("team/arm", "1", dockerManifest, "arm64", "x")
	p := New(Config{})
	for name, want := range map[string]error{
		"/team/none:1": ErrNotFound, "/team/arm:2": ErrNotFound, "/team/UPPER:1": ErrNotFound, "/team/arm:1": ErrNotFound,
		"/team/oci:1": ErrUnusable,
	} {
		if got, err := p.Pin(t.Context(), r.host+name); !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	r.broken = true
	if _, err := p.Pin(t.Context(), r.host+"/team/arm:1"); err == nil || Final(err) {
		t.Error(err)
	}
	if _, err := p.Pin(t.Context(), "127.0.0.1:1/team/arm:1"); err == nil || Final(err) || !strings.Contains(err.Error(), "registry 127.0.0.1:1") {
		t.Error(err)
	}
}

func TestCredentials(t *testing.T) {
	r := newRegistry(t)
	image := r.push("team/tool", "1", dockerManifest, "amd64", "x")
	r.password = "hunter2"
	config := func(password string) func(context.Context) ([]byte, error) {
		return func(context.Context) ([]byte, error) {
			return fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, r.host, base64.StdEncoding.EncodeToString([]byte("me:"+password))), nil
		}
	}
	name := r.host + "/team/tool:1"
	if got, err := New(Config{Credentials: config("hunter2")}).Pin(t.Context(), name); err != nil || got != r.host+"/team/tool@"+image.Digest {
		t.Errorf("%s, %v", got, err)
	}
	broken := func(context.Context) ([]byte, error) { return []byte(`{"auths": "hunter2"`), nil }
	for what, c := range map[string]Config{
		"none": {}, "wrong": {Credentials: config("hunter3")}, "no file": {Credentials: broken},
	} {
		if _, err := New(c).Pin(t.Context(), name); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", what, err)
		}
	}
	away := func(context.Context) ([]byte, error) { return nil, errors.New("vault does not answer") }
	if _, err := New(Config{Credentials: away}).Pin(t.Context(), name); err == nil || Final(err) {
		t.Error(err)
	}
}

func TestDefaultRegistry(t *testing.T) {
	for _, good := range []string{"registry-1.docker.io", "registry.example.com:5000", "localhost"} {
		if err := CheckHost(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"https://registry.example.com", "registry.example.com/team", "a b", "user@host", ""} {
		if err := CheckHost(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Names without a registry are read as Docker reads them.
func TestReference(t *testing.T) {
	for name, want := range map[string]string{
		"debian:12": "registry-1.docker.io/library/debian:12", "me/tool": "registry-1.docker.io/me/tool:latest",
		"docker.io/debian": "registry-1.docker.io/library/debian:latest", "localhost/x:1": "localhost/x:1",
		"example.com:5000/a/b": "example.com:5000/a/b:latest",
	} {
		ref, _, err := New(Config{}).reference(name)
		if err != nil || ref.String() != want {
			t.Errorf("%s: %s, %v", name, ref, err)
		}
	}
}
