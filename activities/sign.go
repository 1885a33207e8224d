package activities

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// errForeignFile refuses a file reference that leads out of what a run may read.
var errForeignFile = errors.New("the file does not belong to the app")

// signer makes signed URLs for one activity. The first error sticks.
type signer struct {
	e       *entry
	expires time.Duration
	err     error
}

const maxURLLifetime = 7 * 24 * time.Hour // what S3 allows at most

// signer makes URLs that outlive a task of this timeout; 0 for none.
func (e *entry) signer(timeout time.Duration) *signer {
	lifetime := e.h.cfg.URLLifetime
	if timeout > 0 {
		lifetime = max(lifetime, timeout+time.Hour)
	}
	return &signer{e: e, expires: min(lifetime, maxURLLifetime)}
}

func (s *signer) url(key, method string) (signed storage.Signed) {
	if s.err != nil {
		return signed
	}
	ctx, cancel := s.e.h.call()
	defer cancel()
	signed, err := s.e.h.cfg.Store.SignURL(ctx, key, storage.SignOptions{Method: method, Expires: s.expires})
	if err != nil {
		s.err = fmt.Errorf("sign %s: %w", key, err)
	}
	return signed
}

func (s *signer) target(key string) tasklet.Target {
	signed := s.url(key, http.MethodPut)
	return tasklet.Target{Key: key, URL: signed.URL, Header: signed.Header}
}

func (s *signer) source(ref tasklet.FileRef) *tasklet.Source {
	if err := s.e.readable(ref.Key); err != nil && s.err == nil {
		s.err = err
	}
	return &tasklet.Source{FileRef: ref, URL: s.url(ref.Key, http.MethodGet).URL}
}

func (s *signer) input(value json.RawMessage, files bool) tasklet.Input {
	refs, list, ok := fileRefs(value)
	switch {
	case !ok && files && string(value) == "[]":
		return tasklet.Input{List: true} // an empty directory
	case !ok:
		return tasklet.Input{Value: value}
	}
	in := tasklet.Input{List: list}
	// Many refs may share one object: it is signed once.
	urls := make(map[string]string)
	for _, ref := range refs {
		if urls[ref.Key] == "" {
			urls[ref.Key] = s.source(ref).URL
		}
		in.Files = append(in.Files, tasklet.Source{FileRef: ref, URL: urls[ref.Key]})
	}
	return in
}

// readable tells whether tasks of this activity may read a key.
func (e *entry) readable(key string) error {
	return mayRead(e.in.App, e.in.Owner, key)
}

// Message routes an executor's report to its activity.
func (h *Handoff) Message(m mesos.Message) {
	var r tasklet.Report
	if err := json.Unmarshal(m.Data, &r); err != nil {
		h.cfg.Logger.Warn("message of an executor", "executor", m.ExecutorID, "error", err)
		return
	}
	id, err := tasklet.ParseTaskID(r.TaskID)
	if err != nil {
		return
	}
	e := h.known(id.Activity())
	if e == nil && r.Request != nil {
		e = h.entry(id.Activity())
	}
	if e != nil {
		e.post(func() {
			if r.Request == nil || e.adopt() {
				e.report(id, m, r)
			}
		})
	}
}

// report takes progress and answers requests, of tasks in the table alone and
// only from where they run.
func (e *entry) report(id tasklet.TaskID, m mesos.Message, r tasklet.Report) {
	p := e.find(id.First, id.Generation)
	if r.Request != nil && (e.orphan || p == nil && e.prefix != "") {
		// It is being killed, and is not to wait for a place to put its results.
		e.send(m, r.TaskID, tasklet.Grant{ID: r.Request.ID, Error: "nobody waits for this task any more"})
	}
	if p == nil || p.agent.ID != m.AgentID || p.executor != m.ExecutorID {
		return
	}
	for _, pr := range r.Progress {
		if !p.has(pr.Partition) {
			continue
		}
		if p.progress == nil {
			p.progress = make(map[int]string)
		}
		p.progress[pr.Partition] = progressText(pr)
		e.changed()
	}
	if r.Request == nil || e.prefix == "" {
		return
	}
	if r.Request.Role == tasklet.RoleSecrets {
		e.answerSecrets(p, m, *r.Request)
		return
	}
	if grant, ok := e.grant(p, m, *r.Request); ok { // else the executor asks again
		e.send(m, r.TaskID, grant)
	}
}

func (e *entry) send(m mesos.Message, taskID string, grant tasklet.Grant) {
	order, err := json.Marshal(tasklet.Order{TaskID: taskID, Grant: &grant})
	if err != nil {
		return
	}
	if err := e.h.fw.Send(m.AgentID, m.ExecutorID, order); err != nil {
		e.log().Debug("grant", "error", err)
	}
}

const maxProgressText = 60

