package fetcher

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

type uri = mesos.CommandInfo_URI

func p[T any](v T) *T { return &v }

func newFetcher(t *testing.T, limit int64) *Fetcher {
	t.Helper()
	f, err := New(filepath.Join(t.TempDir(), "cache"), limit)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// sandbox is a directory whose parent must stay as it is.
func sandbox(t *testing.T) string {
	t.Helper()
	outer := t.TempDir()
	dir := filepath.Join(outer, "sandbox")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if entries, _ := os.ReadDir(outer); len(entries) != 1 {
			t.Errorf("something was written beside the sandbox: %v", entries)
		}
	})
	return dir
}

type member struct {
	name, body, link string
	kind             byte
	mode             int64
}

func tarball(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{
			Name: m.name, Linkname: m.link, Typeflag: m.kind, Mode: m.mode, Size: int64(len(m.body)),
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.Create(m.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// serve gives the base URL of a server of files, and counts its requests.
func serve(t *testing.T, files map[string][]byte) (string, *atomic.Int32) {
	t.Helper()
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		data, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	return server.URL, &requests
}

func TestFetch(t *testing.T) {
	base, _ := serve(t, map[string][]byte{
		"plain": []byte("hello"),
		"a.tgz": gzipped(t, tarball(t, member{name: "d/x", body: "x", kind: tar.TypeReg, mode: 0o4755},
			member{name: "l", link: "d/x", kind: tar.TypeSymlink}, member{name: "h", link: "d/x", kind: tar.TypeLink})),
		"a.zip":  zipped(t, member{name: "z/y", body: "y"}),
		"one.gz": gzipped(t, []byte("one")),
	})
	local := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(local, []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		uri  uri
		want map[string]string // path: content
		none string            // must not be there
		mode map[string]os.FileMode
	}{
		"http":          {uri: uri{Value: base + "/plain"}, want: map[string]string{"plain": "hello"}, mode: map[string]os.FileMode{"plain": 0o644}},
		"executable":    {uri: uri{Value: base + "/plain", Executable: p(true)}, want: map[string]string{"plain": "hello"}, mode: map[string]os.FileMode{"plain": 0o755}},
		"output file":   {uri: uri{Value: base + "/plain?q=1", OutputFile: p("o/p")}, want: map[string]string{"o/p": "hello"}},
		"query in name": {uri: uri{Value: base + "/plain?q=1"}, want: map[string]string{"plain?q=1": "hello"}},
		"path":          {uri: uri{Value: local}, want: map[string]string{"local": "here"}},
		"file":          {uri: uri{Value: "file://" + local}, want: map[string]string{"local": "here"}},
		"tgz": {uri: uri{Value: base + "/a.tgz"}, want: map[string]string{"d/x": "x", "l": "x", "h": "x"},
			mode: map[string]os.FileMode{"d/x": 0o755}},
		"tgz as it is": {uri: uri{Value: base + "/a.tgz", Extract: p(false)}, none: "d"},
		"tgz cached":   {uri: uri{Value: base + "/a.tgz", Cache: p(true)}, want: map[string]string{"d/x": "x"}, none: "a.tgz"},
		"zip":          {uri: uri{Value: base + "/a.zip"}, want: map[string]string{"z/y": "y"}},
		"gz":           {uri: uri{Value: base + "/one.gz"}, want: map[string]string{"one": "one"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := sandbox(t)
			r := Request{Sandbox: dir, URIs: []uri{test.uri}, Log: t.Output()}
			if err := newFetcher(t, 1<<20).Fetch(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			for path, want := range test.want {
				if got, err := os.ReadFile(filepath.Join(dir, path)); string(got) != want {
					t.Errorf("%s: %q, %v", path, got, err)
				}
			}
			for path, want := range test.mode {
				if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode() != want {
					t.Errorf("%s: %v, %v", path, info.Mode(), err)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, test.none)); test.none != "" && err == nil {
				t.Errorf("%s is there", test.none)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	base, _ := serve(t, map[string][]byte{
		"up.tar":   tarball(t, member{name: "../up", kind: tar.TypeReg}),
		"abs.tar":  tarball(t, member{name: "/tmp/abs", kind: tar.TypeReg}),
		"link.tar": tarball(t, member{name: "l", link: "..", kind: tar.TypeSymlink}, member{name: "l/up", body: "x", kind: tar.TypeReg}),
		"hard.tar": tarball(t, member{name: "h", link: "../../etc/passwd", kind: tar.TypeLink}),
		"dev.tar":  tarball(t, member{name: "d", kind: tar.TypeChar}),
		"up.zip":   zipped(t, member{name: "../up"}),
		"torn.tgz": gzipped(t, tarball(t, member{name: "x", body: "x", kind: tar.TypeReg}))[:30],
		"a.tar.xz": []byte("xz"),
		"x":        nil,
	})
	for name, test := range map[string]struct {
		uri  uri
		want string
	}{
		"missing":         {uri{Value: base + "/none?secret=1"}, "404"},
		"missing file":    {uri{Value: "/nowhere/at/all"}, "no such file"},
		"directory":       {uri{Value: "/tmp"}, "not a regular file"},
		"relative":        {uri{Value: "x"}, "relative path"},
		"scheme":          {uri{Value: "hdfs://x/y"}, "not supported"},
		"no path":         {uri{Value: "http://host"}, "missing path"},
		"no name":         {uri{Value: "http://host/"}, "missing file name"},
		"output up":       {uri{Value: base + "/x", OutputFile: p("../x")}, "inside the sandbox"},
		"output absolute": {uri{Value: base + "/x", OutputFile: p("/x")}, "inside the sandbox"},
		"entry up":        {uri{Value: base + "/up.tar"}, "leads outside"},
		"entry absolute":  {uri{Value: base + "/abs.tar"}, "leads outside"},
		"through a link":  {uri{Value: base + "/link.tar"}, "escapes"},
		"hard link":       {uri{Value: base + "/hard.tar"}, "leads outside"},
		"device":          {uri{Value: base + "/dev.tar"}, "neither file"},
		"zip up":          {uri{Value: base + "/up.zip"}, "leads outside"},
		"torn":            {uri{Value: base + "/torn.tgz"}, "EOF"},
		"xz":              {uri{Value: base + "/a.tar.xz"}, "not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{Sandbox: sandbox(t), URIs: []uri{test.uri}, Log: t.Output()}
			err := newFetcher(t, 1<<20).Fetch(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			} else if strings.Contains(err.Error(), "secret=") {
				t.Errorf("the query is told: %v", err)
			}
		})
	}
}

func TestCache(t *testing.T) {
	base, requests := serve(t, map[string][]byte{"a": []byte("aaaa"), "b": []byte("bbbb"), "big": make([]byte, 100)})
	f := newFetcher(t, 6)
	get := func(name, user string) {
		dir := sandbox(t)
		r := Request{Sandbox: dir, URIs: []uri{{Value: base + "/" + name, Cache: p(true)}}, User: user, Log: t.Output()}
		if err := f.Fetch(t.Context(), r); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { get("a", "") })
	}
	all.Wait()
	for _, step := range []struct {
		name, user string
		requests   int32
	}{
		{"a", "", 1},      // all five came from one
		{"a", "other", 2}, // which evicts the first
		{"a", "other", 2},
		{"b", "", 3}, // evicts a
		{"a", "other", 4},
		{"big", "", 6}, // tried, then fetched past the cache
	} {
		get(step.name, step.user)
		if got := requests.Load(); got != step.requests {
			t.Fatalf("%+v: %d requests", step, got)
		}
	}
}
