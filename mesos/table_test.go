package mesos

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/mesos/placement"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func waitingTask(id, owner string) *waiting {
	return newWaiting(Task{ID: id, Owner: owner, Resources: Resources{CPUs: 1}}, &executor{id: "x"}, epoch)
}

func TestHeldResources(t *testing.T) {
	tab := newTable()
	tab.place(waitingTask("t1", "billing"), "a1", epoch)
	tab.place(waitingTask("t2", "billing"), "a1", epoch)
	tab.launched("t1", epoch)
	tab.observe(Update{TaskID: "t3", State: Running, AgentID: "a2", ExecutorID: "x", UUID: []byte("u")}, epoch)
	tab.describe("t3", "risk", placement.Vector{2000})
	tab.describe("t3", "other", placement.Vector{9000}) // only the first word counts
	expect := func(billing, risk int64) {
		t.Helper()
		if tab.held["billing"][placement.CPUs] != billing || tab.held["risk"][placement.CPUs] != risk || tab.held["other"] != (placement.Vector{}) {
			t.Errorf("held %v, want billing %d, risk %d", tab.held, billing, risk)
		}
	}
	expect(2000, 2000)
	end := Update{TaskID: "t1", State: FailedState, AgentID: "a1", ExecutorID: "x", UUID: []byte("u")}
	tab.observe(end, epoch)
	tab.observe(end, epoch) // sent again
	expect(1000, 2000)
	tab.acknowledged("t1", epoch)
	tab.remove("t2", epoch)
	tab.observe(Update{TaskID: "t3", State: Gone, AgentID: "a2"}, epoch)
	expect(0, 0)
	if len(tab.tasks) != 0 || len(tab.held) != 0 {
		t.Errorf("left over: %v, %v", tab.tasks, tab.held)
	}
}

func TestExecutorsFollowTheirTasks(t *testing.T) {
	tab := newTable()
	state := func() placement.Executor {
		if x := tab.agents["a1"].executors["x"]; x != nil {
			return x.state()
		}
		return placement.Absent
	}
	tab.place(waitingTask("t1", "o"), "a1", epoch)
	if state() != placement.Absent {
		t.Error("an executor whose launch has not gone out lives")
	}
	tab.remove("t1", epoch)
	if len(tab.agents["a1"].executors) != 0 {
		t.Error("an executor that never came to be is remembered")
	}
	tab.place(waitingTask("t2", "o"), "a1", epoch)
	tab.executorLost("a1", "x") // the one before it has died meanwhile
	tab.launched("t2", epoch)
	x := tab.agents["a1"].executors["x"]
	if state() != placement.Alive || !x.idle.IsZero() {
		t.Errorf("executor %+v counts as idle, with a launch on its way", x)
	}
	tab.executorLost("a1", "x")
	tab.place(waitingTask("t3", "o"), "a1", epoch)
	tab.launched("t3", epoch)
	// The end of a task of the former executor says nothing about this one.
	tab.observe(Update{TaskID: "t2", State: FailedState, AgentID: "a1", ExecutorID: "x", UUID: []byte("u")}, epoch)
	if x := tab.agents["a1"].executors["x"]; len(x.tasks) != 1 || !x.idle.IsZero() {
		t.Errorf("executor %+v, want one task", x)
	}
	tab.observe(Update{TaskID: "t3", State: Unreachable, AgentID: "a1", ExecutorID: "x"}, epoch)
	tab.agentLost("a1")
	if state() != placement.Absent {
		t.Error("the executor outlives its agent's loss")
	}
	tab.observe(Update{TaskID: "t3", State: Running, AgentID: "a1", ExecutorID: "x"}, epoch)
	if state() != placement.Alive {
		t.Error("the executor of a task that is back does not live")
	}
}

