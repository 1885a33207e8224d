package mesos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

const (
	testFramework = "framework-1"
	patience      = 10 * time.Second // for anything that must happen
)

// scripted is a master made of raw HTTP, so that it can do what a real one never
// should.
type scripted struct {
	t       *testing.T
	url     string
	streams chan *eventStream                                      // one for each SUBSCRIBE that was let in
	calls   chan *scheduler.Call                                   // all other calls
	http    chan *http.Request                                     // headers of everything that reached the scheduler API
	answer  func(w http.ResponseWriter, call *scheduler.Call) bool // true: answered
	leader  func(w http.ResponseWriter) bool                       // of GET_MASTER
	agents  func(w http.ResponseWriter) bool                       // of GET_AGENTS
	told    map[master.Call_Type]*master.Response                  // of other calls of operators
}

// eventStream is the open answer to one SUBSCRIBE.
type eventStream struct {
	t    *testing.T
	call *scheduler.Call
	mu   sync.Mutex
	w    http.ResponseWriter
	over chan struct{} // closed by the test to end the stream
	gone <-chan struct{}
}

func newScripted(t *testing.T) *scripted {
	m := &scripted{
		t:       t,
		streams: make(chan *eventStream, 100),
		calls:   make(chan *scheduler.Call, 10000),
		http:    make(chan *http.Request, 10000),
	}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	m.url = server.URL
	return m
}

