package executor

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

// nobody is the user of an unprivileged executor in tests.
const nobody = 65534

// asNobody runs the executor without privileges. The test binary may lie where
// that user cannot reach it.
func asNobody(t testing.TB) setup {
	t.Helper()
	if os.Geteuid() != 0 {
		return setup{}
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "executor")
	from, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(binary, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return setup{binary: binary, uid: nobody}
}

// partitionsHaveUsers tells whether an executor started by the test can give each
// partition a user; where it cannot, tests state what remains.
func partitionsHaveUsers() bool { return newUsers().able }

func TestEachPartitionHasAUserOfItsOwn(t *testing.T) {
	for name, s := range map[string]setup{"sandbox": {}, "closed sandbox": {closed: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, s)
			l := r.job("id -u; id -g; id -G; umask; grep NoNewPrivs /proc/self/status; echo x > /dev/stdout", 0, 1)
			state, _ := r.run(l)
			if state != mesos.TASK_FINISHED {
				t.Fatalf("%s: %s", state, r.logOf(l, 0))
			}
			first, second := strings.Fields(r.logOf(l, 0)), strings.Fields(r.logOf(l, 1))
			if !partitionsHaveUsers() {
				if first[0] != strconv.Itoa(os.Geteuid()) {
					t.Errorf("user %s", first[0])
				}
				return
			}
			uid, _ := strconv.Atoi(first[0])
			if uid < firstThrowaway || first[0] == second[0] || first[1] != first[0] || first[2] != first[0] {
				t.Errorf("users and groups %v %v", first[:3], second[:3])
			}
			if first[3] != "0022" || first[5] != "1" || first[6] != "x" {
				t.Errorf("%v", first)
			}
		})
	}
}

// prying tries to read what belongs to the executor and to a sibling.
const prying = `
	for f in /proc/$PPID/environ /proc/$PPID/mem /proc/$PPID/maps; do
		(head -c 1 < $f) > /dev/null 2>&1 && echo can read $f
	done
	(ls /proc/$PPID/fd) > /dev/null 2>&1 && echo can list open files
	(kill -0 $PPID) 2> /dev/null && echo can signal the executor
	env | grep -E 'MESOS|SECRET|sig=' && echo inherited
	test -r $SANDBOX/logs/$SIBLING/0.log && echo can read a log
	ls $SANDBOX $SANDBOX/work $SANDBOX/work/partitions > /dev/null 2>&1 && echo can list the sandbox
	for d in work inputs outputs checkpoint; do test -x $SIBLING_DIR/$d && echo can enter $d; done
	touch $SANDBOX/x $SANDBOX/work/x 2> /dev/null && echo can write to the sandbox
	kill -0 $SIBLING_PID 2> /dev/null && echo can signal a sibling
	(head -c 1 < /proc/$SIBLING_PID/environ) > /dev/null 2>&1 && echo can read the environment of a sibling
	echo no more`

func TestTasksCannotSeeMoreThanTheirOwn(t *testing.T) {
	for name, s := range map[string]setup{"users": {}, "one user": asNobody(t)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, s)
			dir := r.shared()
			sibling := r.job("echo $$ > " + dir + "/pid; dirname $HOME > " + dir + "/home; read x < " + r.fifo("go"))
			r.launch(sibling)
			l := r.job(prying)
			l.Env = map[string]string{
				"SANDBOX": r.sandbox, "SIBLING": sibling.TaskID,
				"SIBLING_PID": r.waitFile(dir + "/pid"), "SIBLING_DIR": r.waitFile(dir + "/home"),
			}
			r.one(l)
			log := r.logOf(l, 0)
			if partitionsHaveUsers() && s.uid == 0 {
				if log != "no more\n" {
					t.Errorf("a task can pry:\n%s", log)
				}
			} else if !strings.Contains(log, "can enter work") || strings.Contains(log, "can read /proc") || strings.Contains(log, "open files") || strings.Contains(log, "inherited") {
				// The same user may reach siblings, but not the executor's memory.
				t.Errorf("a task can pry:\n%s", log)
			}
			r.open("go")
			r.finish(sibling)
		})
	}
}

