package executor

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/tasklet"
)

const (
	dbPassword = "correct-horse-battery"
	tlsKey     = "-----BEGIN KEY-----\nMIIEvgIBADANBgkqhkiG9w0B\n-----END KEY-----\n"
)

// secretive answers like a leader that has secrets; all else as before.
func (r *rig) secretive(values map[string][]byte) {
	r.agent.answer = func(report tasklet.Report) *tasklet.Order {
		q := report.Request
		if q == nil || q.Role != tasklet.RoleSecrets {
			return r.store.answer(report)
		}
		if silent, denied := r.store.denies(tasklet.RoleSecrets); silent {
			return nil
		} else if denied {
			return r.store.answer(report)
		}
		sealed, err := tasklet.SealSecrets(q.Key, report.TaskID, values)
		if err != nil {
			r.t.Error(err)
		}
		return &tasklet.Order{TaskID: report.TaskID, Grant: &tasklet.Grant{ID: q.ID, Sealed: sealed}}
	}
}

func (s *testStore) denies(role tasklet.Role) (silent, denied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.silent, s.denied[role] != ""
}

func (r *rig) withSecrets(l *tasklet.Launch) *tasklet.Launch {
	l.Secrets = []tasklet.Secret{{Name: "DB_PASSWORD"}, {Name: "TLS_KEY", File: true}}
	return l
}

func sum(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func newSecretive(t *testing.T, s setup) *rig {
	r := newRig(t, s)
	r.secretive(map[string][]byte{"DB_PASSWORD": []byte(dbPassword), "TLS_KEY": []byte(tlsKey)})
	return r
}

// A task has its secrets, and nothing that it prints, reports or leaves shows them.
func TestSecrets(t *testing.T) {
	for name, s := range map[string]setup{"root": {}, "unprivileged": asNobody(t)} {
		t.Run(name, func(t *testing.T) {
			r := newSecretive(t, s)
			l := r.withSecrets(r.job(`
				printf %s "$DB_PASSWORD" | sha256sum; sha256sum <"$TLS_KEY"
				stat -c %a "$TLS_KEY"; [ "$TLS_KEY" = "$BAAS_SECRETS/TLS_KEY" ] && echo there
				env; cat "$TLS_KEY"; printf %s "$DB_PASSWORD" | base64
				printf %s "$DB_PASSWORD" | cut -c 1-10 | tr -d '\n'; printf %s "$DB_PASSWORD" | cut -c 11- ; echo cut
				printf '1/2 with %s' "$DB_PASSWORD" >"$BAAS_PROGRESS"
				printf 'done %s' "$DB_PASSWORD" >"$BAAS_EXIT_STATUS"
				sleep 0.3`))
			res := r.one(l)
			log := r.logOf(l, 0)
			if res.Outcome != tasklet.Succeeded || !strings.Contains(log, sum(dbPassword)) || !strings.Contains(log, sum(tlsKey)) ||
				!strings.Contains(log, "400\nthere\n") {
				t.Fatalf("%+v\n%s", res, log)
			}
			if res.ExitStatus != "done ***" || !strings.Contains(log, "DB_PASSWORD=***") || !strings.Contains(log, "\n***\ncut\n") {
				t.Errorf("status %q, log\n%s", res.ExitStatus, log)
			}
			if got := r.progress(); !slices.Contains(got, "with ***") {
				t.Errorf("progress %q", got)
			}
			r.nothingTold()
		})
	}
}

// progress lists the messages that were reported.
func (r *rig) progress() (got []string) {
	r.agent.mu.Lock()
	defer r.agent.mu.Unlock()
	for _, report := range r.agent.reports {
		for _, p := range report.Progress {
			got = append(got, p.Message)
		}
	}
	return got
}

// nothingTold looks for the secrets in all that left the executor, and in all that
// is left on its disk.
func (r *rig) nothingTold() {
	r.t.Helper()
	var all bytes.Buffer
	r.agent.mu.Lock()
	fmt.Fprintf(&all, "%+v %+v %+v", r.agent.reports, r.agent.updates, r.agent.subscribe)
	for _, u := range r.agent.updates {
		all.Write(u.Data)
	}
	r.agent.mu.Unlock()
	r.store.mu.Lock()
	for key, object := range r.store.objects {
		fmt.Fprintf(&all, "\n%s: %s", key, object)
	}
	r.store.mu.Unlock()
	all.WriteString(r.stderr.String())
	eventually(r.t, "removal of the task's files", func() bool { return r.filesLeft() == 0 })
	files := 0
	err := filepath.WalkDir(r.sandbox, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var data []byte
			data, err = os.ReadFile(path)
			fmt.Fprintf(&all, "\n%s: %s", path, data)
			files++
		}
		if errors.Is(err, fs.ErrNotExist) { // directories are still being removed
			return nil
		}
		return err
	})
	if err != nil || files == 0 {
		r.t.Errorf("%d files in the sandbox, %v", files, err)
	}
	for _, secret := range []string{dbPassword, base64.StdEncoding.EncodeToString([]byte(dbPassword)), "MIIEvgIBADANBgkqhkiG9w0B"} {
		if i := strings.Index(all.String(), secret); i >= 0 {
			r.t.Errorf("%q is told: …%s", secret, all.String()[max(0, i-200):i+20])
		}
	}
}

