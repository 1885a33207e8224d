package executor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// source puts an object of so many bytes.
func (r *rig) source(name string, size int) tasklet.Source {
	return r.store.put(name, bytes.Repeat([]byte(name+"!"), size)[:size])
}

func TestInputsComeFromTheCache(t *testing.T) {
	r := newRig(t, setup{})
	src, small := r.source("doc", 300<<10), r.source("small", 100)
	job := func(shell string) *tasklet.Launch {
		l := r.job(shell)
		l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{src}}, "small": {Files: []tasklet.Source{small}}}
		return l
	}
	// What a task does to its copy, nobody else sees; and it sees no other's.
	first := job("cksum < $BAAS_INPUT_DOC; echo changed > $BAAS_INPUT_DOC; echo own > $BAAS_INPUTS/other; ls " + r.sandbox + "/work/cache && echo cache is open")
	if res := r.one(first); res.Usage.Fetched != src.Size+small.Size || res.Usage.Cached != 0 {
		t.Errorf("first: %+v", res)
	}
	r.store.set(func() { delete(r.store.objects, "doc") })
	second := job("cksum < $BAAS_INPUT_DOC")
	if res := r.one(second); res.Outcome != tasklet.Succeeded || res.Usage.Cached != src.Size || res.Usage.Fetched != small.Size {
		t.Errorf("second: %+v", res)
	}
	if have, want := r.logOf(first, 0), r.logOf(second, 0); !strings.HasPrefix(have, want) || strings.Contains(have, "is open") {
		t.Errorf("first %q, second %q", have, want)
	}
	info, err := os.Stat(r.sandbox + "/work/cache")
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestOutputsComeFromTheCache(t *testing.T) {
	for name, tune := range map[string]func(*Tuning){"archive": nil, "tree": smallParts} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{tune: tune})
			l := r.job("cd $BAAS_OUTPUTS; head -c 200k /dev/urandom > one; mkdir d; head -c 300k /dev/urandom > d/two; echo 3 > d/three; cat one d/* | cksum")
			r.output(l, "one", tasklet.TypeFile)
			r.output(l, "d", tasklet.TypeDirectory)
			res := r.one(l)
			next := r.reader("cat $BAAS_INPUT_ONE $BAAS_INPUT_IN/* | cksum; stat -c %U:%h $BAAS_INPUT_ONE", directoryOf(t, res, "d"))
			one := refOf(t, res, "one")
			next.Partitions[0].Inputs["one"] = tasklet.Input{Files: []tasklet.Source{{FileRef: one, URL: r.store.sign(one.Key)}}}
			got := r.one(next)
			if got.Usage.Cached < 500<<10 || got.Usage.Fetched > 1000 {
				t.Errorf("%+v", got.Usage)
			}
			if have, want := r.logOf(next, 0), r.logOf(l, 0); !strings.HasPrefix(have, want) || !strings.HasSuffix(have, ":1\n") {
				t.Errorf("%q, not %q", have, want)
			}
		})
	}
}

// What has another name elsewhere does not change hands.
func TestOutputWithTwoNames(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("cd $BAAS_OUTPUTS; head -c 200k /dev/urandom > one; ln one two; ln one " + r.shared() + "/three; chmod 640 one; cksum < one")
	r.output(l, "one", tasklet.TypeFile)
	r.output(l, "two", tasklet.TypeFile)
	res := r.one(l)
	if a, b := refOf(t, res, "one"), refOf(t, res, "two"); a.SHA256 != b.SHA256 || a.Key == b.Key {
		t.Errorf("%+v, %+v", a, b)
	}
	info, err := os.Stat(r.shared() + "/three")
	if err != nil || info.Mode().Perm() != 0o640 || info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) {
		t.Errorf("%v, %v", info, err)
	}
	next := r.reader("cksum < $BAAS_INPUT_IN", refOf(t, res, "two"))
	if got := r.one(next); got.Usage.Cached != 200<<10 || r.logOf(next, 0) != r.logOf(l, 0) {
		t.Errorf("%+v", got)
	}
}

