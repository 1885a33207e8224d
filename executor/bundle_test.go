package executor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// entry is one entry of a tar archive in tests.
type entry struct {
	name, content, link string
	mode                int64
	kind                byte
}

func tarOf(entries ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Mode: e.mode, Typeflag: e.kind, Size: int64(len(e.content))}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			panic(err)
		}
	}
	_ = w.Close()
	return b.Bytes()
}

func tarGz(entries ...entry) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(tarOf(entries...))
	_ = z.Close()
	return b.Bytes()
}

func tarZstd(entries ...entry) []byte {
	z, _ := zstd.NewWriter(nil)
	return z.EncodeAll(tarOf(entries...), nil)
}

func (r *rig) bundle(data []byte) tasklet.Source {
	return r.store.put(fmt.Sprintf("bundles/%d", r.serial.Add(1)), data)
}

func TestBundle(t *testing.T) {
	for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
		t.Run(name, func(t *testing.T) { testBundle(t, newRig(t, s)) })
	}
}

func testBundle(t *testing.T, r *rig) {
	entries := []entry{
		{name: "./", kind: tar.TypeDir, mode: 0o755},
		{name: "./render.sh", content: "#!/bin/sh\ncat lib/x; cat alias; touch lib/new 2> /dev/null && echo lib is writable\necho z > own; ls\n", mode: 0o755},
		{name: "lib/x", content: "library\n"},
		{name: "alias", link: "lib/x", kind: tar.TypeSymlink},
	}
	var fetched atomic.Int32
	r.store.set(func() {
		r.store.intercept = func(_ http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.Path, "bundles/") {
				fetched.Add(1)
			}
			return false
		}
	})
	for _, data := range [][]byte{tarGz(entries...), tarZstd(entries...), tarOf(entries...)} {
		fetched.Store(0)
		src := r.bundle(data)
		var jobs []*tasklet.Launch
		for i := range 4 {
			l := r.job("./render.sh")
			if i == 0 {
				l.Shell, l.Args = "", []string{"render.sh"}
			}
			l.Bundle = &src
			jobs = append(jobs, l)
			r.launch(l)
		}
		for _, l := range jobs {
			if state, results := r.finish(l); state != mesos.TASK_FINISHED {
				t.Fatalf("%s %+v", state, results)
			}
			if got, want := r.logOf(l, 0), "library\nlibrary\nalias\nlib\nown\nrender.sh\n"; got != want {
				t.Errorf("log %q, want %q", got, want)
			}
		}
		if n := fetched.Load(); n != 1 {
			t.Errorf("fetched %d times", n)
		}
	}
}