func TestOfferCountsPlainAndRevocableResources(t *testing.T) {
	o := testOffer("o1", "a1", 4, 400)
	scalar := func(change func(*mesos.Resource)) {
		r := mesos.Resource{Name: "cpus", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 100}}
		change(&r)
		o.Resources = append(o.Resources, r)
	}
	scalar(func(r *mesos.Resource) { r.Revocable = &mesos.Resource_RevocableInfo{} })
	scalar(func(r *mesos.Resource) { r.Role = ptr("theirs") })
	scalar(func(r *mesos.Resource) { r.Reservations = []mesos.Resource_ReservationInfo{{Role: ptr("ours")}} })
	scalar(func(r *mesos.Resource) { r.Shared = &mesos.Resource_SharedInfo{} })
	scalar(func(r *mesos.Resource) { r.Name, r.Disk = "disk", &mesos.Resource_DiskInfo{} })
	scalar(func(r *mesos.Resource) { r.Name, r.Type, r.Scalar = "ports", mesos.RANGES.Enum(), nil })
	scalar(func(r *mesos.Resource) { r.Name, r.Scalar.Value = "gpus", 2 })
	got := newOffer(&o, epoch)
	if want := (placement.Vector{4000, 400_000, 4_000_000, 2000, placement.RevocableCPUs: 100_000}); got.free != want {
		t.Errorf("free is %v, want %v", got.free, want)
	}
	o.Unavailability = &mesos.Unavailability{Start: mesos.TimeInfo{Nanoseconds: epoch.Add(time.Hour).UnixNano()}}
	w := newOffer(&o, epoch).window
	if left, down := w.left(epoch); left != time.Hour || down {
		t.Errorf("before its maintenance window an agent has %v left, down %t", left, down)
	}
	if _, down := w.left(epoch.Add(time.Hour)); !down {
		t.Error("an agent is down from the start of its maintenance window")
	}
}

func TestInverseOffers(t *testing.T) {
	r, m, s := connect(t, nil)
	s.send(statusEvent("t1", "busy", "x", mesos.TASK_RUNNING, "u1"))
	get(t, r.handler.updates, "update")
	var offers []mesos.InverseOffer
	for _, agent := range []string{"busy", "free"} {
		offers = append(offers, mesos.InverseOffer{
			OfferID: mesos.OfferID{Value: "leave " + agent}, AgentID: &mesos.AgentID{Value: agent},
			FrameworkID: mesos.FrameworkID{Value: testFramework},
		})
	}
	s.send(&scheduler.Event{Type: scheduler.Event_INVERSE_OFFERS, InverseOffers: &scheduler.Event_InverseOffers{InverseOffers: offers}})
	if ids := m.want(scheduler.Call_ACCEPT_INVERSE_OFFERS).AcceptInverseOffers.InverseOfferIDs; len(ids) != 1 || ids[0].Value != "leave free" {
		t.Errorf("accepted %v", ids)
	}
	if ids := m.want(scheduler.Call_DECLINE_INVERSE_OFFERS).DeclineInverseOffers.InverseOfferIDs; len(ids) != 1 || ids[0].Value != "leave busy" {
		t.Errorf("declined %v", ids)
	}
}

// An executor for one task only has nobody to wait for.
func TestIsolatedExecutorEndsWithItsTask(t *testing.T) {
	r, m, s := connect(t, func(c *Config) { c.ExecutorIdle = time.Hour })
	task := testTask("t1", 1, 100)
	task.Executor.Isolation = "task"
	r.Submit(task)
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	x := launches(m.want(scheduler.Call_ACCEPT))[0].Executor.ExecutorID.Value
	s.send(statusEvent("t1", "a1", x, mesos.TASK_FINISHED, "u1"))
	if c := m.want(scheduler.Call_SHUTDOWN); c.Shutdown.ExecutorID.Value != x {
		t.Errorf("shut down %v", c.Shutdown)
	}
}

