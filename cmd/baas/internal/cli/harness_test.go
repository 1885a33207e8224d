package cli

import (
	"bytes"
	"context"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
)

// fakeRuns answers with functions; one that is not set fails the test.
type fakeRuns struct {
	start          func(starter.StartOptions) (starter.Started, error)
	describe       func(id string) (starter.Run, error)
	explain        func(id string, o starter.ExplainOptions) (starter.Explanation, error)
	mesos          func(o starter.MesosOptions) (starter.MesosView, error)
	watch          func(ctx context.Context, id string) iter.Seq2[starter.Run, error]
	list           func(starter.ListOptions) ([]starter.Summary, error)
	kill           func(id, reason, by string) error
	killPartitions func(id string, request api.KillPartitionsRequest) error
	release        func(id string, o starter.ReleaseOptions) (api.Release, error)
	logs           func(id string, o starter.LogOptions) iter.Seq2[starter.LogChunk, error]
	download       func(o starter.Output, dir string) ([]string, error)
	sweep          func(ctx context.Context, o starter.SweepOptions) (starter.Swept, error)
}

func (f *fakeRuns) Start(_ context.Context, o starter.StartOptions) (starter.Started, error) {
	return f.start(o)
}
func (f *fakeRuns) Describe(_ context.Context, id string) (starter.Run, error) { return f.describe(id) }
func (f *fakeRuns) Explain(_ context.Context, id string, o starter.ExplainOptions) (starter.Explanation, error) {
	return f.explain(id, o)
}
func (f *fakeRuns) Mesos(_ context.Context, o starter.MesosOptions) (starter.MesosView, error) {
	return f.mesos(o)
}
func (f *fakeRuns) Watch(ctx context.Context, id string, _ time.Duration) iter.Seq2[starter.Run, error] {
	return f.watch(ctx, id)
}
func (f *fakeRuns) List(_ context.Context, o starter.ListOptions) ([]starter.Summary, error) {
	return f.list(o)
}
func (f *fakeRuns) Kill(_ context.Context, id, reason, by string) error {
	return f.kill(id, reason, by)
}
func (f *fakeRuns) KillPartitions(_ context.Context, id string, request api.KillPartitionsRequest) (api.PartitionKill, error) {
	return api.PartitionKill{}, f.killPartitions(id, request)
}
func (f *fakeRuns) Release(_ context.Context, id string, o starter.ReleaseOptions) (api.Release, error) {
	return f.release(id, o)
}
func (f *fakeRuns) Logs(_ context.Context, id string, o starter.LogOptions) iter.Seq2[starter.LogChunk, error] {
	return f.logs(id, o)
}
func (f *fakeRuns) Download(_ context.Context, o starter.Output, dir string) ([]string, error) {
	return f.download(o, dir)
}
func (f *fakeRuns) Sweep(ctx context.Context, o starter.SweepOptions) (starter.Swept, error) {
	return f.sweep(ctx, o)
}

// bench runs the program in this process.
type bench struct {
	t         *testing.T
	program   *Program
	runs      *fakeRuns
	env       map[string]string
	stdout    syncBuffer
	stderr    syncBuffer
	interrupt chan struct{}
	connected []Target
	embedded  []EmbedOptions
	closed    []bool // keepTasks
}

type syncBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	awaited string
	found   chan struct{} // closed when awaited was written
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.b.Write(p)
	s.check()
	return n, err
}

func (s *syncBuffer) check() {
	if s.found != nil && strings.Contains(s.b.String(), s.awaited) {
		close(s.found)
		s.found = nil
	}
}

// seen gives a channel that is closed when text was written.
func (s *syncBuffer) seen(text string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(chan struct{})
	s.awaited, s.found = text, found
	s.check()
	return found
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newBench has a platform at an address that stands in the environment.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{
		t: t, runs: &fakeRuns{}, interrupt: make(chan struct{}),
		env: map[string]string{
			"HOME": t.TempDir(), "USER": "ann", "BAAS_STORAGE": "file:///data/store",
			"TEMPORAL_ADDRESS": "temporal:7233", "BAAS_UI": "http://ui:8233",
			"TEMPORAL_CONFIG_FILE": filepath.Join(t.TempDir(), "none.toml"),
		},
	}
	b.program = &Program{
		Stdin: strings.NewReader(""), Stdout: &b.stdout, Stderr: &b.stderr,
		LookupEnv: func(name string) (string, bool) { v, ok := b.env[name]; return v, ok },
		Environ: func() []string {
			var list []string
			for k, v := range b.env {
				list = append(list, k+"="+v)
			}
			return list
		},
		Interrupt: b.interrupt,
		Now:       func() time.Time { return time.Date(2026, 4, 1, 6, 30, 0, 0, time.UTC) },
		Version:   "v1.2.3",
		User:      "uid0",
		Parts: Parts{
			Connect: func(_ context.Context, target Target) (*Platform, error) {
				b.connected = append(b.connected, target)
				return b.platform(target, false), nil
			},
			Embed: func(_ context.Context, o EmbedOptions) (*Platform, error) {
				b.embedded = append(b.embedded, o)
				return b.platform(Target{Storage: "file:///own/store", UI: "http://own:8233"}, true), nil
			},
		},
	}
	return b
}

// withoutPlatform has none configured.
func (b *bench) withoutPlatform() *bench {
	delete(b.env, "TEMPORAL_ADDRESS")
	delete(b.env, "BAAS_STORAGE")
	return b
}

func (b *bench) platform(target Target, embedded bool) *Platform {
	return &Platform{Target: target, Runs: b.runs, Embedded: embedded, Close: func(_ context.Context, keepTasks bool) error {
		b.closed = append(b.closed, keepTasks)
		return nil
	}}
}

func (b *bench) run(args ...string) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	return b.program.Run(ctx, append([]string{"baas"}, args...))
}

// expect runs a command and checks its exit code.
func (b *bench) expect(code int, args ...string) {
	b.t.Helper()
	if got := b.run(args...); got != code {
		b.t.Errorf("baas %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, b.stdout.String(), b.stderr.String())
	}
}

func (b *bench) golden(name string) {
	b.t.Helper()
	got := b.stdout.String()
	for i, line := range strings.Split(got, "\n") {
		if strings.Contains(line, "http://") || strings.Contains(line, "/data/store") || strings.HasPrefix(line, "2026") || strings.HasSuffix(name, ".json") {
			continue // only tables are cut
		}
		if n := utf8.RuneCountInString(line); n > tableWidth {
			b.t.Errorf("line %d has %d characters", i+1, n)
		}
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	if got != string(want) {
		b.t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func (b *bench) file(content string) string {
	b.t.Helper()
	name := filepath.Join(b.t.TempDir(), "flow.yaml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return name
}