func progressText(p tasklet.Progress) string {
	text := fmt.Sprintf("%g", p.Done)
	if p.Total > 0 {
		text = fmt.Sprintf("%g/%g", p.Done, p.Total)
	}
	if p.Message != "" {
		text += " " + strings.ToValidUTF8(p.Message[:min(len(p.Message), maxProgressText)], "")
	}
	return text
}

// grant answers a request; false when it cannot be answered now.
func (e *entry) grant(p *pack, m mesos.Message, r tasklet.Request) (tasklet.Grant, bool) {
	g := tasklet.Grant{ID: r.ID}
	method, key, err := e.object(p, r)
	if errors.Is(err, errNeedsInput) {
		// Only Temporal has the input of an adopted activity: let it come again.
		e.lapse()
		return g, false
	}
	if errors.Is(err, errNotNow) {
		return e.granted(g, key, err)
	}
	if method == http.MethodPut {
		g.Key = key
	}
	if err != nil {
		g.Error = err.Error()
		return g, true
	}
	if r.Multipart != nil && method != http.MethodPut {
		g.Error = fmt.Sprintf("the task may not write its %s", r.Role)
		return g, true
	}
	switch {
	case r.Multipart == nil:
		s := e.signer(0)
		signed := s.url(key, method)
		g.URL, g.Header, err = signed.URL, signed.Header, s.err
	case len(r.Multipart.Complete) > 0:
		e.join(p, m, key, r)
		return g, false
	default:
		err = e.multipart(&g, key, *r.Multipart)
	}
	return e.granted(g, key, err)
}

// granted tells whether a grant can go out: not where storage may answer otherwise
// later.
func (e *entry) granted(g tasklet.Grant, key string, err error) (tasklet.Grant, bool) {
	switch {
	case err == nil:
		return g, true
	case errors.Is(err, storage.ErrNotExist), errors.Is(err, storage.ErrInvalidKey), errors.Is(err, storage.ErrInvalidPart):
		g.Error = err.Error()
		return g, true
	}
	e.log().Warn("cannot answer an executor; it asks again", "key", key, "error", err)
	return g, false
}

var (
	errNeedsInput = errors.New("the activity's input is not here")
	errNotNow     = errors.New("storage does not answer")
)

func errNoPartition(partition int) error {
	return fmt.Errorf("the task has no partition %d", partition)
}

// object derives the key that a role means, from this leader's own table.
func (e *entry) object(p *pack, r tasklet.Request) (method, key string, err error) {
	ofTask := r.Role == tasklet.RoleResult || r.Role == tasklet.RoleSegment || r.Role == tasklet.RoleBundle
	if !ofTask && !p.has(r.Partition) {
		return "", "", errNoPartition(r.Partition)
	}
	switch r.Role {
	case tasklet.RoleResult:
		return http.MethodPut, api.ResultKey(e.prefix, e.key.ActivityID, p.first, p.generation), nil
	case tasklet.RoleSegment:
		if e.ranged == nil || r.File < 0 || r.File > maxSegments {
			return "", "", fmt.Errorf("the task has no segment %d", r.File)
		}
		return http.MethodPut, api.SegmentKey(e.prefix, e.key.ActivityID, p.first, p.generation, r.File), nil
	case tasklet.RoleLog:
		return http.MethodPut, api.LogKey(e.prefix, r.Partition, p.attempt, p.generation), nil
	case tasklet.RoleCheckpoint:
		return http.MethodPut, api.CheckpointKey(e.prefix, r.Partition, p.attempt, p.generation), nil
	case tasklet.RoleOutput:
		if strings.Contains(r.Name, "/") {
			return "", "", fmt.Errorf("no output %q", r.Name)
		}
		key := api.OutputKey(e.prefix, r.Partition, p.attempt, p.generation, r.Name)
		return http.MethodPut, key, storage.CheckKey(key)
	case tasklet.RoleRestore:
		newest, err := e.checkpoint(r.Partition)
		switch {
		case err != nil:
			return "", "", fmt.Errorf("%w: %w", errNotNow, err)
		case newest == nil:
			return "", "", errors.New("there is no checkpoint")
		}
		return http.MethodGet, newest.Key, nil
	}
	if e.in == nil {
		return "", "", errNeedsInput
	}
	key, err = e.inputKey(p, r)
	return http.MethodGet, key, err
}

// inputKey finds the key of an input or of the bundle.
func (e *entry) inputKey(p *pack, r tasklet.Request) (string, error) {
	if r.Role == tasklet.RoleBundle && e.in.Bundle != nil {
		return e.in.Bundle.Key, nil
	}
	if r.Role == tasklet.RoleInput {
		value, err := e.inputOf(r.Partition, r.Name)
		if err != nil {
			return "", err
		}
		refs, _, ok := fileRefs(value)
		if ok && r.File >= 0 && r.File < len(refs) {
			return refs[r.File].Key, e.readable(refs[r.File].Key)
		}
	}
	return "", fmt.Errorf("the task has no such %s", r.Role)
}
