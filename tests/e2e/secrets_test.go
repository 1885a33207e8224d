package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/worker"
)

// secretive takes a secret in a variable and one in a file, proves by hashes that it
// has them, and lets them slip wherever a task can.
const secretive = `
name: secretive
params: {ledger: {type: string}, gate: {type: string}}
steps:
  use:
    secrets:
      DB_PASSWORD: bank/db#password
      TLS_KEY: {from: bank/tls#key, as: file}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    outputs: {password: string, key: string}
    run: |
      printf %s "$DB_PASSWORD" | sha256sum | cut -c 1-64 >"$BAAS_OUTPUTS/password"
      sha256sum <"$TLS_KEY" | cut -c 1-64 >"$BAAS_OUTPUTS/key"
      set -x
      echo "connecting with $DB_PASSWORD"; cat "$TLS_KEY"; env
      printf %s "user:$DB_PASSWORD" | base64
      echo "1/2 with $DB_PASSWORD" >"$BAAS_PROGRESS"
      echo "used $DB_PASSWORD" >"$BAAS_EXIT_STATUS"
      set +x
      sleep 1.5
      echo "file $TLS_KEY" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
  leak:
    needs: [use]
    secrets: {DB_PASSWORD: bank/db#password}
    outputs: {shown: string}
    run: echo "it is $DB_PASSWORD" >"$BAAS_OUTPUTS/shown"
`

// trove is a provider's directory with two secrets, and what they look like.
type trove struct {
	dir, password, key string
}

