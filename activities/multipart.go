package activities

import (
	"context"
	"net/http"
	"time"

	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// multipart moves an upload on, but for its end.
func (e *entry) multipart(g *tasklet.Grant, key string, m tasklet.Multipart) (err error) {
	ctx, cancel := e.h.call()
	defer cancel()
	store := e.h.cfg.Store
	switch {
	case m.Begin:
		g.UploadID, err = store.CreateUpload(ctx, key)
		g.PartSize = partSize(m.Size, store.Capabilities())
	case m.Abort && e.joining[m.UploadID]: // that cannot be taken back: the sweep finds what is left
	case m.Abort:
		err = store.AbortUpload(ctx, key, m.UploadID)
		g.Done = err == nil
	default:
		g.UploadID = m.UploadID
		g.Parts = make(map[int]string, len(m.Sign))
		for _, n := range m.Sign[:min(len(m.Sign), maxSignedParts)] {
			signed, err := store.SignPart(ctx, key, m.UploadID, n, storage.SignOptions{
				Method: http.MethodPut, Expires: e.signer(0).expires,
			})
			if err != nil {
				return err
			}
			g.Parts[n], g.Header = signed.URL, signed.Header
		}
	}
	return err
}

// joinTimeout bounds the end of an upload: some stores look at each of its parts.
const joinTimeout = 10 * time.Minute

// join ends an upload beside the entry's other work. The executor asks until it is
// answered; what it asks meanwhile is answered by the join that goes on.
func (e *entry) join(p *pack, m mesos.Message, key string, r tasklet.Request) {
	id := r.Multipart.UploadID
	if e.joining[id] {
		return
	}
	parts := make([]storage.UploadPart, len(r.Multipart.Complete))
	for i, part := range r.Multipart.Complete {
		parts[i] = storage.UploadPart{Number: part.Number, ETag: part.ETag}
	}
	put(&e.joining, id, true)
	taskID := e.taskID(p)
	started := e.h.start(func() {
		ctx, cancel := context.WithTimeout(e.h.ctx, joinTimeout)
		defer cancel()
		_, err := e.h.cfg.Store.CompleteUpload(ctx, key, id, parts)
		e.post(func() {
			delete(e.joining, id)
			if e.find(p.first, p.generation) != p || p.agent.ID != m.AgentID || p.executor != m.ExecutorID {
				return
			}
			if grant, ok := e.granted(tasklet.Grant{ID: r.ID, UploadID: id, Done: err == nil}, key, err); ok {
				e.send(m, taskID, grant)
			}
		})
	})
	if !started {
		delete(e.joining, id)
	}
}

const (
	maxSignedParts = 100
	minPartSize    = 16 << 20 // bytes
)

// partSize is large enough for size, or for a stream of 150 GB when it is not known.
func partSize(size int64, c storage.Capabilities) int64 {
	part := max(minPartSize, c.MinPartSize)
	if c.MaxParts > 0 {
		part = max(part, size/int64(c.MaxParts)+1)
	}
	return part
}