func TestUnusedBundlesAreRemoved(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.IdleBundles = 2 }})
	for i := range 5 {
		src := r.bundle(tarGz(entry{name: "n", content: fmt.Sprint(i)}))
		l := r.job("cat n")
		l.Bundle = &src
		r.run(l)
	}
	kept, err := filepath.Glob(filepath.Join(r.sandbox, "work", "bundles", "*"))
	if err != nil || len(kept) != 2 {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func TestBadBundle(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("true")
	src := r.bundle([]byte("this is no archive at all, whatever its name says"))
	l.Bundle = &src
	if res := r.one(l); res.Outcome != tasklet.Invalid || !strings.Contains(res.Reason, "archive cannot be read") {
		t.Errorf("%+v", res)
	}
	l = r.job("true")
	src.SHA256 = "../../etc"
	l.Bundle = &src
	if res := r.one(l); res.Outcome != tasklet.Invalid {
		t.Errorf("%+v", res)
	}
	// A bundle that cannot be had is not the user's fault.
	l = r.job("true")
	src = r.bundle(tarGz(entry{name: "n"}))
	src.URL = r.store.sign("gone")
	l.Bundle = &src
	r.store.set(func() { r.store.denied[tasklet.RoleBundle] = "no such bundle" })
	if res := r.one(l); res.Outcome != tasklet.Platform {
		t.Errorf("%+v", res)
	}
}

func TestHostileArchives(t *testing.T) {
	bomb := entry{name: "zeros", content: strings.Repeat("\x00", 3<<20)}
	for name, c := range map[string]struct {
		entries []entry
		reason  string // "": it is all right
	}{
		"good":              {entries: []entry{{name: "d/x", content: "x"}, {name: "l", link: "d/x", kind: tar.TypeSymlink}, {name: "h", link: "d/x", kind: tar.TypeLink}}},
		"dangling":          {entries: []entry{{name: "l", link: "later", kind: tar.TypeSymlink}}},
		"absolute":          {[]entry{{name: "/etc/x"}}, "leads out"},
		"parent":            {[]entry{{name: "../x"}}, "leads out"},
		"parent inside":     {[]entry{{name: "a/../../x"}}, "leads out"},
		"absolute link":     {[]entry{{name: "l", link: "/etc/passwd", kind: tar.TypeSymlink}}, "outside"},
		"parent link":       {[]entry{{name: "d/l", link: "../../x", kind: tar.TypeSymlink}}, "outside"},
		"through a link":    {[]entry{{name: "a/b/up", link: "../..", kind: tar.TypeSymlink}, {name: "a/b/out", link: "up/../x", kind: tar.TypeSymlink}}, "out"},
		"write by a link":   {[]entry{{name: "l", link: "nowhere/..", kind: tar.TypeSymlink}, {name: "l/../x"}}, "leads out"},
		"hard link out":     {[]entry{{name: "h", link: "../../etc/passwd", kind: tar.TypeLink}}, "cannot be unpacked"},
		"link to directory": {[]entry{{name: "d", kind: tar.TypeDir}, {name: "h", link: "d", kind: tar.TypeLink}}, "hard link to a directory"},
		"link to a link":    {[]entry{{name: "a/b/c/l", link: "../../x", kind: tar.TypeSymlink}, {name: "h", link: "a/b/c/l", kind: tar.TypeLink}}, "links out"},
		"device":            {[]entry{{name: "null", kind: tar.TypeChar}}, "neither file"},
		"pipe":              {[]entry{{name: "p", kind: tar.TypeFifo}}, "neither file"},
		"too many bytes":    {[]entry{bomb}, "more than 2.1 MB"},
		"too many entries":  {[]entry{{name: "1"}, {name: "2"}, {name: "3"}, {name: "4"}, {name: "5"}, {name: "6"}}, "more than 5 entries"},
		"deep entry":        {[]entry{{name: "1/2/3/4/5/6"}}, "more than 5 entries"},
		"not UTF-8":         {[]entry{{name: "a\xff/b"}}, "not UTF-8"},
		"long name":         {[]entry{{name: strings.Repeat("n/", 1500) + "n"}}, "a name of 3001 bytes"},
		"file over a link":  {entries: []entry{{name: "x", content: "1"}, {name: "l", link: "x", kind: tar.TypeSymlink}, {name: "l", content: "2"}}},
		"directory by link": {entries: []entry{{name: "d/x", content: "1"}, {name: "e", link: "d", kind: tar.TypeSymlink}, {name: "e/y", content: "2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = tree.Remove(dir) })
			err := tree.Unpack(bytes.NewReader(tarZstd(c.entries...)), tree.Unpacking{Dir: dir, ReadOnly: true, Times: true, Bounds: tree.Bounds{Bytes: 2 << 20, Entries: 5}})
			switch {
			case c.reason == "" && err != nil:
				t.Error(err)
			case c.reason != "" && (err == nil || !strings.Contains(err.Error(), c.reason)):
				t.Errorf("error %v, want %q", err, c.reason)
			}
			outside, _ := os.ReadDir(base)
			if len(outside) != 1 {
				t.Errorf("written outside: %v", outside)
			}
		})
	}
}

func TestPackAndUnpack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write := func(name string, mode os.FileMode) {
		path := filepath.Join(from, "sub", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("a", 0o600)
	write("deep/er/b", 0o755)
	write("deep/ro/c", 0o444)
	for _, err := range []error{
		os.Chmod(filepath.Join(from, "sub/deep/ro"), 0o555),
		os.Symlink("deep/er/b", filepath.Join(from, "sub/l")),
		os.WriteFile(filepath.Join(from, "beside"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	makeFifo(t, filepath.Join(from, "sub/pipe"))
	t.Cleanup(func() { _, _ = tree.Remove(from), tree.Remove(to) })
	root, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var b bytes.Buffer
	bounds := tree.Bounds{Bytes: 1 << 20, Entries: 100}
	files := map[string][]byte{"commit": []byte("sub\n")}
	if err := tree.Pack(&b, tree.Packing{Root: root, Sub: "sub", Files: files, Open: opener(user{}), Bounds: bounds}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Unpack(&b, tree.Unpacking{Dir: to, Bounds: bounds}); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"sub/a": 0o600, "sub/deep/er/b": 0o755, "sub/deep/ro/c": 0o444, "sub/deep/ro": os.ModeDir | 0o555, "sub/l": os.ModeSymlink | 0o777, "commit": 0o600} {
		info, err := os.Lstat(filepath.Join(to, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	for _, name := range []string{"beside", "sub/pipe"} {
		if _, err := os.Lstat(filepath.Join(to, name)); err == nil {
			t.Errorf("%s went along", name)
		}
	}
}

func TestBundleIsFetchedAgainAfterAFailure(t *testing.T) {
	r := newRig(t, setup{})
	src := r.bundle(tarGz(entry{name: "n", content: "n"}))
	var once sync.Once
	begun, let := make(chan struct{}), make(chan struct{})
	r.store.set(func() {
		r.store.intercept = func(_ http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.Path, "bundles/") {
				once.Do(func() {
					close(begun)
					select {
					case <-let:
					case <-req.Context().Done():
					}
				})
			}
			return false
		}
	})
	first, second := r.job("cat n"), r.job("cat n")
	first.Bundle, second.Bundle = &src, &src
	r.launch(first)
	<-begun
	r.launch(second)
	r.agent.kill(first.TaskID, 0) // it was fetching for both
	if state, _ := r.finish(first); state != mesos.TASK_KILLED {
		t.Errorf("%s", state)
	}
	if state, _ := r.finish(second); state != mesos.TASK_FINISHED {
		t.Errorf("%s", state)
	}
	close(let)
}
