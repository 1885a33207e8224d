package executor

import (
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

// counting counts to 6 in steps of one, and commits each.
const counting = `
	n=0; test -f $BAAS_CHECKPOINT/commit && n=$(cat $BAAS_CHECKPOINT/$(cat $BAAS_CHECKPOINT/commit)/deep/n)
	while [ $n -lt 6 ]; do
		n=$((n+1)); echo counted $n
		mkdir -p $BAAS_CHECKPOINT/at$n/deep; echo $n > $BAAS_CHECKPOINT/at$n/deep/n
		echo at$n > $BAAS_CHECKPOINT/commit.new; mv $BAAS_CHECKPOINT/commit.new $BAAS_CHECKPOINT/commit
		test $n != "$STOP_AT" || { echo $n > $STOPPED; sleep 1000; }
	done`

func TestCheckpointIsResumed(t *testing.T) {
	r := newRig(t, setup{})
	first := r.job(counting)
	first.Env = map[string]string{"STOP_AT": "3", "STOPPED": r.shared() + "/stopped"}
	r.launch(first)
	r.waitFile(r.shared() + "/stopped")
	r.agent.kill(first.TaskID, 0)
	if _, results := r.finish(first); results[0].Resumed {
		t.Error("resumed from nothing")
	}
	saved, ok := r.store.get(first.Partitions[0].Checkpoint.Key)
	if !ok {
		t.Fatal("no checkpoint saved")
	}
	second := r.job(counting + `; ls -A $BAAS_CHECKPOINT | sort | tr '\n' ' '`)
	src := r.store.put("saved", saved)
	second.Partitions[0].Restore = &src
	res := r.one(second)
	if res.Outcome != tasklet.Succeeded || !res.Resumed {
		t.Fatalf("%+v", res)
	}
	if got, want := r.logOf(second, 0), "counted 4\ncounted 5\ncounted 6\nat3 at4 at5 at6 commit "; got != want {
		t.Errorf("log %q, want %q", got, want)
	}
}

func TestCommitIsSavedWhileTheCommandRuns(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`mkdir $BAAS_CHECKPOINT/a; echo a > $BAAS_CHECKPOINT/commit; read x < ` + r.fifo("go") + `
		mkdir $BAAS_CHECKPOINT/b; echo b > $BAAS_CHECKPOINT/commit`)
	r.launch(l)
	key := l.Partitions[0].Checkpoint.Key
	r.store.waitPuts(key, 1)
	before, _ := r.store.get(key)
	r.open("go")
	if state, _ := r.finish(l); state != mesos.TASK_FINISHED {
		t.Errorf("%s", state)
	}
	if after, _ := r.store.get(key); string(before) == string(after) {
		t.Error("the last commit was not saved at exit")
	}
}

func TestCheckpointThatCannotBeSavedYet(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job(`mkdir $BAAS_CHECKPOINT/a; echo a > $BAAS_CHECKPOINT/commit; read x < ` + r.fifo("go"))
	key := l.Partitions[0].Checkpoint.Key
	var failed atomic.Int32
	var mended atomic.Bool
	r.store.set(func() {
		r.store.intercept = func(w http.ResponseWriter, req *http.Request) bool {
			if strings.HasSuffix(req.URL.Path, key) && !mended.Load() {
				failed.Add(1)
				http.Error(w, "trouble", http.StatusInternalServerError)
				return true
			}
			return false
		}
	})
	r.launch(l)
	eventually(t, "two failed saves", func() bool { return failed.Load() >= 2 })
	r.open("go") // the command ends; its task waits for the checkpoint
	time.AfterFunc(300*time.Millisecond, func() { mended.Store(true) })
	if state, _ := r.finish(l); state != mesos.TASK_FINISHED || !mended.Load() {
		t.Errorf("%s, mended %v", state, mended.Load())
	}
	r.store.waitPuts(key, 1)
}

func TestHostileCommit(t *testing.T) {
	r := newRig(t, setup{})
	for name, shell := range map[string]string{
		"outside":  "echo ../outputs > $BAAS_CHECKPOINT/commit",
		"absolute": "echo /etc > $BAAS_CHECKPOINT/commit",
		"itself":   "echo . > $BAAS_CHECKPOINT/commit",
		"link":     "ln -s /etc $BAAS_CHECKPOINT/etc; echo etc > $BAAS_CHECKPOINT/commit",
		"missing":  "echo nothing > $BAAS_CHECKPOINT/commit",
		"a file":   "echo x > $BAAS_CHECKPOINT/x; echo x > $BAAS_CHECKPOINT/commit",
		"a pipe":   "mkfifo $BAAS_CHECKPOINT/commit",
	} {
		l := r.job(shell)
		if res := r.one(l); res.Outcome != tasklet.Succeeded {
			t.Errorf("%s: %+v", name, res)
		}
		if _, ok := r.store.get(l.Partitions[0].Checkpoint.Key); ok {
			t.Errorf("%s: something was saved", name)
		}
	}
}

func TestRestoreThatIsGone(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("true")
	src := r.store.put("saved", []byte("x"))
	src.Key, src.URL = "gone", r.store.sign("gone")
	l.Partitions[0].Restore = &src
	if res := r.one(l); res.Outcome != tasklet.Platform || !strings.Contains(res.Reason, "404") {
		t.Errorf("%+v", res)
	}
	if left, err := os.ReadDir(r.sandbox + "/work/spool"); err != nil || len(left) > 0 {
		t.Errorf("spool holds %v, %v", left, err)
	}
}