// The agent restarts while the task runs: what the executor tells it is what it
// told before, and the file is gone with the task.
func TestSecretsSurviveTheAgent(t *testing.T) {
	r := newSecretive(t, setup{})
	file := filepath.Join(r.shared(), "begun")
	l := r.withSecrets(r.job(`echo "$TLS_KEY" >` + file + `; while [ ! -e ` + file + `.go ]; do sleep 0.05; done; sha256sum <"$TLS_KEY"`))
	r.launch(l)
	key := r.waitFile(file)
	before, err := os.ReadFile(key)
	if err != nil || string(before) != tlsKey {
		t.Fatalf("%q, %v", before, err)
	}
	open, err := os.Open(key) // whoever holds it open sees it wiped
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	r.agent.stop()
	r.agent.start()
	r.agent.wait("subscription", func() bool { return len(r.agent.subscribe) > 1 })
	if err := os.WriteFile(file+".go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if state, _ := r.finish(l); state != mesos.TASK_FINISHED || !strings.Contains(r.logOf(l, 0), sum(tlsKey)) {
		t.Errorf("%s\n%s", state, r.logOf(l, 0))
	}
	if info, err := open.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("the file is not wiped: %v, %v", info, err)
	}
	if n := len(r.requests(tasklet.RoleSecrets)); n != 1 {
		t.Errorf("%d requests", n)
	}
	r.nothingTold()
}

// Agents serve all files of a sandbox to whoever may ask them, so no secret is in one,
// and what an executor that was killed has left goes when the next one starts.
func TestSecretFilesAreOutsideOfTheSandbox(t *testing.T) {
	for name, s := range map[string]setup{"root": {}, "closed sandbox": {closed: true}, "unprivileged": asNobody(t)} {
		t.Run(name, func(t *testing.T) {
			r := newSecretive(t, s)
			l := r.withSecrets(r.job(`echo "$TLS_KEY"; exec sleep 60`))
			r.launch(l)
			eventually(t, "path in the log", func() bool { return strings.HasSuffix(r.liveLog(l), "/TLS_KEY\n") })
			path := strings.TrimSpace(r.liveLog(l))
			if have, err := os.ReadFile(path); err != nil || string(have) != tlsKey {
				t.Fatalf("%q, %v", have, err)
			}
			if strings.HasPrefix(path, r.sandbox+"/") {
				t.Errorf("%s is in the sandbox %s", path, r.sandbox)
			}
			if err := r.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-r.exited
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("the dead executor has left nothing: %v", err)
			}
			newRig(t, s)
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s is still there", path)
			}
		})
	}
}

// liveLog gives the log of a task that runs.
func (r *rig) liveLog(l *tasklet.Launch) string {
	text, _ := os.ReadFile(filepath.Join(r.sandbox, "logs", directoryName(l.TaskID), "0.log"))
	return string(text)
}

// A core dump holds the environment. A limit of 1 byte keeps the kernel from writing
// one and, as 0 does not, from handing it to a program (core(5)).
func TestTasksWithSecretsDumpNoCore(t *testing.T) {
	r := newSecretive(t, setup{})
	limit := func(l *tasklet.Launch) string {
		t.Helper()
		r.one(l)
		_, rest, ok := strings.Cut(r.logOf(l, 0), "Max core file size")
		if !ok {
			t.Fatal(r.logOf(l, 0))
		}
		line, _, _ := strings.Cut(rest, "\n")
		return strings.Fields(line)[0]
	}
	const show = "cat /proc/self/limits"
	if got := limit(r.withSecrets(r.job(show))); got != "1" {
		t.Errorf("with secrets: %s", got)
	}
	if got := limit(r.job(show)); got == "1" {
		t.Errorf("without secrets: %s", got)
	}
}

