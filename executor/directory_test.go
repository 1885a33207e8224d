package executor

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// directoryOf decodes a directory output.
func directoryOf(t *testing.T, res tasklet.Result, name string) tasklet.FileRef {
	t.Helper()
	var ref tasklet.FileRef
	if err := json.Unmarshal(res.Outputs[name], &ref); err != nil || !ref.IsDirectory() {
		t.Fatalf("%v %+v %+v", err, ref, res)
	}
	return ref
}

// reader gives a job that gets a reference as input "in".
func (r *rig) reader(shell string, ref tasklet.FileRef) *tasklet.Launch {
	l := r.job(shell)
	l.Partitions[0].Inputs = map[string]tasklet.Input{"in": {Files: []tasklet.Source{{FileRef: ref, URL: r.store.sign(ref.Key)}}}}
	return l
}

// describe lists a tree: kinds, modes, names, links and contents.
const describe = `find . -mindepth 1 -printf '%y %m %P %l\n' | LC_ALL=C sort; find . -type f -readable | LC_ALL=C sort | xargs -d '\n' cksum`

const plant = `cd $BAAS_OUTPUTS; mkdir d; cd d; mkdir -p a/b empty; seq 1 20000 > a/big; seq 5 50000 > a/b/bigger; : > a/nothing
	printf x > 'a/with space'; printf y > .hidden; echo run > a/tool; chmod 755 a/tool; chmod 400 a/b/bigger; ln -s ../a/tool a/b/up; ln -s b a/dir; ln -s later dangling
	chmod 500 a/b; chmod 711 empty; `

func TestDirectory(t *testing.T) {
	for form, tune := range map[tasklet.Form]func(*Tuning){
		tasklet.FormArchive: func(t *Tuning) { t.MinCached = 1 << 30 },
		tasklet.FormTree: func(t *Tuning) {
			t.SinglePut, t.DownloadPart, t.MinCached = 100<<10, 64<<10, 1<<30
		},
	} {
		for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
			t.Run(string(form)+", "+name, func(t *testing.T) {
				s.tune = tune
				r := newRig(t, s)
				l := r.job(plant + describe)
				r.output(l, "d", tasklet.TypeDirectory)
				ref := directoryOf(t, r.one(l), "d")
				if ref.Form != form || ref.Name != "d" {
					t.Fatalf("%+v", ref)
				}
				object, _ := r.store.get(ref.Key)
				if ref.Stored() != int64(len(object)) {
					t.Errorf("%+v is in an object of %d bytes", ref, len(object))
				}
				second := r.reader("cd $BAAS_INPUT_IN; "+describe, ref)
				if res := r.one(second); res.Outcome != tasklet.Succeeded || res.Usage.Fetched == 0 || res.Usage.Cached != 0 {
					t.Fatalf("%+v", res)
				}
				if have, want := r.logOf(second, 0), r.logOf(l, 0); have != want || !strings.Contains(want, "l 777 a/b/up ../a/tool\n") || !strings.Contains(want, "d 711 empty \n") {
					t.Errorf("staged:\n%s\nwritten:\n%s", have, want)
				}
				if left, err := os.ReadDir(r.sandbox + "/work/spool"); err != nil || len(left) > 0 {
					t.Errorf("spool holds %v, %v", left, err)
				}
			})
		}
	}
}

// The same content has the same hash, whenever and by whomever it was written.
func TestDirectoryIsItsContent(t *testing.T) {
	r := newRig(t, setup{})
	var hashes []string
	for _, shell := range []string{plant, "umask 022; " + plant + "touch -d yesterday a/big"} {
		l := r.job(shell)
		r.output(l, "d", tasklet.TypeDirectory)
		hashes = append(hashes, directoryOf(t, r.one(l), "d").SHA256)
	}
	if hashes[0] != hashes[1] {
		t.Errorf("%v", hashes)
	}
}

func TestListOfDirectories(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("mkdir $BAAS_OUTPUTS/d $BAAS_OUTPUTS/none; echo 1 > $BAAS_OUTPUTS/d/one")
	r.output(l, "d", tasklet.TypeDirectory)
	r.output(l, "none", tasklet.TypeDirectory)
	res := r.one(l)
	next := r.job("cd $BAAS_INPUT_IN; find . | LC_ALL=C sort | tr '\\n' ' '")
	in := tasklet.Input{List: true}
	for _, name := range []string{"d", "none"} {
		ref := directoryOf(t, res, name)
		in.Files = append(in.Files, tasklet.Source{FileRef: ref, URL: r.store.sign(ref.Key)})
	}
	next.Partitions[0].Inputs = map[string]tasklet.Input{"in": in}
	r.one(next)
	if log := r.logOf(next, 0); log != ". ./00000-d ./00000-d/one ./00001-none " {
		t.Errorf("log %q", log)
	}
}

