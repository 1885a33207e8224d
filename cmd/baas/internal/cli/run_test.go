package cli

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/datadir"
	"github.com/baas-batch/baas/starter"
)

func startsOK(o starter.StartOptions) (starter.Started, error) {
	return starter.Started{Run: runID}, nil
}

func TestRunOnAPlatform(t *testing.T) {
	b := newBench(t)
	var asked starter.StartOptions
	b.runs.start = func(o starter.StartOptions) (starter.Started, error) { asked = o; return startsOK(o) }
	b.runs.watch = states(exampleRun(api.StatusRunning), exampleRun(api.StatusSucceeded))
	b.expect(ExitDone, "run", b.file(goodFlow), "-p", "month=2026-03", "--date", "2026-03-31")
	if asked.Args["month"] != "2026-03" || asked.OrderDate != "2026-03-31" || asked.RequestedBy != "ann" || asked.App.Flow.Name != "statements" {
		t.Errorf("started %+v", asked)
	}
	if c := b.connected; len(c) != 1 || c[0].Temporal.HostPort != "temporal:7233" || c[0].Storage != "file:///data/store" {
		t.Errorf("connected to %+v", c)
	}
	b.golden("run.txt")
}

func TestRunThatFails(t *testing.T) {
	b := newBench(t)
	failed := exampleRun(api.StatusFailed)
	failed.Reason = "step render: partition 7: exit code 3"
	b.runs.start, b.runs.watch = startsOK, states(failed)
	b.expect(ExitFailed, "run", b.file(goodFlow), "-p", "month=2026-03", "-o", "json")
	var r starter.Run
	if err := json.Unmarshal([]byte(b.stdout.String()), &r); err != nil || r.Status != api.StatusFailed {
		t.Errorf("got %s, %v", b.stdout.String(), err)
	}
}

func TestDetachPrintsTheRunOnly(t *testing.T) {
	b := newBench(t)
	b.runs.start = startsOK
	b.expect(ExitDone, "run", b.file(goodFlow), "-p", "month=2026-03", "--detach")
	if b.stdout.String() != runID+"\n" {
		t.Errorf("got %q", b.stdout.String())
	}
}

func TestRunEmbedsWhenNothingIsUp(t *testing.T) {
	b := newBench(t).withoutPlatform()
	b.env["BAAS_EXECUTOR"] = "/opt/baas-executor"
	b.runs.start, b.runs.watch = startsOK, states(exampleRun(api.StatusSucceeded))
	b.expect(ExitDone, "run", b.file(goodFlow), "-p", "month=2026-03")
	if e := b.embedded; len(e) != 1 || e[0].Persistent || e[0].Executor != "/opt/baas-executor" || len(b.connected) != 0 {
		t.Errorf("embedded %+v, connected %+v", e, b.connected)
	}
	if len(b.closed) != 1 || !strings.Contains(b.stdout.String(), "/own/store/runs/statements/"+runID) {
		t.Errorf("closed %v; printed %s", b.closed, b.stdout.String())
	}
}

func TestDetachNeedsAPlatform(t *testing.T) {
	b := newBench(t).withoutPlatform()
	b.expect(ExitUsage, "run", b.file(goodFlow), "-p", "month=2026-03", "--detach")
	if !strings.Contains(b.stderr.String(), "baas up") || len(b.embedded) != 0 {
		t.Errorf("got %q", b.stderr.String())
	}
}

func TestRunNeedsStorage(t *testing.T) {
	b := newBench(t)
	delete(b.env, "BAAS_STORAGE")
	b.expect(ExitUsage, "run", b.file(goodFlow), "-p", "month=2026-03")
	if !strings.Contains(b.stderr.String(), "--storage") {
		t.Errorf("got %q", b.stderr.String())
	}
}

// upIn makes it look as if `baas up` ran in a data directory.
func upIn(t *testing.T, dir string) datadir.State {
	t.Helper()
	lock, err := datadir.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	state := datadir.State{
		PID: os.Getpid(), Started: started, Temporal: "127.0.0.1:4711", Namespace: "default",
		UI: "http://127.0.0.1:4712", Mesos: "http://127.0.0.1:4713", Storage: "file:///up/store?gateway=x", Framework: "default",
	}
	if err := state.Write(dir); err != nil {
		t.Fatal(err)
	}
	return state
}

