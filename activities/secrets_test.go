package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/tasklet"
)

const secretValue = "hunter2-the-secret"

// secretProvider is a provider that a test can take away or hold up.
type secretProvider struct {
	mu   sync.Mutex
	err  error
	hold chan struct{}
	n    int
}

func (s *secretProvider) Get(ctx context.Context, _ tasklet.SecretRef) ([]byte, error) {
	s.mu.Lock()
	err, hold := s.err, s.hold
	s.n++
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return []byte(secretValue), err
}

func (s *secretProvider) set(err error) { s.mu.Lock(); defer s.mu.Unlock(); s.err = err }

func (s *secretProvider) asked() int { s.mu.Lock(); defer s.mu.Unlock(); return s.n }

// secretRig is a rig whose one task has a secret; log takes what the leader logs.
func secretRig(t *testing.T, p secrets.Provider) (r *rig, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	r = newRig(t, func(c *Config) {
		if p != nil {
			c.Secrets = secrets.NewKeeper(p, nil)
		}
		c.Logger = slog.New(slog.NewTextHandler(&lockedWriter{w: log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	return r, log
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func secretInput(owner string) api.LaunchInput {
	in := input(0)
	in.Owner, in.Secrets = owner, []tasklet.Secret{{Name: "A", Ref: "bank/db#a"}, {Name: "B", Ref: "bank/db#b", File: true}}
	return in
}

// askSecrets asks as the executor of the task does, and gives the key.
func (r *rig) askSecrets(id, executor string) *tasklet.SecretKey {
	r.Helper()
	key, err := tasklet.NewSecretKey()
	if err != nil {
		r.Fatal(err)
	}
	r.ask(0, executor, tasklet.Request{ID: id, Role: tasklet.RoleSecrets, Key: key.Public()})
	return key
}

func (r *rig) grantOf(id string) tasklet.Grant {
	r.Helper()
	g, ok := r.answerTo(id)
	if !ok {
		r.Fatalf("no grant %s", id)
	}
	return g
}

// The value goes to the task's own executor, sealed, and nowhere else.
func TestSecretsGoToTheExecutorAlone(t *testing.T) {
	r, log := secretRig(t, &secretProvider{})
	r.deliver(secretInput("bank"), api.Details{}, 1)
	r.until("submit 0.1")
	launch := r.offer(0, 1)
	var l tasklet.Launch
	if err := json.Unmarshal(launch.Data, &l); err != nil {
		t.Fatal(err)
	}
	if len(l.Secrets) != 2 || l.Secrets[0] != (tasklet.Secret{Name: "A"}) || l.Secrets[1] != (tasklet.Secret{Name: "B", File: true}) {
		t.Errorf("launch data has %+v", l.Secrets)
	}
	stranger := r.askSecrets("stranger", "other")
	r.never(`grant stranger error="" url=false`)
	r.ask(7, "x1", tasklet.Request{ID: "elsewhere", Role: tasklet.RoleSecrets, Key: stranger.Public()}) // no such task
	r.ask(0, "x1", tasklet.Request{ID: "beyond", Partition: 7, Role: tasklet.RoleSecrets, Key: stranger.Public()})
	r.until(`grant beyond error="the task has no partition 7" url=false`)
	key := r.askSecrets("a", "x1")
	r.until(`grant a error="" url=false`)
	r.until(`grant elsewhere error="nobody waits for this task any more" url=false`)
	values, err := key.Open(r.id(0, 1), r.grantOf("a").Sealed)
	if err != nil || string(values["A"]) != secretValue || string(values["B"]) != secretValue {
		t.Errorf("%q, %v", values, err)
	}
	r.askSecrets("again", "x1") // the answer may have been lost
	r.until(`grant again error="" url=false`)
	r.ask(0, "x1", tasklet.Request{ID: "bad", Role: tasklet.RoleSecrets, Key: []byte("no key")})
	r.eventually("refusal", func() bool { return r.has("bad") })
	r.update(0, 1, mesos.Finished, withResults(tasklet.Result{Outcome: tasklet.Succeeded}))
	r.until("complete 7")
	r.h.Close()
	r.mu2.Lock()
	defer r.mu2.Unlock()
	everything := fmt.Sprintf("%s %+v %s %s %+v", launch.Data, r.details, r.all(), log, r.tasks)
	if strings.Contains(everything, secretValue) {
		t.Error("the value is told")
	}
}

func (r *rig) has(grant string) bool {
	r.mu2.Lock()
	defer r.mu2.Unlock()
	for _, g := range r.granted {
		if g.ID == grant {
			return g.Error != "" && g.Sealed == nil
		}
	}
	return false
}

// What can never be had fails before anything reaches Mesos.
func TestSecretsThatMayNotBeHad(t *testing.T) {
	for name, c := range map[string]struct {
		provider secrets.Provider
		owner    string
		want     string
	}{
		"another owner": {&secretProvider{}, "shop", `secret bank/db#a, for A: the owner may not have this secret: owner "shop" reads shop/`},
		"adhoc":         {&secretProvider{}, "adhoc", `the owner may not have this secret: owner "adhoc" reads none`},
		"no provider":   {nil, "bank", "started without --secrets"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := secretRig(t, c.provider)
			result, err := r.h.Take(Attempt{Key: r.key, Input: secretInput(c.owner), Number: 1})
			if err != nil || len(result.Results) != 1 || result.Results[0].Outcome != tasklet.Invalid || !strings.Contains(result.Results[0].Reason, c.want) {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

func TestMissingSecretIsAFinalAnswer(t *testing.T) {
	p := &secretProvider{err: fmt.Errorf("%w: no field", secrets.ErrNotFound)}
	r, _ := secretRig(t, p)
	r.deliver(secretInput("bank"), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.askSecrets("a", "x1")
	r.until(`grant a error="secret bank/db#a, for A: there is no such secret: no field" url=false`)
}

// A provider that does not answer holds the task up, and the details say so.
func TestUnreachableProviderIsAskedAgain(t *testing.T) {
	p := &secretProvider{err: errors.New("vault does not answer")}
	r, _ := secretRig(t, p)
	r.deliver(secretInput("bank"), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.askSecrets("a", "x1")
	r.eventually("reason in the details", func() bool {
		r.askHeartbeat()
		r.mu2.Lock()
		defer r.mu2.Unlock()
		return r.details != nil && len(r.details.Tasks) == 1 &&
			r.details.Tasks[0].Progress == "waits for its secrets: secret bank/db#a, for A: vault does not answer"
	})
	p.set(nil)
	r.askSecrets("b", "x1")
	r.until(`grant b error="" url=false`)
	if r.count(`grant a error="" url=false`) != 0 {
		t.Error("a question without an answer was answered")
	}
	r.eventually("reason gone", func() bool {
		r.askHeartbeat()
		r.mu2.Lock()
		defer r.mu2.Unlock()
		return r.details.Tasks[0].Progress == ""
	})
}

// askHeartbeat makes a regular heartbeat due, and waits for it.
func (r *rig) askHeartbeat() {
	done := make(chan struct{})
	e := r.h.entry(r.key)
	if e.post(func() { e.heartbeat(); close(done) }) {
		<-done
	}
}

// A slow provider holds up neither heartbeats nor kills, and is asked once.
func TestSlowProvider(t *testing.T) {
	p := &secretProvider{hold: make(chan struct{})}
	r, _ := secretRig(t, p)
	r.deliver(secretInput("bank"), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.askSecrets("a", "x1")
	r.eventually("lookup", func() bool { return p.asked() == 1 })
	r.askSecrets("b", "x1")
	r.askHeartbeat() // after both questions were taken, while the first one waits
	r.killAll()
	r.until("kill 0.1")
	if p.asked() != 1 {
		t.Errorf("asked %d times", p.asked())
	}
	close(p.hold)
	r.until(`grant a error="" url=false`)
	r.after(time.Millisecond)
	r.never(`grant b error="" url=false`)
}

// A new leader knows the task, but not its secrets: Temporal hands them over again.
func TestAdoptedTaskAsksForItsSecrets(t *testing.T) {
	r, _ := secretRig(t, &secretProvider{})
	details := held(1, mesos.Running, 0)
	r.set(func() { r.details = &details })
	r.update(0, 1, mesos.Running, fromMaster)
	r.askSecrets("a", "x1")
	r.until("released: true")
	r.deliver(secretInput("bank"), details, 2)
	r.askSecrets("b", "x1")
	r.until(`grant b error="" url=false`)
}