func TestDirectoryThatCannotBeTaken(t *testing.T) {
	r := newRig(t, setup{})
	for name, c := range map[string]struct{ shell, reason string }{
		"missing":     {"true", "missing"},
		"a file":      {"echo > $BAAS_OUTPUTS/d", "is to be a directory"},
		"a link":      {"ln -s /etc $BAAS_OUTPUTS/d", "is to be a directory"},
		"a pipe":      {"mkdir $BAAS_OUTPUTS/d; mkfifo $BAAS_OUTPUTS/d/p", "p is neither file, directory nor link"},
		"link out":    {"mkdir $BAAS_OUTPUTS/d; ln -s ../../x $BAAS_OUTPUTS/d/l", "outside of the directory"},
		"link to /":   {"mkdir $BAAS_OUTPUTS/d; ln -s /etc/passwd $BAAS_OUTPUTS/d/l", "outside of the directory"},
		"by two ways": {"mkdir -p $BAAS_OUTPUTS/d/a/b; cd $BAAS_OUTPUTS/d; ln -s ../.. a/b/up; ln -s a/b/up/../x l", "outside of the directory"},
	} {
		l := r.job(c.shell)
		r.output(l, "d", tasklet.TypeDirectory)
		if res := r.one(l); res.Outcome != tasklet.Failed || !strings.HasPrefix(res.Reason, `output "d"`) || !strings.Contains(res.Reason, c.reason) {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

// manyFiles gives 300 files of 0 to 40 KB, which parts of 64 KiB cut anywhere.
const manyFiles = `mkdir $BAAS_OUTPUTS/d; cd $BAAS_OUTPUTS/d; for i in $(seq 300); do mkdir -p $((i % 7)); head -c $((i * 137 % 40000)) /dev/urandom > $((i % 7))/$i; done; `

func smallParts(t *Tuning) {
	t.SinglePut, t.SplitDownload, t.DownloadPart = 100<<10, 128<<10, 64<<10
}

func TestTreeIsFetchedInPartsAcrossCuts(t *testing.T) {
	r := newRig(t, setup{tune: smallParts})
	l := r.job(manyFiles + describe)
	r.output(l, "d", tasklet.TypeDirectory)
	ref := directoryOf(t, r.one(l), "d")
	object, _ := r.store.get(ref.Key)
	var cuts, gets atomic.Int32
	r.store.set(func() {
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodGet {
				return false
			}
			if gets.Add(1)%3 != 2 {
				return false
			}
			cuts.Add(1)
			var from, to int
			_, _ = fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			w.Header().Set("Content-Length", fmt.Sprint(to-from+1))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(object[from : from+rand.N(to-from+1)])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	next := r.reader("cd $BAAS_INPUT_IN; "+describe, ref)
	if res := r.one(next); res.Usage.Fetched != ref.Bytes+ref.Size {
		t.Errorf("%+v, of %+v", res, ref)
	}
	if r.logOf(next, 0) != r.logOf(l, 0) {
		t.Error("the trees differ")
	}
	if parts := int32(ref.Bytes / (64 << 10)); cuts.Load() < 5 || gets.Load() < parts {
		t.Errorf("%d cuts in %d requests for %d parts", cuts.Load(), gets.Load(), parts)
	}
}

// Tasks that want the same tree at the same time do not wait for each other when the
// cache would take none of its files.
func TestTreesOfSmallFilesComeSideBySide(t *testing.T) {
	r := newRig(t, setup{tune: func(t *Tuning) { t.SinglePut, t.DownloadPart = 100<<10, 64<<20 }})
	l := r.job(manyFiles) // each below MinCached
	r.output(l, "d", tasklet.TypeDirectory)
	ref := directoryOf(t, r.one(l), "d")
	together := map[string]chan struct{}{"0": make(chan struct{}), "1": make(chan struct{})}
	var asked [2]atomic.Bool
	r.store.set(func() {
		r.store.intercept = func(_ http.ResponseWriter, req *http.Request) bool {
			reader := req.URL.Query().Get("reader")
			if reader == "" || !strings.HasPrefix(req.Header.Get("Range"), "bytes=0-") || asked[int(reader[0]-'0')].Swap(true) {
				return false
			}
			close(together[reader])
			for _, here := range together {
				select {
				case <-here:
				case <-time.After(5 * time.Second): // sooner than it is asked again
					t.Error("one waits for the other")
				}
			}
			return false
		}
	})
	var jobs []*tasklet.Launch
	for i := range 2 {
		l := r.reader("true", ref)
		l.Partitions[0].Inputs["in"].Files[0].URL += fmt.Sprint("&reader=", i)
		jobs = append(jobs, l)
		r.launch(l)
	}
	for _, l := range jobs {
		if _, results := r.finish(l); results[0].Outcome != tasklet.Succeeded || results[0].Usage.Cached != 0 {
			t.Errorf("%+v", results[0])
		}
	}
	if !asked[0].Load() || !asked[1].Load() {
		t.Error("not both have asked")
	}
}

func TestTreeWithWrongBytes(t *testing.T) {
	r := newRig(t, setup{tune: smallParts})
	l := r.job(manyFiles)
	r.output(l, "d", tasklet.TypeDirectory)
	ref := directoryOf(t, r.one(l), "d")
	change := func(offset int64) func() {
		return func() {
			object := append([]byte(nil), r.store.objects[ref.Key]...)
			object[offset] ^= 1
			r.store.objects[ref.Key] = object
		}
	}
	r.store.set(change(ref.Bytes / 2))
	if res := r.one(r.reader("true", ref)); res.Outcome != tasklet.Platform || !strings.Contains(res.Reason, "content has SHA-256") {
		t.Errorf("wrong file: %+v", res)
	}
	r.store.set(change(ref.Bytes / 2))
	r.store.set(change(ref.Offset + ref.Size/2))
	if res := r.one(r.reader("true", ref)); res.Outcome != tasklet.Platform || !strings.Contains(res.Reason, "content has SHA-256") {
		t.Errorf("wrong manifest: %+v", res)
	}
	if left, err := filepath.Glob(r.sandbox + "/work/cache/new-*"); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func refOf(t *testing.T, res tasklet.Result, name string) tasklet.FileRef {
	t.Helper()
	var ref tasklet.FileRef
	if err := json.Unmarshal(res.Outputs[name], &ref); err != nil {
		t.Fatalf("%v %+v", err, res)
	}
	return ref
}
