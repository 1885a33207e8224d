package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
)

// Mesos, as the world plays it

func (t *term) Submit(tasks ...mesos.Task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = append(t.queue, tasks...)
}

func (t *term) Withdraw(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.queue)
	t.queue = slices.DeleteFunc(t.queue, func(q mesos.Task) bool { return q.ID == id })
	return len(t.queue) < before
}

func (t *term) Kill(ref mesos.TaskRef, _ time.Duration) {
	if t.dead.Load() {
		return
	}
	if t.w.draw(2) == 0 {
		t.w.end(ref.TaskID, mesos.KilledState, true)
		return
	}
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if s := t.w.tasks[ref.TaskID]; s != nil {
		s.dying = true
	}
}

func (t *term) Acknowledge(u mesos.Update) {
	if u.UUID == nil || t.dead.Load() {
		return
	}
	w := t.w
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.tasks[u.TaskID]
	if s == nil || s.last == nil || string(s.last.UUID) != string(u.UUID) {
		return
	}
	s.last = nil
	if s.run != nil {
		w.acknowledgedSegment(u)
	}
	if s.then != nil {
		s.last, s.then = s.then, nil
		return
	}
	if !s.over {
		return
	}
	w.note("ack %s", name(s.id))
	delete(w.tasks, u.TaskID)
	if s.run != nil {
		return
	}
	if !s.earlier() && u.State == mesos.Finished && w.pending && !w.stored(s.id) {
		w.violated("the result of %s is lost by its acknowledgement", short(u.TaskID))
	}
}

func (t *term) Reconcile(refs ...mesos.TaskRef) {
	for _, ref := range refs {
		t.w.mu.Lock()
		u := mesos.Update{TaskID: ref.TaskID, State: mesos.Gone, AgentID: ref.AgentID, Source: "MASTER", Reason: "RECONCILIATION"}
		if s := t.w.tasks[ref.TaskID]; s != nil {
			u = s.reconciled()
		}
		t.w.mu.Unlock()
		t.h.Update(u)
	}
}

func (t *term) Forget(string)                            {}
func (t *term) Describe(string, string, mesos.Resources) {}
func (t *term) Send(string, string, []byte) error        { return nil }
func (t *term) Explain(string) string                    { return "" }
func (t *term) Blame(string, string)                     {}
func (t *term) Holds(string, string, ...mesos.Content)   {}

func (t *term) Tasks() (list []mesos.TaskInfo) {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	for id, s := range t.w.tasks {
		if !s.over {
			list = append(list, mesos.TaskInfo{TaskID: id, State: mesos.Running, AgentID: "a1"})
		}
	}
	return list
}

// place gives the oldest waiting task a place, and launches it unless the leader
// dies or the offer is taken back in between.
func (w *world) place() {
	t := w.leader.Load()
	t.mu.Lock()
	if len(t.queue) == 0 {
		t.mu.Unlock()
		return
	}
	task := t.queue[0]
	t.queue = t.queue[1:]
	t.mu.Unlock()
	launch := t.h.Placed(context.Background(), mesos.Placement{Agent: mesos.Agent{ID: "a1"}, Executor: "x1", Tasks: []mesos.Task{task}})[0]
	fate := w.draw(10)
	switch {
	case errors.Is(launch.Err, context.Canceled), launch.Err == nil && fate == 0:
		t.h.Update(mesos.Update{TaskID: task.ID, State: mesos.Dropped, Source: mesos.FrameworkSource})
	case launch.Err != nil, fate == 1: // 1: the leader dies now
		if fate == 1 {
			w.lead()
		}
	default:
		w.accept(task, launch.Data)
	}
}

func (w *world) accept(task mesos.Task, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id, err := tasklet.ParseTaskID(task.ID)
	if err != nil {
		w.Error(err)
		return
	}
	w.note("launch %s", short(task.ID))
	if w.used[task.ID] {
		w.violated("the ID of %s is used twice", short(task.ID))
	}
	w.used[task.ID] = true
	if w.in.Range != nil {
		w.acceptPack(id, data)
		return
	}
	for _, s := range w.tasks {
		switch {
		case s.over:
		case !s.earlier() && s.id.First == id.First && !s.away,
			s.earlier() && (!s.lost || w.in.UnreachableTimeout > time.Second):
			w.violated("%s runs beside %s", short(task.ID), name(s.id))
		}
	}
	if before := w.done[id.First]; before != "" {
		w.violated("%s runs though %s has succeeded", short(task.ID), before)
	}
	w.tasks[task.ID] = &simTask{id: id}
}

// name is the short name of a task.
func name(id tasklet.TaskID) string {
	if id.RunID == earlierRunID {
		return "earlier " + short(id.String())
	}
	return short(id.String())
}

// end ends a task; its agent tells of it until that is acknowledged.
func (w *world) end(id string, state mesos.State, store bool) {
	w.mu.Lock()
	s := w.tasks[id]
	if s == nil || s.over || s.away && state == mesos.KilledState {
		w.mu.Unlock()
		return
	}
	if s.run != nil {
		told := w.endPack(s, state, store)
		w.mu.Unlock()
		if told != nil {
			w.leader.Load().h.Update(*told)
		}
		return
	}
	s.over = true
	if state == mesos.Finished && !s.away && !s.earlier() {
		w.done[s.id.First] = short(id)
	}
	w.note("%s %s, stored %v", name(s.id), state, store)
	u := mesos.Update{TaskID: id, State: state, AgentID: "a1", ExecutorID: "x1", Source: "EXECUTOR", UUID: fmt.Append(nil, state)}
	if state == mesos.FailedState {
		executorTerminated(&u)
	} else {
		r := ok(s.id.First)
		if state == mesos.KilledState {
			r.Outcome = tasklet.Killed
		}
		u.Data, _ = json.Marshal(tasklet.StatusData{Results: []tasklet.Result{r}, Stored: store})
		if store && !s.earlier() {
			key := api.ResultKey(stepPrefix, w.key.ActivityID, s.id.First, s.id.Generation)
			object := tasklet.ResultObject{Results: []tasklet.Result{r}}
			if _, err := storage.PutJSON(context.Background(), w.store.Store, key, object); err != nil {
				w.Error(err)
			}
		}
	}
	s.last = &u
	told := !s.away && w.draw(3) > 0 // else the agent's repetition does
	w.mu.Unlock()
	if told {
		w.leader.Load().h.Update(u)
	}
}

// resend repeats what is not acknowledged, and KILLs.
func (w *world) resend() {
	w.mu.Lock()
	var dying []string
	for id, s := range w.tasks {
		if s.dying && !s.over {
			dying = append(dying, id)
		}
	}
	w.mu.Unlock()
	for _, id := range dying {
		w.end(id, mesos.KilledState, true)
	}
	w.mu.Lock()
	var again []mesos.Update
	for _, s := range w.tasks {
		if s.last != nil && !s.away {
			again = append(again, *s.last)
		}
	}
	w.mu.Unlock()
	for _, u := range again {
		w.leader.Load().h.Update(u)
	}
}