func TestCachedFileThatChangedIsFetched(t *testing.T) {
	r := newRig(t, setup{})
	src := r.source("doc", 300<<10)
	job := func() *tasklet.Launch {
		l := r.job("cksum < $BAAS_INPUT_DOC")
		l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{src}}}
		return l
	}
	first, second, third := job(), job(), job()
	r.one(first)
	path := filepath.Join(r.sandbox, "work", "cache", src.SHA256)
	for name, spoil := range map[string]func() error{
		"changed": func() error { return os.WriteFile(path, bytes.Repeat([]byte("x"), 300<<10), 0o600) },
		"longer":  func() error { return os.WriteFile(path, bytes.Repeat([]byte("doc!"), 90<<10), 0o600) },
		"gone":    func() error { return os.Remove(path) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		l := job()
		if res := r.one(l); res.Usage.Fetched != src.Size || r.logOf(l, 0) != r.logOf(first, 0) {
			t.Errorf("%s: %+v", name, res)
		}
	}
	r.one(second)
	if res := r.one(third); res.Usage.Cached != src.Size {
		t.Errorf("it was not kept again: %+v", res)
	}
}

// Tasks that want the same at the same time fetch it once.
func TestOneFetchesForAll(t *testing.T) {
	r := newRig(t, setup{})
	src := r.source("doc", 1<<20)
	var jobs []*tasklet.Launch
	for range 6 {
		l := r.job("cksum < $BAAS_INPUT_DOC")
		l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{src}}}
		jobs = append(jobs, l)
		r.launch(l)
	}
	var fetched, cached int64
	for _, l := range jobs {
		_, results := r.finish(l)
		fetched, cached = fetched+results[0].Usage.Fetched, cached+results[0].Usage.Cached
	}
	if fetched != src.Size || cached != 5*src.Size {
		t.Errorf("fetched %d, cached %d", fetched, cached)
	}
}

func TestNoCacheBesideDiskLimits(t *testing.T) {
	for _, c := range []struct {
		size int64
		kept int
	}{{AutoCache, 0}, {1 << 30, 1}, {0, 0}} {
		env := []string{}
		if c.size != AutoCache {
			env = append(env, fmt.Sprint(tasklet.EnvCacheSize, "=", c.size))
		}
		r := newRig(t, setup{env: env})
		src := r.source("doc", 1<<20)
		for _, disk := range []int64{0, 100 << 20, 0} {
			l := r.job("true")
			l.Limits.Disk = disk
			l.Partitions[0].Inputs = map[string]tasklet.Input{"doc": {Files: []tasklet.Source{src}}}
			r.one(l)
		}
		if kept, err := filepath.Glob(r.sandbox + "/work/cache/*"); err != nil || len(kept) != c.kept {
			t.Errorf("size %d: kept %v, %v", c.size, kept, err)
		}
	}
}