func newTrove(t *testing.T) trove {
	t.Helper()
	random := make([]byte, 36)
	_, _ = rand.Read(random)
	v := trove{t.TempDir(), "pw-" + hex.EncodeToString(random[:12]), ""}
	v.key = "-----BEGIN KEY-----\n" + hex.EncodeToString(random[12:]) + "\n-----END KEY-----"
	for name, text := range map[string]string{"bank/db/password": v.password, "bank/tls/key": v.key} {
		path := filepath.Join(v.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// keeper gives the secrets to flows that are run without registration.
func (v trove) keeper(t *testing.T, rules ...string) *secrets.Keeper {
	t.Helper()
	provider, err := secrets.Open("file://"+v.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := secrets.ParsePolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	return secrets.NewKeeper(provider, policy)
}

// absent looks for the secrets, also as base64, in what others may see.
func (v trove) absent(t *testing.T, where string, data []byte) {
	t.Helper()
	line := strings.Split(v.key, "\n")[1]
	for _, text := range []string{v.password, line} {
		// Of base64, the part that does not depend on what stands around it.
		for shift := range 3 {
			encoded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
			if bytes.Contains(data, []byte(encoded[4:len(encoded)-4])) {
				t.Errorf("%s has a secret as base64", where)
			}
		}
		if i := bytes.Index(data, []byte(text)); i >= 0 {
			t.Errorf("%s has a secret: …%q", where, data[max(0, i-100):i])
		}
	}
}

// absentBelow looks into every file of a tree but those of one directory, and gives
// their number.
func (v trove) absentBelow(t *testing.T, root, but string) (files int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a task's file went meanwhile
		}
		if err == nil && path == but {
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		files++
		v.absent(t, path, data)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// safeBuffer takes logs of many goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// history gives a run's events as they are kept.
func history(t *testing.T, p target, r client.WorkflowRun) (all []byte) {
	t.Helper()
	events := p.client.GetWorkflowHistory(t.Context(), r.GetID(), r.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		data, err := proto.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

// mesosState gives what the operator API tells.
func mesosState(t *testing.T, p *platform.Platform) (all []byte) {
	t.Helper()
	for _, call := range []string{"GET_STATE", "GET_TASKS", "GET_EXECUTORS", "GET_FRAMEWORKS"} {
		resp, err := http.Post(p.Cluster.MasterURL()+"/api/v1", "application/json", strings.NewReader(`{"type": "`+call+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || len(data) < 100 {
			t.Fatalf("%s: %s, %d bytes, %v", call, resp.Status, len(data), err)
		}
		all = append(all, data...)
	}
	return all
}

// The value of a secret is found nowhere but in the task: not in the history, Mesos's
// state, the agents' directories, storage or any log, while the task runs or after.
func TestSecretsAreNowhereButInTheTask(t *testing.T) {
	v, l, g := newTrove(t), newLedger(t), newGate(t)
	log := &safeBuffer{}
	platform := start(t, func(c *platform.Config) {
		c.Memory = false // its database is searched too
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Worker = func(w *worker.Config) { w.Secrets = v.keeper(t, "adhoc=bank") }
	})
	p := of(platform)
	data := filepath.Dir(platform.Store.Dir())
	r := run(t, p, map[string]string{"flow.yaml": secretive}, map[string]string{"ledger": l.path, "gate": g.path})

	file := l.first(t, "file")[0]
	if have, err := os.ReadFile(file); err != nil || string(have) != v.key {
		t.Errorf("the task's file has %q, %v", have, err)
	}
	search := func(when, but string) {
		t.Helper()
		if n := v.absentBelow(t, data, but); n < 20 {
			t.Errorf("%s: only %d files below %s", when, n, data)
		}
		v.absent(t, when+": history", history(t, p, r))
		v.absent(t, when+": Mesos", mesosState(t, platform))
		now, err := p.runs().Describe(t.Context(), api.RunID(r.GetID(), r.GetRunID()))
		if err != nil {
			t.Fatal(err)
		}
		v.absent(t, when+": description", fmt.Appendf(nil, "%+v", now))
		v.absent(t, when+": log of the platform", log.bytes())
	}
	// The task's own directory: what it writes there is its own affair, and goes with it.
	own := filepath.Dir(filepath.Dir(file))
	search("running", own)
	g.open(t)
	last := ended(t, p, r, patience)
	harness.Eventually(t, "removal of the task's directory", func() bool {
		_, err := os.Stat(own)
		return os.IsNotExist(err)
	})
	search("ended", "")

	for name, value := range map[string]string{"password": v.password, "key": v.key} {
		equal(t, output(t, last, "use", name), fmt.Sprintf("%x", sha256.Sum256([]byte(value))))
	}
	if s, _ := last.Step("leak"); last.Status != api.StatusFailed || !strings.Contains(s.Reason, `output "shown" holds the value of a secret`) {
		t.Errorf("leak: %s", show(last))
	}
	if text := logOf(t, data); !strings.Contains(text, "connecting with ***") || !strings.Contains(text, "DB_PASSWORD=***") {
		t.Errorf("log of the task:\n%s", text)
	}
}

// logOf gives all task logs in the store below a data directory.
func logOf(t *testing.T, data string) (text string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(data, "store", "runs", "*", "*", "use", "logs", "*", "*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	for _, name := range logs {
		one, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text += string(one)
	}
	return text
}

// A flow that anybody may start gets no secrets unless the operator says so, and
// none that is not there; nothing is launched for the first, nothing runs for either.
func TestSecretsThatAreNotGiven(t *testing.T) {
	for name, c := range map[string]struct {
		rules []string
		ref   string
		want  string
	}{
		"forbidden": {nil, "bank/db#password", `secret bank/db#password, for S: the owner may not have this secret: owner "adhoc" reads none`},
		"missing":   {[]string{"adhoc="}, "bank/db#passwort", "secret bank/db#passwort, for S: there is no such secret"},
	} {
		t.Run(name, func(t *testing.T) {
			v, l := newTrove(t), newLedger(t)
			p := of(start(t, func(c2 *platform.Config) {
				c2.Worker = func(w *worker.Config) { w.Secrets = v.keeper(t, c.rules...) }
			}))
			flow := "name: f\nparams: {ledger: string}\nsteps:\n  a:\n    retry: {attempts: 3, backoff: 1ms}\n" +
				"    secrets: {S: '" + c.ref + "'}\n    with: {ledger: '${{ params.ledger }}'}\n    run: echo ran a >>\"$BAAS_INPUT_LEDGER\"\n"
			last := ended(t, p, run(t, p, map[string]string{"flow.yaml": flow}, map[string]string{"ledger": l.path}), patience)
			s, _ := last.Step("a")
			if last.Status != api.StatusFailed || !strings.Contains(s.Reason, c.want) || s.Retries != 0 || len(l.lines(t)) != 0 {
				t.Errorf("%s\nledger %v", show(last), l.lines(t))
			}
		})
	}
}
