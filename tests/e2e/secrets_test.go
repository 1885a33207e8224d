package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/tests/syncbuf"
	"github.com/baas-batch/baas/worker"
)

// secretive takes a secret in a variable and one in a file, proves by hashes that it
// has them, and lets them slip wherever a task can.
// A neighbour without secrets looks around meanwhile, where tasks have users of their own.
const secretive = `
name: CONTROL
params: {ledger: {type: string}, gate: {type: string}, snoop: {type: bool}}
defaults: {resources: {cpus: 0.1, mem: 64MB}}
steps:
  beside:
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}', snoop: '${{ params.snoop }}'}
    run: |
      until file=$(grep '^file' "$BAAS_INPUT_LEDGER"); do sleep 0.1; done
      if [ "$BAAS_INPUT_SNOOP" = true ]; then
        cat /proc/[0-9]*/environ ${file#file } "$(dirname ${file#file })"/* ../../*/*/* 2>&1
      fi
      echo "snooped done" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
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

// The value of a secret is found nowhere but in the task: not in any history, Mesos's
// state, other processes, storage, agents' directories or logs, while the task runs or
// after it. Everywhere there the same search finds the run's control word.
func TestSecretsAreNowhereButInTheTask(t *testing.T) {
	v, l, g := newTrove(t), newLedger(t), newGate(t)
	log := &syncbuf.Buffer{}
	platform := start(t, func(c *platform.Config) {
		c.Memory = false // its database is searched too
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Worker = func(w *worker.Config) { w.Secrets = v.keeper(t, "adhoc=bank") }
	})
	p := of(platform)
	data := filepath.Dir(platform.StoreDir())
	r := run(t, p, map[string]string{"flow.yaml": strings.ReplaceAll(secretive, "CONTROL", v.control)},
		map[string]string{"ledger": l.path, "gate": g.path, "snoop": strconv.FormatBool(os.Geteuid() == 0)})

	l.first(t, "snooped")
	file := l.first(t, "file")[0]
	if have, err := os.ReadFile(file); err != nil || string(have) != v.key {
		t.Errorf("the task's file has %q, %v", have, err)
	}
	search := func(when string, files ...string) {
		t.Helper()
		matched(t, v.absentBelow(t, data), files)
		v.traced(t, when+": histories", histories(t, p))
		v.absentInMesos(t, platform)
		now, err := p.runs().Describe(t.Context(), api.RunID(r.GetID(), r.GetRunID()))
		if err != nil {
			t.Fatal(err)
		}
		v.traced(t, when+": description", fmt.Appendf(nil, "%+v", now))
		v.traced(t, when+": log of the platform", []byte(log.String()))
	}
	const (
		agent    = "mesos/agents/*/"
		executor = "slaves/*/frameworks/*/executors/*/"
	)
	search("running", "temporal/temporal.db*", "store/bundles/*",
		agent+"meta/"+executor+"tasks.log", agent+executor+"runs/*/stderr", agent+executor+"runs/*/logs/*/0.log")
	if n := v.absentInProcesses(t, "use"); n == 0 {
		t.Error("the step beside it was not found")
	}
	g.open(t)
	last := ended(t, p, r, patience)
	harness.Eventually(t, "removal of the secret's directory", func() bool {
		_, err := os.Stat(filepath.Dir(file))
		return os.IsNotExist(err)
	})
	search("ended", "store/instances/*/*.json", "store/runs/*/*/use/results/*.json",
		"store/runs/*/*/use/logs/*/*.log", "store/runs/*/*/beside/logs/*/*.log")

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

// Who can reach an agent, as tasks can, does not pass for an executor, and is not sent
// what is for that one.
func TestNobodyPassesForAnExecutor(t *testing.T) {
	platform := start(t)
	p := of(platform)
	succeeded(t, p, run(t, p, map[string]string{"flow.yaml": "name: f\nsteps: {a: {run: 'true'}}\n"}, nil), patience)
	tried := 0
	for _, agent := range platform.Cluster.Agents() {
		var state struct {
			GetExecutors struct {
				Executors []struct {
					Info struct {
						Executor  any `json:"executor_id"`
						Framework any `json:"framework_id"`
					} `json:"executor_info"`
				} `json:"executors"`
			} `json:"get_executors"`
		}
		if err := json.Unmarshal(operatorAnswer(t, "http://"+agent.Address, "GET_EXECUTORS"), &state); err != nil {
			t.Fatal(err)
		}
		for _, e := range state.GetExecutors.Executors {
			call, err := json.Marshal(map[string]any{
				"type": "SUBSCRIBE", "framework_id": e.Info.Framework, "executor_id": e.Info.Executor, "subscribe": struct{}{},
			})
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.Post("http://"+agent.Address+"/api/v1/executor", "application/json", bytes.NewReader(call))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %s", call, resp.Status)
			}
			tried++
		}
	}
	if tried == 0 {
		t.Error("there is no executor")
	}
}