// All partitions of a task share one answer.
func TestSecretsOfManyPartitions(t *testing.T) {
	r := newSecretive(t, setup{})
	l := r.withSecrets(r.job(`sha256sum <"$TLS_KEY"`, 0, 1, 2))
	if state, results := r.run(l); state != mesos.TASK_FINISHED || len(results) != 3 {
		t.Fatalf("%s %+v", state, results)
	}
	for i := range 3 {
		if !strings.Contains(r.logOf(l, i), sum(tlsKey)) {
			t.Errorf("partition %d: %s", i, r.logOf(l, i))
		}
	}
	if n := len(r.requests(tasklet.RoleSecrets)); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestSecretInOutputsIsRefused(t *testing.T) {
	r := newSecretive(t, setup{})
	for name, command := range map[string]string{
		"value":      `printf '{"out": "user:%s"}' "$DB_PASSWORD" >"$BAAS_OUTPUTS/outputs.json"`,
		"name":       `printf '{"%s": 1}' "$DB_PASSWORD" >"$BAAS_OUTPUTS/outputs.json"`,
		"escaped":    `printf '{"out": "\\u0063orrect-horse-battery"}' >"$BAAS_OUTPUTS/outputs.json"`,
		"text":       `printf %s "$DB_PASSWORD" >"$BAAS_OUTPUTS/out"`,
		"not JSON":   `printf '{"out": %s' "$DB_PASSWORD" >"$BAAS_OUTPUTS/outputs.json"`,
		"name of it": `echo '{"out": "x"}' >"$BAAS_OUTPUTS/outputs.json"; mkdir "$BAAS_OUTPUTS/parts"; echo >"$BAAS_OUTPUTS/parts/$DB_PASSWORD"`,
	} {
		t.Run(name, func(t *testing.T) {
			l := r.withSecrets(r.job("echo; " + command))
			r.output(l, "out", tasklet.TypeString)
			if name == "name of it" {
				r.output(l, "parts", tasklet.TypeFiles)
			}
			res := r.one(l)
			if res.Outcome != tasklet.Failed || !strings.Contains(res.Reason, "holds the value of a secret") {
				t.Errorf("%+v", res)
			}
		})
	}
	r.nothingTold()
}

func TestSecretsThatCannotBeHad(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string][]byte
		denied string
		want   string
	}{
		"denied":       {denied: "there is no such secret", want: "secrets: there is no such secret"},
		"NUL":          {values: map[string][]byte{"DB_PASSWORD": []byte("a\x00bcdef"), "TLS_KEY": []byte("x")}, want: "holds a NUL byte"},
		"too long":     {values: map[string][]byte{"DB_PASSWORD": bytes.Repeat([]byte("x"), 200_000), "TLS_KEY": []byte("x")}, want: "take it as a file"},
		"name of path": {want: "is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			r.secretive(c.values)
			if c.denied != "" {
				r.store.mu.Lock()
				r.store.denied[tasklet.RoleSecrets] = c.denied
				r.store.mu.Unlock()
			}
			l := r.withSecrets(r.job("echo began"))
			if name == "name of path" {
				l.Secrets[0].Name = "../x"
				r.launch(l)
				if s := r.agent.end(l.TaskID); s.GetState() != mesos.TASK_FAILED || !strings.Contains(s.GetMessage(), c.want) {
					t.Errorf("%s %s", s.GetState(), s.GetMessage())
				}
				return
			}
			res := r.one(l)
			if res.Outcome != tasklet.Invalid || !strings.Contains(res.Reason, c.want) || strings.Contains(res.Reason, "abcdef") {
				t.Errorf("%+v", res)
			}
		})
	}
}

// An answer that was lost is asked for again.
func TestSecretsAreAskedForUntilAnswered(t *testing.T) {
	r := newSecretive(t, setup{})
	r.store.mu.Lock()
	r.store.silent = true
	r.store.mu.Unlock()
	l := r.withSecrets(r.job(`printf %s "$DB_PASSWORD" | sha256sum`))
	r.launch(l)
	r.agent.wait("second question", func() bool { return r.count(tasklet.RoleSecrets) > 1 })
	r.store.mu.Lock()
	r.store.silent = false
	r.store.mu.Unlock()
	if state, _ := r.finish(l); state != mesos.TASK_FINISHED || !strings.Contains(r.logOf(l, 0), sum(dbPassword)) {
		t.Errorf("%s\n%s", state, r.logOf(l, 0))
	}
}

// A task that waits for its secrets can be killed.
func TestKilledWhileWaitingForSecrets(t *testing.T) {
	r := newSecretive(t, setup{})
	r.store.mu.Lock()
	r.store.silent = true
	r.store.mu.Unlock()
	l := r.withSecrets(r.job("echo began"))
	r.launch(l)
	r.agent.wait("question", func() bool { return r.count(tasklet.RoleSecrets) > 0 })
	r.agent.kill(l.TaskID, 0)
	if state, results := r.finish(l); state != mesos.TASK_KILLED || len(results) != 1 || results[0].Outcome != tasklet.Killed {
		t.Errorf("%s %+v", state, results)
	}
}

// count counts requests, with the agent's lock held.
func (r *rig) count(role tasklet.Role) (n int) {
	for _, report := range r.agent.reports {
		if report.Request != nil && report.Request.Role == role {
			n++
		}
	}
	return n
}