func TestHowAPlatformIsFound(t *testing.T) {
	profile := "[profile.default]\naddress = \"profile:7233\"\nnamespace = \"batch\"\n"
	for name, test := range map[string]struct {
		env      map[string]string
		args     []string
		up       bool
		profile  bool
		temporal string
		storage  string
	}{
		"flag":             {args: []string{"--address", "flag:1"}, env: map[string]string{"TEMPORAL_ADDRESS": "env:1"}, up: true, temporal: "flag:1", storage: "file:///up/store?gateway=x"},
		"variable":         {env: map[string]string{"TEMPORAL_ADDRESS": "env:1"}, profile: true, temporal: "env:1"},
		"profile":          {profile: true, up: true, temporal: "profile:7233", storage: "file:///up/store?gateway=x"},
		"up":               {up: true, temporal: "127.0.0.1:4711", storage: "file:///up/store?gateway=x"},
		"up, own storage":  {up: true, args: []string{"--storage", "file:///flag"}, temporal: "127.0.0.1:4711", storage: "file:///flag"},
		"storage variable": {env: map[string]string{"BAAS_STORAGE": "file:///env", "TEMPORAL_ADDRESS": "env:1"}, up: true, temporal: "env:1", storage: "file:///env"},
		"no home":          {env: map[string]string{"TEMPORAL_ADDRESS": "env:1", "HOME": "", "BAAS_DATA": ""}, temporal: "env:1"},
		"offline":          {temporal: "", storage: "file://DATA/store"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t).withoutPlatform()
			dir := filepath.Join(t.TempDir(), "data")
			b.env["BAAS_DATA"] = dir
			for k, v := range test.env {
				b.env[k] = v
			}
			if test.profile {
				if err := os.WriteFile(b.env["TEMPORAL_CONFIG_FILE"], []byte(profile), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if test.up {
				upIn(t, dir)
			}
			b.runs.list = func(starter.ListOptions) ([]starter.Summary, error) { return nil, nil }
			b.expect(ExitDone, append([]string{"ls"}, test.args...)...)
			if len(b.connected) != 1 {
				t.Fatalf("connected to %+v", b.connected)
			}
			got := b.connected[0]
			if want := strings.Replace(test.storage, "DATA", dir, 1); got.Temporal.HostPort != test.temporal || got.Storage != want {
				t.Errorf("found %q with storage %q, want %q with %q", got.Temporal.HostPort, got.Storage, test.temporal, want)
			}
		})
	}
}

// endless runs until it is killed or the watch ends.
func endless(killed <-chan struct{}, watching chan<- struct{}) func(context.Context, string) iter.Seq2[starter.Run, error] {
	return func(ctx context.Context, _ string) iter.Seq2[starter.Run, error] {
		return func(yield func(starter.Run, error) bool) {
			if !yield(exampleRun(api.StatusRunning), nil) {
				return
			}
			close(watching)
			select {
			case <-killed:
				yield(exampleRun(api.StatusKilled), nil)
			case <-ctx.Done():
			}
		}
	}
}

func TestInterrupt(t *testing.T) {
	for name, test := range map[string]struct {
		embedded bool
		answer   string // "" is no terminal, "^C" a second Ctrl-C
		code     int
		kills    int
		says     string
	}{
		"detach":             {answer: "d\n", code: ExitDone, says: "the run goes on"},
		"kill":               {answer: "k\n", code: ExitFailed, kills: 1, says: "Killing"},
		"wrong, then kill":   {answer: "x\n\nKill\n", code: ExitFailed, kills: 1},
		"second":             {answer: "^C", code: ExitDone, says: "the run goes on"},
		"nobody to ask":      {code: ExitDone, says: "the run goes on"},
		"own":                {embedded: true, answer: "k\n", code: ExitFailed, kills: 1, says: "lives in this process"},
		"own, second":        {embedded: true, answer: "^C", code: ExitFailed, kills: 1},
		"own, cannot detach": {embedded: true, answer: "d\nk\n", code: ExitFailed, kills: 1},
		"own, nobody to ask": {embedded: true, code: ExitFailed, kills: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if test.embedded {
				b.withoutPlatform()
			}
			killed, watching := make(chan struct{}), make(chan struct{})
			kills := 0
			b.runs.start, b.runs.watch = startsOK, endless(killed, watching)
			b.runs.kill = func(string, string, string) error {
				kills++
				close(killed)
				return nil
			}
			b.program.Asks = test.answer != ""
			silent, quiet := io.Pipe()
			defer quiet.Close()
			b.program.Stdin = strings.NewReader(test.answer)
			if test.answer == "^C" {
				b.program.Stdin = silent
			}
			go func() {
				<-watching
				b.interrupt <- struct{}{}
				if test.answer == "^C" {
					b.interrupt <- struct{}{}
				}
			}()
			b.expect(test.code, "run", b.file(goodFlow), "-p", "month=2026-03")
			if kills != test.kills || !strings.Contains(b.stderr.String(), test.says) {
				t.Errorf("killed %d times; said %q", kills, b.stderr.String())
			}
		})
	}
}

func TestWatchWaitsForAPlatformThatIsAway(t *testing.T) {
	b := newBench(t)
	away := &starter.UnreachableError{What: "Temporal", Address: "temporal:7233", Err: io.EOF}
	b.runs.watch = func(context.Context, string) iter.Seq2[starter.Run, error] {
		return func(yield func(starter.Run, error) bool) {
			_ = yield(exampleRun(api.StatusRunning), nil) && yield(starter.Run{}, away) && yield(starter.Run{}, away) &&
				yield(exampleRun(api.StatusSucceeded), nil)
		}
	}
	b.expect(ExitDone, "status", "--watch", runID)
	if n := strings.Count(b.stderr.String(), "waiting for it to come back"); n != 1 {
		t.Errorf("said %d times that it waits: %s", n, b.stderr.String())
	}
}