func TestTaskCannotMakeTheExecutorReadForIt(t *testing.T) {
	r := newRig(t, setup{})
	secret := filepath.Join(r.shared(), "secret")
	if err := os.WriteFile(secret, []byte("top secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, shell := range map[string]string{
		"link":      "ln -s " + secret + " $BAAS_OUTPUTS/out",
		"pipe":      "mkfifo $BAAS_OUTPUTS/out",
		"directory": "ln -s " + filepath.Dir(secret) + " $BAAS_OUTPUTS/out",
		"values":    "touch $BAAS_OUTPUTS/out; ln -s " + secret + " $BAAS_OUTPUTS/outputs.json",
		"swapped":   "cd /; rm -rf $BAAS_OUTPUTS 2>/dev/null; ln -s " + filepath.Dir(secret) + " $BAAS_OUTPUTS; exit 0",
	} {
		t.Run(name, func(t *testing.T) {
			l := r.job(shell)
			r.output(l, "out", tasklet.TypeFile)
			res := r.one(l)
			if res.Outcome != tasklet.Failed || strings.Contains(res.Reason, "top secret") {
				t.Errorf("%+v", res)
			}
		})
	}
	l := r.job("ln -s " + secret + " $BAAS_EXIT_STATUS; mkdir $BAAS_CHECKPOINT/c; ln -s " + secret + " $BAAS_CHECKPOINT/c/x; echo c > $BAAS_CHECKPOINT/commit")
	if res := r.one(l); res.Outcome != tasklet.Succeeded || res.ExitStatus != "" {
		t.Errorf("%+v", res)
	}
	if data, ok := r.store.get(l.Partitions[0].Checkpoint.Key); !ok || strings.Contains(string(data), "top secret") {
		t.Error("checkpoint is missing or holds what a link leads to")
	}
}

func TestGivenUser(t *testing.T) {
	r := newRig(t, setup{})
	for name, c := range map[string]struct{ log, reason string }{
		"65534":       {log: "65534 65534"},
		"65534:12345": {log: "65534 12345"},
		"nobody":      {log: "65534 65534"},
		"root":        {reason: "tasks do not run as root"},
		"no-such":     {reason: "unknown user"},
	} {
		l := r.job("echo $(id -u) $(id -g)")
		l.User = name
		res := r.one(l)
		switch {
		case !partitionsHaveUsers():
			if res.Outcome != tasklet.Invalid {
				t.Errorf("%s: %+v", name, res)
			}
		case c.reason != "":
			if res.Outcome != tasklet.Invalid || !strings.Contains(res.Reason, c.reason) {
				t.Errorf("%s: %+v", name, res)
			}
		case strings.TrimSpace(r.logOf(l, 0)) != c.log:
			t.Errorf("%s: runs as %s", name, r.logOf(l, 0))
		}
	}
}

func TestLeftWorkDirectoriesAreRemoved(t *testing.T) {
	if !partitionsHaveUsers() {
		t.Log("work stays in the sandbox, which the agent removes")
		return
	}
	base := t.TempDir()
	if err := os.Chmod(filepath.Dir(base), 0o755); err != nil {
		t.Fatal(err)
	}
	live, err := makePrivateDir(base, 0o711)
	if err != nil {
		t.Fatal(err)
	}
	dead, other := filepath.Join(base, privatePrefix+"1"), filepath.Join(base, "something-else")
	for _, dir := range []string{dead, other} {
		if err := os.Mkdir(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	removeAbandoned(base)
	for dir, want := range map[string]bool{dead: false, other: true, live.path: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := live.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(live.path); err == nil {
		t.Errorf("%s is still there", live.path)
	}
}

func TestWorkGoesWithTheExecutor(t *testing.T) {
	r := newRig(t, setup{closed: true})
	l := r.job("echo $BAAS_OUTPUTS")
	r.run(l)
	work := strings.TrimSpace(r.logOf(l, 0))
	r.agent.shutdown()
	r.exitCode()
	for range 3 {
		work = filepath.Dir(work)
	}
	if _, err := os.Stat(work); err == nil {
		t.Errorf("%s is still there", work)
	}
}
