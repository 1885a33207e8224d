package activities

import (
	"context"
	"fmt"
	"strings"

	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/tasklet"
)

// maxLookups bounds the tasks whose secrets are looked up at the same time.
const maxLookups = 16

// answerSecrets looks the secrets of a task up, beside the entry's events: the
// provider may be slow, and heartbeats are not to wait for it. What the provider
// says for good is the answer; else there is none, and the executor asks again.
func (e *entry) answerSecrets(p *pack, m mesos.Message, r tasklet.Request) {
	if e.in == nil { // only Temporal has the input of an adopted activity
		e.lapse()
		return
	}
	if !p.has(r.Partition) {
		e.send(m, e.taskID(p), tasklet.Grant{ID: r.ID, Error: errNoPartition(r.Partition).Error()})
		return
	}
	if p.lookup || e.cancelled || e.orphan {
		return
	}
	p.lookup = true
	taskID, owner, list := e.taskID(p), e.in.Owner, e.in.Secrets
	started := e.h.start(func() {
		grant, err := e.h.lookUp(taskID, owner, list, r)
		e.post(func() {
			p.lookup = false
			if e.find(p.first, p.generation) != p || p.agent.ID != m.AgentID || p.executor != m.ExecutorID {
				return
			}
			e.secretsWait(p, r.Partition, err)
			if err == nil {
				e.send(m, taskID, grant)
			}
		})
	})
	if !started {
		p.lookup = false
	}
}

// lookUp finds and seals values. They live in here only; neither they nor the
// answer are logged.
func (h *Handoff) lookUp(taskID, owner string, list []tasklet.Secret, r tasklet.Request) (tasklet.Grant, error) {
	g := tasklet.Grant{ID: r.ID}
	select {
	case h.lookups <- struct{}{}:
		defer func() { <-h.lookups }()
	case <-h.ctx.Done():
		return g, h.ctx.Err()
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.cfg.CallTimeout)
	defer cancel()
	values, err := h.cfg.Secrets.Values(ctx, owner, list)
	defer func() {
		for _, v := range values {
			clear(v)
		}
	}()
	switch {
	case secrets.Final(err):
		g.Error = err.Error()
		return g, nil
	case err != nil:
		return g, err
	}
	if g.Sealed, err = tasklet.SealSecrets(r.Key, taskID, values); err != nil {
		g.Error = err.Error()
	}
	return g, nil
}

// secretsWait shows, in the task's progress, that it waits for the provider.
func (e *entry) secretsWait(p *pack, partition int, err error) {
	if err != nil {
		e.log().Warn("secrets cannot be had now; the executor asks again", "task", e.taskID(p), "error", err)
		text := strings.ToValidUTF8(fmt.Sprintf("%s%.*s", secretsWaiting, maxSecretsWait, err), "")
		if p.progress == nil {
			p.progress = make(map[int]string)
		}
		if p.progress[partition] != text {
			p.progress[partition] = text
			e.changed()
		}
		return
	}
	if strings.HasPrefix(p.progress[partition], secretsWaiting) {
		delete(p.progress, partition)
		e.changed()
	}
}

const (
	secretsWaiting = "waits for its secrets: "
	maxSecretsWait = 160 // characters of the reason that are shown
)