func TestTreeOnATerminal(t *testing.T) {
	b := newBench(t)
	b.program.Terminal = func() (int, int) { return 90, 30 }
	b.env["NO_COLOR"] = "1"
	b.runs.watch = states(exampleRun(api.StatusRunning), exampleRun(api.StatusSucceeded))
	b.expect(ExitDone, "status", "-w", runID)
	if got := b.stdout.String(); !strings.Contains(got, "\x1b[4A") || !strings.Contains(got, "└─ cleanup") {
		t.Errorf("got %q", got)
	}
}

func TestUp(t *testing.T) {
	for _, test := range []struct {
		keep bool
		open int
		says string
	}{
		{false, 2, "Stopping. 2 open runs to go on with the next `baas up` on this data directory; 76 running tasks to be ended now, and run again then.\n"},
		{true, 1, "1 open run to go on with the next `baas up` on this data directory; 38 running tasks to live on meanwhile.\n"},
		{true, 0, "Stopping. No run is open.\n"},
	} {
		b := newBench(t).withoutPlatform()
		b.runs.list = func(starter.ListOptions) ([]starter.Summary, error) { return make([]starter.Summary, test.open), nil }
		b.runs.describe = func(string) (starter.Run, error) { return exampleRun(api.StatusRunning), nil }
		go func() {
			<-b.stdout.seen("Stop with Ctrl-C")
			b.interrupt <- struct{}{}
		}()
		args := []string{"up", "--data", "/data", "--agents", "3", "--port", "7000"}
		if test.keep {
			args = append(args, "--keep-tasks")
		}
		b.expect(ExitDone, args...)
		if e := b.embedded; len(e) != 1 || !e[0].Persistent || e[0].DataDir != "/data" || e[0].Agents != 3 || e[0].Port != 7000 {
			t.Errorf("embedded %+v", e)
		}
		if len(b.closed) != 1 || b.closed[0] != test.keep || !strings.Contains(b.stderr.String(), test.says) {
			t.Errorf("closed %v; said %s", b.closed, b.stderr.String())
		}
	}
}

// A second Ctrl-C does not wait for what the first one began.
func TestUpStopsAtOnce(t *testing.T) {
	b := newBench(t).withoutPlatform()
	b.runs.list = func(starter.ListOptions) ([]starter.Summary, error) { return nil, io.EOF }
	embed, never := b.program.Parts.Embed, make(chan struct{})
	t.Cleanup(func() { close(never) })
	b.program.Parts.Embed = func(ctx context.Context, o EmbedOptions) (*Platform, error) {
		platform, err := embed(ctx, o)
		platform.Close = func(context.Context, bool) error { <-never; return nil }
		return platform, err
	}
	go func() {
		<-b.stdout.seen("Stop with Ctrl-C")
		b.interrupt <- struct{}{}
		<-b.stderr.seen("Another Ctrl-C")
		b.interrupt <- struct{}{}
	}()
	b.expect(ExitFailed, "up")
	if !strings.Contains(b.stderr.String(), "Stopped at once") {
		t.Errorf("said %s", b.stderr.String())
	}
}

func TestWorkerOptions(t *testing.T) {
	b := newBench(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.env["BAAS_MESOS"] = "http://a:5050,http://b:5050"
	b.env["BAAS_FRAMEWORK"] = "nightly"
	b.env["BAAS_MESOS_SECRET_FILE"] = secret
	var got WorkerOptions
	b.program.Parts.Worker = func(_ context.Context, o WorkerOptions) error { got = o; return nil }
	b.expect(ExitDone, "worker", "--principal", "baas", "--executor", "https://files/baas-executor", "--lease", "5s")
	access, err := got.MesosAccess.Open()
	if err != nil || access.Secret != "s3cret" || access.Principal != "baas" {
		t.Errorf("access %+v, %v", access, err)
	}
	if len(got.Masters) != 2 || got.Framework != "nightly" ||
		got.Executor != "https://files/baas-executor" || got.LeaseTimeout != 5*time.Second || got.Temporal.HostPort != "temporal:7233" {
		t.Errorf("got %+v", got)
	}
}

func TestDoctor(t *testing.T) {
	for level, want := range map[Level]int{Good: ExitDone, Note: ExitDone, Bad: ExitFailed, Unreachable: ExitUnreachable} {
		b := newBench(t)
		b.program.Parts.Doctor = func(context.Context, Target, EmbedOptions) []Finding {
			return []Finding{{Part: "temporal", Level: Good, Says: "fine"}, {Part: "mesos", Level: level, Says: "so", Advice: "do"}}
		}
		b.expect(want, "doctor")
		if !strings.Contains(b.stdout.String(), "-> do") {
			t.Errorf("got %s", b.stdout.String())
		}
	}
}
