package executor

import (
	"bytes"
	"slices"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosexec "github.com/mesos/mesos-go/api/v1/lib/executor"
)

func (a *testAgent) subscriptions() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.subscribe)
}

func (a *testAgent) calls() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.tokens)
}

func TestAgentRestart(t *testing.T) {
	r := newRig(t, setup{})
	r.agent.withholdAcknowledgements(true)
	// One ends while the agent lives but is not acknowledged, one while it is
	// away, one after it is back.
	before, during, after := r.job("true"), r.job("read x < "+r.fifo("during")), r.job("read x < "+r.fifo("after"))
	r.launch(before)
	r.launch(during)
	r.launch(after)
	ended := r.agent.end(before.TaskID)
	r.agent.status(during.TaskID, mesos.TASK_RUNNING)
	r.agent.status(after.TaskID, mesos.TASK_RUNNING)
	r.agent.stop()
	r.open("during")
	r.store.waitPuts(during.Result.Key, 1)
	r.agent.refuse(true)
	calls := r.agent.calls()
	r.agent.start()
	eventually(t, "refused subscription", func() bool { return r.agent.calls() >= calls+2 })
	r.agent.refuse(false)
	r.agent.wait("second subscription", func() bool { return len(r.agent.subscribe) == 2 })
	again := r.agent.subscribe[1]
	if len(again.UnacknowledgedTasks) != 3 {
		t.Errorf("%d tasks carried", len(again.UnacknowledgedTasks))
	}
	found := map[string][]mesos.TaskState{}
	for _, u := range again.UnacknowledgedUpdates {
		found[u.Status.TaskID.Value] = append(found[u.Status.TaskID.Value], u.Status.GetState())
		if u.Status.TaskID.Value == before.TaskID && isTerminal(u.Status.GetState()) && !bytes.Equal(u.Status.UUID, ended.UUID) {
			t.Error("an update came again under another UUID")
		}
	}
	for id, want := range map[string][]mesos.TaskState{
		before.TaskID: {mesos.TASK_FINISHED},
		during.TaskID: {mesos.TASK_RUNNING, mesos.TASK_FINISHED},
		after.TaskID:  {mesos.TASK_RUNNING},
	} {
		// On a slow machine a task that ends at once may have told of its start.
		if got := found[id]; !slices.Equal(got, want) && !slices.Equal(got, append([]mesos.TaskState{mesos.TASK_RUNNING}, want...)) {
			t.Errorf("updates carried of %s: %v", id, got)
		}
	}
	// What is acknowledged now is not carried again.
	r.agent.withholdAcknowledgements(false)
	for _, u := range again.UnacknowledgedUpdates {
		r.agent.acknowledge(u.Status)
	}
	r.open("after")
	r.agent.end(after.TaskID)
	r.agent.status(after.TaskID, mesos.TASK_FINISHED)
	eventually(t, "empty directories", func() bool { return r.filesLeft() == 0 })
	r.agent.cutStream()
	r.agent.wait("third subscription", func() bool { return len(r.agent.subscribe) == 3 })
	if third := r.agent.subscribe[2]; len(third.UnacknowledgedTasks)+len(third.UnacknowledgedUpdates) > 0 {
		t.Errorf("carried: %+v", third)
	}
}

func TestRepeatedLaunchRunsOnce(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("echo x >> " + r.shared() + "/ran")
	r.launch(l)
	r.finish(l)
	r.launch(l)
	r.run(r.job("true"))
	if got := r.waitFile(r.shared() + "/ran"); got != "x" {
		t.Errorf("ran: %q", got)
	}
}

func TestAgentThatStaysAway(t *testing.T) {
	r := newRig(t, setup{env: []string{"MESOS_RECOVERY_TIMEOUT=1secs"}})
	l := r.job(stubborn(r.shared()))
	r.launch(l)
	grandchild := r.pid(r.shared() + "/grandchild")
	r.agent.stop()
	begun := time.Now()
	if code := r.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if d := time.Since(begun); d < time.Second {
		t.Errorf("waited only %s for the agent", d)
	}
	if alive(grandchild) {
		t.Error("the grandchild lives on")
	}
	if _, ok := r.store.get(l.Result.Key); !ok {
		t.Error("no result object")
	}
}

func TestWithoutCheckpointingTheExecutorGoesWithItsAgent(t *testing.T) {
	r := newRig(t, setup{env: []string{"MESOS_CHECKPOINT=0"}})
	r.run(r.job("true")) // it knows that it is subscribed
	r.agent.cutStream()
	if code := r.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSilentAgent(t *testing.T) {
	r := newRig(t, setup{})
	// Without heartbeats silence means nothing; two of them set the pace.
	for range 2 {
		r.agent.send(&mesosexec.Event{Type: mesosexec.Event_HEARTBEAT})
	}
	r.agent.wait("new subscription after silence", func() bool { return len(r.agent.subscribe) >= 2 })
	// The new stream sends none: it is left alone, and works.
	r.run(r.job("true"))
	if n := r.agent.subscriptions(); n != 2 {
		t.Errorf("%d subscriptions", n)
	}
}

func TestWatchdogLearnsItsPace(t *testing.T) {
	dead := make(chan struct{}, 1)
	w := &watchdog{floor: time.Millisecond, onDead: func() { dead <- struct{}{} }}
	start := time.Now()
	w.event(false, start)
	w.event(true, start)
	if w.timer != nil {
		t.Fatal("one heartbeat sets no pace")
	}
	w.event(true, start.Add(time.Hour))
	if w.limit != missedHeartbeats*time.Hour {
		t.Errorf("limit %s", w.limit)
	}
	w.event(true, start.Add(time.Hour+2*time.Millisecond))
	select {
	case <-dead:
	case <-time.After(patience):
		t.Error("no bark")
	}
	w.stop()
}

func TestUpdateThatIsRefusedIsSentAgain(t *testing.T) {
	r := newRig(t, setup{})
	l := r.job("read x < " + r.fifo("go"))
	r.launch(l)
	r.agent.status(l.TaskID, mesos.TASK_RUNNING)
	r.agent.refuse(true) // the stream stays
	r.open("go")
	r.store.waitPuts(l.Result.Key, 1)
	r.agent.refuse(false)
	r.agent.end(l.TaskID)
	if n := r.agent.subscriptions(); n != 1 {
		t.Errorf("%d subscriptions", n)
	}
}
