package activities

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// slowJoins is a store that takes its time to end uploads.
type slowJoins struct {
	storage.Store
	let   chan error // what each join ends with
	begun atomic.Int32
}

func (s *slowJoins) CompleteUpload(ctx context.Context, _, _ string, _ []storage.UploadPart) (storage.Info, error) {
	s.begun.Add(1)
	select {
	case err := <-s.let:
		return storage.Info{}, err
	case <-ctx.Done():
		return storage.Info{}, ctx.Err()
	}
}

var joinOne = &tasklet.Multipart{UploadID: "upload", Complete: []tasklet.Part{{Number: 1, ETag: "x"}}}

func reportRequest(id string, m *tasklet.Multipart) tasklet.Request {
	return tasklet.Request{ID: id, Role: tasklet.RoleOutput, Name: "report", Multipart: m}
}

// While a store joins the parts of an upload, the task's other requests are answered,
// the upload is not joined twice, and it is not thrown away.
func TestJoinGoesOnBesideOtherWork(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		denied bool
	}{
		"joined":       {nil, false},
		"a wrong part": {storage.ErrInvalidPart, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &slowJoins{let: make(chan error)}
			r := newRig(t, func(c *Config) { s.Store = c.Store; c.Store = s })
			r.deliver(input(0), api.Details{}, 1)
			r.until("submit 0.1")
			r.offer(0, 1)
			r.ask(0, "x1", reportRequest("join", joinOne))
			r.ask(0, "x1", reportRequest("join", joinOne)) // an executor repeats itself
			r.ask(0, "x1", reportRequest("abort", &tasklet.Multipart{UploadID: joinOne.UploadID, Abort: true}))
			r.ask(0, "x1", reportRequest("url", nil))
			r.settle()
			if g, ok := r.answerTo("url"); !ok || g.URL == "" {
				t.Errorf("a URL is asked for: %+v", g)
			}
			if g, _ := r.answerTo("abort"); g.Done {
				t.Error("an upload was thrown away while its parts were joined")
			}
			if _, ok := r.answerTo("join"); ok {
				t.Error("the join is answered before its end")
			}
			s.let <- c.err
			r.eventually("an answer", func() bool { _, ok := r.answerTo("join"); return ok })
			g, _ := r.answerTo("join")
			if g.Done == c.denied || (g.Error != "") != c.denied || s.begun.Load() != 1 {
				t.Errorf("%d joins, answered with %+v", s.begun.Load(), g)
			}
		})
	}
}

// A join that fails for now is not answered: the executor asks again.
func TestJoinIsTriedAgain(t *testing.T) {
	s := &slowJoins{let: make(chan error, 2)}
	s.let <- errors.New("the store is away")
	s.let <- nil
	r := newRig(t, func(c *Config) { s.Store = c.Store; c.Store = s })
	r.deliver(input(0), api.Details{}, 1)
	r.until("submit 0.1")
	r.offer(0, 1)
	r.eventually("an answer", func() bool {
		r.ask(0, "x1", reportRequest("join", joinOne))
		g, ok := r.answerTo("join")
		return ok && g.Done
	})
}