func (m *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.URL.Path == operatorPath {
		var asked master.Call
		if err := asked.Unmarshal(body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if asked.Type == master.Call_GET_AGENTS && m.agents != nil && m.agents(w) {
			return
		}
		if answer := m.told[asked.Type]; answer != nil {
			m.reply(w, answer)
			return
		}
		m.getMaster(w)
		return
	}
	var call scheduler.Call
	if err := call.Unmarshal(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.http <- r
	if m.answer != nil && m.answer(w, &call) {
		if call.Type != scheduler.Call_SUBSCRIBE {
			m.calls <- &call
		}
		return
	}
	if call.Type != scheduler.Call_SUBSCRIBE {
		w.WriteHeader(http.StatusAccepted)
		m.calls <- &call
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Header().Set(streamIDHeader, "stream-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	s := &eventStream{t: m.t, call: &call, w: w, over: make(chan struct{}), gone: r.Context().Done()}
	m.streams <- s
	select {
	case <-s.over:
	case <-s.gone:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = nil
}

func (m *scripted) getMaster(w http.ResponseWriter) {
	if m.leader != nil && m.leader(w) {
		return
	}
	m.reply(w, &master.Response{
		Type:      master.Response_GET_MASTER,
		GetMaster: &master.Response_GetMaster{MasterInfo: &mesos.MasterInfo{ID: "master-1", IP: 1, Port: ptr(uint32(5050))}},
	})
}

func (m *scripted) reply(w http.ResponseWriter, answer *master.Response) {
	data, err := answer.Marshal()
	if err != nil {
		m.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(data)
}

// raw writes bytes on the stream as they are.
func (s *eventStream) raw(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return
	}
	s.w.Write(data)
	s.w.(http.Flusher).Flush()
}

func record1(e *scheduler.Event) []byte {
	data, err := e.Marshal()
	if err != nil {
		panic(err)
	}
	return append([]byte(strconv.Itoa(len(data))+"\n"), data...)
}

func (s *eventStream) send(events ...*scheduler.Event) {
	var b bytes.Buffer
	for _, e := range events {
		b.Write(record1(e))
	}
	s.raw(b.Bytes())
}

func subscribedEvent() *scheduler.Event { return subscribedAs(testFramework, 15) }

func subscribedAs(framework string, heartbeat float64) *scheduler.Event {
	return &scheduler.Event{Type: scheduler.Event_SUBSCRIBED, Subscribed: &scheduler.Event_Subscribed{
		FrameworkID:              &mesos.FrameworkID{Value: framework},
		HeartbeatIntervalSeconds: &heartbeat,
		MasterInfo:               &mesos.MasterInfo{ID: "master-1", IP: 1, Port: ptr(uint32(5050))},
	}}
}

func errorEvent(message string) *scheduler.Event {
	return &scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: message}}
}

func offersEvent(offers ...mesos.Offer) *scheduler.Event {
	return &scheduler.Event{Type: scheduler.Event_OFFERS, Offers: &scheduler.Event_Offers{Offers: offers}}
}

func rescindEvent(id string) *scheduler.Event {
	return &scheduler.Event{Type: scheduler.Event_RESCIND, Rescind: &scheduler.Event_Rescind{OfferID: mesos.OfferID{Value: id}}}
}

func failureEvent(agent, executor string) *scheduler.Event {
	f := &scheduler.Event_Failure{AgentID: &mesos.AgentID{Value: agent}}
	if executor != "" {
		f.ExecutorID = &mesos.ExecutorID{Value: executor}
	}
	return &scheduler.Event{Type: scheduler.Event_FAILURE, Failure: f}
}

func statusEvent(task, agent, executor string, state mesos.TaskState, uuid string) *scheduler.Event {
	s := mesos.TaskStatus{
		TaskID:  mesos.TaskID{Value: task},
		State:   &state,
		AgentID: &mesos.AgentID{Value: agent},
		Source:  mesos.SOURCE_EXECUTOR.Enum(),
	}
	if executor != "" {
		s.ExecutorID = &mesos.ExecutorID{Value: executor}
	}
	if uuid != "" {
		s.UUID = []byte(uuid)
	}
	return &scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{Status: s}}
}

// testOffer has cpus and MB of memory, and ten times as much disk.
func testOffer(id, agent string, cpus, mem float64, executors ...string) mesos.Offer {
	role := "*"
	o := mesos.Offer{
		ID: mesos.OfferID{Value: id}, AgentID: mesos.AgentID{Value: agent}, Hostname: agent + ".example",
		FrameworkID:    mesos.FrameworkID{Value: testFramework},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: &role},
		URL:            &mesos.URL{Scheme: "http", Address: mesos.Address{Hostname: ptr(agent + ".example"), IP: ptr("10.0.0.1"), Port: 5051}},
	}
	for name, value := range map[string]float64{"cpus": cpus, "mem": mem, "disk": 10 * mem} {
		o.Resources = append(o.Resources, mesos.Resource{
			Name: name, Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: value},
			AllocationInfo: &mesos.Resource_AllocationInfo{Role: &role},
		})
	}
	for _, x := range executors {
		o.ExecutorIDs = append(o.ExecutorIDs, mesos.ExecutorID{Value: x})
	}
	return o
}

// handlerFuncs is a Handler; what it is not told to do it notes or ignores.
type handlerFuncs struct {
	subscribed   chan Subscription
	disconnected chan error
	updates      chan Update
	messages     chan Message
	lost         chan string // agent, or agent/executor
	placements   chan Placement
	placed       func(ctx context.Context, p Placement) []Launch
	onUpdate     func(u Update)
}

func newHandler() *handlerFuncs {
	return &handlerFuncs{
		subscribed:   make(chan Subscription, 100),
		disconnected: make(chan error, 100),
		updates:      make(chan Update, 1000),
		messages:     make(chan Message, 100),
		lost:         make(chan string, 100),
		placements:   make(chan Placement, 1000),
	}
}

func (h *handlerFuncs) Subscribed(s Subscription) { h.subscribed <- s }
func (h *handlerFuncs) Disconnected(err error)    { h.disconnected <- err }
func (h *handlerFuncs) Message(m Message)         { h.messages <- m }
func (h *handlerFuncs) AgentLost(agent string)    { h.lost <- agent }
func (h *handlerFuncs) ExecutorLost(agent, executor string, _ int) {
	h.lost <- agent + "/" + executor
}
func (h *handlerFuncs) Update(u Update) {
	if h.onUpdate != nil {
		h.onUpdate(u)
	}
	h.updates <- u
}
func (h *handlerFuncs) Placed(ctx context.Context, p Placement) []Launch {
	h.placements <- p
	if h.placed != nil {
		return h.placed(ctx, p)
	}
	return launchAll(p)
}

