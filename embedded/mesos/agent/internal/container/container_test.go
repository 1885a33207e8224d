package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// variants runs a test with and without a cgroup; the first only where one can
// be made.
func variants(t *testing.T, test func(t *testing.T, useCgroup bool)) {
	t.Run("tree", func(t *testing.T) { test(t, false) })
	if r := Prepare("probe", true); r.Cgroup != "" {
		if err := os.Remove(r.Cgroup); err != nil {
			t.Fatal(err)
		}
		t.Run("cgroup", func(t *testing.T) { test(t, true) })
	}
}

func start(t *testing.T, useCgroup bool, script string) *Container {
	t.Helper()
	id := strings.ReplaceAll(t.Name(), "/", "-")
	dir := t.TempDir()
	record := Prepare(id, useCgroup)
	c, err := Start(record, Spec{
		Dir:  dir,
		Path: "/bin/sh",
		Args: []string{"sh", "-c", script},
		Env:  []string{"PATH=" + os.Getenv("PATH"), "DIR=" + dir},
	})
	if err != nil {
		t.Fatal(err)
	}
	if useCgroup != (c.Record().Cgroup != "") {
		t.Fatalf("cgroup %q, want one: %v", c.Record().Cgroup, useCgroup)
	}
	t.Cleanup(func() {
		if err := c.Kill(); err != nil {
			t.Error(err)
		}
		<-c.Done()
	})
	return c
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func readPID(t *testing.T, path string) int {
	t.Helper()
	var pid int
	eventually(t, path, func() bool {
		data, _ := os.ReadFile(path)
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	return pid
}

func alive(pid int) bool {
	p, err := readProcess(pid)
	return err == nil && !p.dead()
}

func TestKillReachesADaemon(t *testing.T) {
	variants(t, func(t *testing.T, useCgroup bool) {
		dir := t.TempDir()
		c := start(t, useCgroup, fmt.Sprintf(
			`setsid sh -c 'setsid sh -c "trap : TERM HUP; echo \$\$ > %[1]s/new; mv %[1]s/new %[1]s/pid; while :; do sleep 1; done" &' & wait; exit 3`, dir))
		pid := readPID(t, filepath.Join(dir, "pid"))
		<-c.Done()
		if got := c.Status(); got != 3<<8 {
			t.Errorf("wait status %d, want %d", got, 3<<8)
		}
		if !alive(pid) {
			t.Fatal("the daemon died with the executor: nothing is tested")
		}
		if err := c.Kill(); err != nil {
			t.Fatal(err)
		}
		if alive(pid) {
			t.Error("the daemon outlived its container")
		}
		if dir := c.Record().Cgroup; dir != "" {
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("cgroup is left: %v", err)
			}
		}
	})
}

// A process that hides its environment and its descent is known from before.
func TestKillReachesWhoWasSeen(t *testing.T) {
	dir := t.TempDir()
	c := start(t, false, fmt.Sprintf(
		`env -i /usr/bin/setsid /bin/sh -c 'echo $$ > %[1]s/new; mv %[1]s/new %[1]s/pid; while :; do /bin/sleep 1; done' & while [ ! -e %[1]s/go ]; do sleep 0.05; done`, dir))
	pid := readPID(t, filepath.Join(dir, "pid"))
	c.Usage()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if !alive(pid) {
		t.Fatal("the daemon died with the executor: nothing is tested")
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the daemon outlived its container")
	}
}

func TestRecover(t *testing.T) {
	variants(t, func(t *testing.T, useCgroup bool) {
		c := start(t, useCgroup, "sleep 1000")
		again := Recover(t.Context(), c.Record())
		select {
		case <-again.Done():
			t.Fatal("a living executor was not recovered")
		default:
		}
		if again.Usage().Processes == 0 {
			t.Error("no process found")
		}
		if err := again.Kill(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-again.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("end not noticed")
		}

		reused := c.Record()
		reused.PID, reused.Start = os.Getpid(), 1
		select {
		case <-Recover(t.Context(), reused).Done():
		default:
			t.Error("a process with another start time passed for the executor")
		}
	})
}

func TestUsage(t *testing.T) {
	variants(t, func(t *testing.T, useCgroup bool) {
		c := start(t, useCgroup, `(x=$(head -c 60000000 /dev/zero | tr '\0' x); sleep 1000; :) & wait`)
		eventually(t, "memory of a child", func() bool { return c.Usage().Memory > 55<<20 })
		if pss := c.Proportional(); pss < 40<<20 {
			t.Errorf("proportional set size: %d", pss)
		}
		if u := c.Usage(); u.Processes < 2 || u.Threads < 2 || u.User+u.System == 0 {
			t.Errorf("got %+v", u)
		}
	})
}

func TestExecError(t *testing.T) {
	variants(t, func(t *testing.T, useCgroup bool) {
		record := Prepare(strings.ReplaceAll(t.Name(), "/", "-"), useCgroup)
		_, err := Start(record, Spec{Dir: t.TempDir(), Path: "./missing", Args: []string{"missing"}})
		var failed *ExecError
		if !errors.As(err, &failed) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(record.Cgroup); record.Cgroup != "" && err == nil {
			t.Error("cgroup is left")
		}
	})
}

func TestParseStat(t *testing.T) {
	line := "42 (a b) S) R 7 42 41 0 -1 0 0 0 0 0 10 20 3 4 20 0 5 0 999 1000 25 0"
	p, err := parseStat(42, []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	want := process{
		pid: 42, parent: 7, session: 41, state: 'R', start: 999,
		user: 13, system: 24, threads: 5, rss: 25 * int64(os.Getpagesize()),
	}
	if p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
	if _, err := parseStat(1, []byte("nonsense")); err == nil {
		t.Error("nonsense was taken")
	}
}