// file makes a file of the content's name and gives its hash.
func file(t *testing.T, content []byte) (*os.File, string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	sum, err := hashReader(t.Context(), f, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return f, sum
}

func taken(t *testing.T, c *cache, sum string, size int64) bool {
	t.Helper()
	dst, err := os.Create(filepath.Join(t.TempDir(), "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	return c.take(t.Context(), sum, size, dst)
}

// What another process has left, whole or not, is not taken over.
func TestCacheBeginsEmpty(t *testing.T) {
	dir := t.TempDir()
	_, sum := file(t, make([]byte, 300))
	for _, name := range []string{sum, "new-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 300), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := newCache(dir, 1000, 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || taken(t, c, sum, 300) {
		t.Errorf("%v, %v", left, err)
	}
}

func TestCacheForgetsWhatIsLongestUnused(t *testing.T) {
	c, err := newCache(filepath.Join(t.TempDir(), "cache"), 1000, 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var sums []string
	for i := range 4 {
		f, sum := file(t, bytes.Repeat([]byte{byte(i)}, 300))
		sums = append(sums, sum)
		if i == 3 {
			taken(t, c, sums[0], 300) // now the second is the oldest
			c.files[sums[2]].users++  // and this is being copied
		}
		c.keepCopy(t.Context(), sum, 300, f)
	}
	f, large := file(t, make([]byte, 800))
	c.keepCopy(t.Context(), large, 800, f) // finds no room beside what is in use
	g, tiny := file(t, make([]byte, 9))
	c.keepCopy(t.Context(), tiny, 9, g)
	for i, want := range []bool{true, false, true, true} {
		if have := taken(t, c, sums[i], 300); have != want {
			t.Errorf("%d: %v", i, have)
		}
	}
	if taken(t, c, large, 800) || taken(t, c, tiny, 9) {
		t.Error("it holds what it should not")
	}
	if left, err := os.ReadDir(c.dir); err != nil || len(left) != 3 || c.used != 900 {
		t.Errorf("%v, %v, %d bytes", left, err, c.used)
	}
}

// endsAfter is a context that ends when it has been asked so many times.
type endsAfter struct {
	context.Context
	left atomic.Int32
}

func (e *endsAfter) Err() error {
	if e.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// Who is killed does not wait for large copies, and spoils nothing for others.
func TestCacheLetsGo(t *testing.T) {
	const size = 3 * cloneStep
	c, err := newCache(filepath.Join(t.TempDir(), "cache"), 2*size, 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f, sum := file(t, bytes.Repeat([]byte("x"), size))
	ended, end := context.WithCancel(t.Context())
	end()
	c.keepCopy(ended, sum, size, f)
	if left, err := os.ReadDir(c.dir); err != nil || c.used > 0 || len(left) > 0 {
		t.Errorf("kept %v, %d bytes, %v", left, c.used, err)
	}
	c.keepCopy(t.Context(), sum, size, f)
	for asked := range int32(12) {
		dst, _ := file(t, nil)
		ctx := &endsAfter{Context: t.Context()}
		ctx.left.Store(asked)
		if c.take(ctx, sum, size, dst) || ctx.left.Load() >= 0 {
			t.Errorf("taken, %d of %d left", ctx.left.Load(), asked)
		}
		if info, err := dst.Stat(); err != nil || info.Size() > 0 {
			t.Errorf("%d bytes, %v", info.Size(), err)
		}
		if ctx.left.Load() < -20 {
			t.Errorf("it went on for %d steps", -ctx.left.Load())
		}
	}
	if !taken(t, c, sum, size) {
		t.Error("it is gone")
	}
}

// The cache gives way when others fill the disk, but for what is being copied.
func TestCacheGivesWay(t *testing.T) {
	c, err := newCache(filepath.Join(t.TempDir(), "cache"), AutoCache, 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var others atomic.Int64
	c.free = func() int64 { return 100_000 - others.Load() - c.used }
	var sums []string
	for i := range 9 {
		f, sum := file(t, bytes.Repeat([]byte{byte(i)}, 1000))
		c.keepCopy(t.Context(), sum, 1000, f)
		sums = append(sums, sum)
	}
	if c.used != 9000 {
		t.Fatalf("%d bytes kept", c.used)
	}
	c.files[sums[0]].users++
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.watch(ctx, time.Millisecond) })
	others.Store(60_000)
	eventually(t, "smaller cache", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.used <= 4000
	})
	stop()
	wg.Wait()
	for i, sum := range sums {
		if want, have := i == 0 || i > 5, taken(t, c, sum, 1000); have != want {
			t.Errorf("%d: %v", i, have)
		}
	}
	if left, err := os.ReadDir(c.dir); err != nil || len(left) != 4 || c.used != 4000 {
		t.Errorf("%v, %v, %d bytes", left, err, c.used)
	}
}

func TestCacheUnderManyHands(t *testing.T) {
	c, err := newCache(filepath.Join(t.TempDir(), "cache"), 20_000, 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		f := make([]*os.File, 10)
		sums := make([]string, 10)
		for i := range f {
			f[i], sums[i] = file(t, bytes.Repeat([]byte{byte(i + 1)}, 1000*(i+1)))
		}
		wg.Go(func() {
			for n := range 60 {
				i := (n*7 + worker) % 10
				size := int64(1000 * (i + 1))
				end, err := c.turn(t.Context(), sums[i], true)
				if err != nil {
					t.Error(err)
					return
				}
				if !taken(t, c, sums[i], size) {
					c.keepCopy(t.Context(), sums[i], size, f[i])
				}
				end()
			}
		})
	}
	wg.Wait()
	var sum int64
	left, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if sum != c.used || sum > 20_000 || sum == 0 || len(c.files) != len(left) {
		t.Errorf("%d bytes in %d files, counted %d in %d", sum, len(left), c.used, len(c.files))
	}
}