func launchAll(p Placement) []Launch {
	out := make([]Launch, len(p.Tasks))
	for i := range out {
		out[i].Data = []byte("data of " + p.Tasks[i].ID)
	}
	return out
}

type leaseFunc func(ctx context.Context) error

func (f leaseFunc) Confirm(ctx context.Context) error { return f(ctx) }

var leads = leaseFunc(func(context.Context) error { return nil })

// fast are timings for tests: everything that waits is short, everything that
// limits is long.
func fast() Timings {
	return Timings{
		BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond,
		Gather: 5 * time.Millisecond, OfferHold: time.Minute, Revive: time.Millisecond,
		ReconcileMin: 20 * time.Millisecond, ReconcileMax: 50 * time.Millisecond,
		KillMin: 20 * time.Millisecond, KillMax: 50 * time.Millisecond,
		Implicit: time.Hour, Staging: time.Hour, Tick: 5 * time.Millisecond,
	}
}

// rig is a running framework.
type rig struct {
	*Framework
	t       *testing.T
	handler *handlerFuncs
	result  chan error
	stop    context.CancelFunc
	log     *logLines
}

func testConfig(masters ...string) Config {
	return Config{Masters: masters, FrameworkID: testFramework, User: "tester", Timings: fast()}
}

func start(t *testing.T, cfg Config, h *handlerFuncs, lease Lease) *rig {
	t.Helper()
	lines := &logLines{}
	cfg.Logger = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelInfo}))
	f, err := New(cfg, h, lease)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &rig{Framework: f, t: t, handler: h, result: make(chan error, 1), stop: cancel, log: lines}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.result <- f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	return r
}

// connect starts a framework on a scripted master and subscribes it.
func connect(t *testing.T, change func(*Config)) (*rig, *scripted, *eventStream) {
	t.Helper()
	m := newScripted(t)
	cfg := testConfig(m.url)
	if change != nil {
		change(&cfg)
	}
	r := start(t, cfg, newHandler(), leads)
	s := get(t, m.streams, "SUBSCRIBE")
	s.send(subscribedEvent())
	get(t, r.handler.subscribed, "Subscribed")
	m.want(scheduler.Call_RECONCILE) // implicit
	return r, m, s
}

// get receives within patience.
func get[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %s", what, patience)
		panic("unreachable")
	}
}

// none checks that nothing comes for a short while.
func none[T any](t *testing.T, c <-chan T, what string) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("unexpected %s: %v", what, v)
	case <-time.After(60 * time.Millisecond):
	}
}

// want takes the next call, which must be of the type.
func (m *scripted) want(kind scheduler.Call_Type) *scheduler.Call {
	m.t.Helper()
	c := get(m.t, m.calls, kind.String())
	if c.Type != kind {
		m.t.Fatalf("call is %s, want %s: %v", c.Type, kind, c)
	}
	if got := c.GetFrameworkID().GetValue(); got != testFramework {
		m.t.Fatalf("%s carries framework ID %q", kind, got)
	}
	return c
}

// until takes calls until one is of the type.
func (m *scripted) until(kind scheduler.Call_Type) *scheduler.Call {
	m.t.Helper()
	for {
		if c := get(m.t, m.calls, kind.String()); c.Type == kind {
			return c
		}
	}
}

// eventually polls a condition that has no signal of its own.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

type logLines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func testTask(id string, cpus float64, mem int64) Task {
	return Task{ID: id, Name: id, Owner: "billing", Resources: Resources{CPUs: cpus, Mem: mem * mb},
		Executor: ExecutorSpec{Owner: "billing"}}
}

func taskIDs(infos []mesos.TaskInfo) string {
	var ids []string
	for _, i := range infos {
		ids = append(ids, i.TaskID.Value)
	}
	return fmt.Sprint(ids)
}