func TestPlacedCutShortIsReported(t *testing.T) {
	r, m, s := connect(t, nil)
	r.handler.placed = func(ctx context.Context, p Placement) []Launch {
		<-ctx.Done()
		return []Launch{{Err: ctx.Err()}}
	}
	r.Submit(testTask("t1", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	get(t, r.handler.placements, "Placed")
	close(s.over)
	if u := get(t, r.handler.updates, "update"); u.State != Dropped || u.Source != FrameworkSource {
		t.Errorf("update is %+v", u)
	}
	get(t, m.streams, "second SUBSCRIBE")
}

// A task that waits behind others for its write-ahead is not lost with the
// subscription: nobody has heard of its placement, so it keeps its ID.
func TestNotYetWrittenAheadGoesBackToTheQueue(t *testing.T) {
	r, m, s := connect(t, nil)
	for range maxWriters {
		r.writers <- struct{}{}
	}
	r.Submit(testTask("t1", 1, 100))
	s.send(offersEvent(testOffer("o1", "a1", 4, 400)))
	eventually(t, "placement", func() bool { return len(r.Tasks()) == 1 })
	close(s.over)
	eventually(t, "return to the queue", func() bool { return len(r.Waiting()) == 1 })
	for range maxWriters {
		<-r.writers
	}
	s = get(t, m.streams, "second SUBSCRIBE")
	s.send(subscribedEvent(), offersEvent(testOffer("o2", "a1", 4, 400)))
	if got := taskIDs(launches(m.until(scheduler.Call_ACCEPT))); got != "[t1]" {
		t.Errorf("launched %s", got)
	}
	none(t, r.handler.updates, "update")
}

func TestSenderKeepsOrderAndAnswersAll(t *testing.T) {
	var sent []string
	gate := make(chan struct{})
	s := newSender(func(ctx context.Context, c *scheduler.Call) error {
		<-gate
		sent = append(sent, c.Message.ExecutorID.Value)
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	results := make(chan error, 3)
	message := func(x string) *scheduler.Call {
		return &scheduler.Call{Message: &scheduler.Call_Message{ExecutorID: mesos.ExecutorID{Value: x}}}
	}
	for _, x := range []string{"1", "2"} {
		s.enqueue(message(x), func(err error) { results <- err })
	}
	gate <- struct{}{}
	gate <- struct{}{}
	for range 2 {
		if err := get(t, results, "result"); err != nil {
			t.Error(err)
		}
	}
	cancel()
	get(t, done, "end of the sender")
	s.enqueue(message("3"), func(err error) { results <- err })
	if err := get(t, results, "result"); !errors.Is(err, errSessionEnded) {
		t.Errorf("a call after the end answers %v", err)
	}
	if !slices.Equal(sent, []string{"1", "2"}) {
		t.Errorf("sent %v", sent)
	}
}

func TestNotSent(t *testing.T) {
	_, dial := http.Post("http://127.0.0.1:1/", "", nil)
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&statusError{code: 400}, true},
		{&statusError{code: 503}, true},
		{&statusError{code: 502}, false},
		{&statusError{code: 504}, false},
		{errSessionEnded, true},
		{dial, true},
		{io.ErrUnexpectedEOF, false},
		{context.DeadlineExceeded, false},
	} {
		if got := notSent(c.err); got != c.want {
			t.Errorf("notSent(%v) is %v", c.err, got)
		}
	}
}

func TestKillsKeepTheirPace(t *testing.T) {
	k := newKills(Timings{KillMin: 4 * time.Second, KillMax: time.Minute})
	k.add(TaskRef{TaskID: "t"}, 30*time.Second, epoch)
	if n := len(k.calls(epoch)); n != 1 {
		t.Fatalf("%d calls at once, want one", n)
	}
	k.add(TaskRef{TaskID: "t", AgentID: "a"}, 30*time.Second, epoch)
	if n := len(k.calls(epoch)); n != 0 {
		t.Error("asking again floods the agent")
	}
	k.add(TaskRef{TaskID: "t"}, time.Second, epoch)
	c := k.calls(epoch)
	if len(c) != 1 || c[0].Kill.KillPolicy.GracePeriod.Nanoseconds != 1e9 || c[0].Kill.GetAgentID().GetValue() != "a" {
		t.Errorf("a shorter grace period gives %v", c)
	}
	for i := range 20 {
		if d := backoff(i, time.Second, time.Minute); d < 500*time.Millisecond || d > time.Minute || i > 6 && d < 30*time.Second {
			t.Errorf("backoff %d is %v", i, d)
		}
	}
}

func TestFilesOfAnAgent(t *testing.T) {
	var query string
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		switch {
		case strings.Contains(query, "broken"):
			http.Error(w, "out of order", http.StatusInternalServerError)
		case strings.Contains(query, "offset=-1"):
			w.Write([]byte(`{"data":"","offset":77}`))
		default:
			w.Write([]byte(`{"data":"hello\n","offset":3}`))
		}
	}))
	defer agent.Close()
	host := strings.TrimPrefix(agent.URL, "http://")
	if got, err := ReadFile(t.Context(), host, "/a b", 3, 6); err != nil || string(got) != "hello\n" || query != "length=6&offset=3&path=%2Fa+b" {
		t.Errorf("read %q, %v with %s", got, err, query)
	}
	if n, err := FileSize(t.Context(), host, "/a"); err != nil || n != 77 || query != "offset=-1&path=%2Fa" {
		t.Errorf("size %d, %v with %s", n, err, query)
	}
	if _, err := ReadFile(t.Context(), host, "/broken", 0, 1); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("error is %v", err)
	}
	if _, err := ReadFile(t.Context(), host, "/a", -1, 1); err == nil {
		t.Error("a negative offset is taken")
	}
}
