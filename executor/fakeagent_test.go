package executor

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosexec "github.com/mesos/mesos-go/api/v1/lib/executor"

	"github.com/baas-batch/baas/tasklet"
)

// testAgent speaks the executor API of an agent, with RecordIO over HTTP.
type testAgent struct {
	t    testing.TB
	addr string
	// answer is the leader's part: an order for a report, or nil.
	answer func(tasklet.Report) *tasklet.Order

	mu        sync.Mutex
	server    *http.Server
	changed   chan struct{}
	stream    chan *mesosexec.Event // of the current subscription
	cut       chan struct{}
	withhold  bool // acknowledgements
	refusing  bool // answer 503
	subscribe []*mesosexec.Call_Subscribe
	updates   []mesos.TaskStatus
	reports   []tasklet.Report
	tokens    []string
}

func newTestAgent(t testing.TB) *testAgent {
	a := &testAgent{t: t, changed: make(chan struct{})}
	a.listen("127.0.0.1:0")
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *testAgent) listen(addr string) {
	a.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		a.t.Fatal(err)
	}
	a.addr = l.Addr().String()
	server := &http.Server{Handler: a}
	a.mu.Lock()
	a.server = server
	a.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

// stop is the death of the agent's process.
func (a *testAgent) stop() {
	a.mu.Lock()
	server := a.server
	a.stream = nil
	a.mu.Unlock()
	_ = server.Close()
}

func (a *testAgent) start() { a.listen(a.addr) }

// cutStream ends the subscription only.
func (a *testAgent) cutStream() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stream != nil {
		close(a.cut)
		a.stream = nil
	}
}

func (a *testAgent) refuse(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refusing = on
}

func (a *testAgent) withholdAcknowledgements(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.withhold = on
}

func (a *testAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	call := new(mesosexec.Call)
	if err == nil {
		err = call.Unmarshal(body)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" || r.URL.Path != "/api/v1/executor" {
		http.Error(w, "bad call", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.tokens = append(a.tokens, r.Header.Get("Authorization"))
	refusing := a.refusing
	a.mu.Unlock()
	if refusing {
		http.Error(w, "Agent has not finished recovery", http.StatusServiceUnavailable)
		return
	}
	switch call.Type {
	case mesosexec.Call_SUBSCRIBE:
		a.serveStream(w, r, call.Subscribe)
		return
	case mesosexec.Call_UPDATE:
		a.note(func() { a.updates = append(a.updates, call.Update.Status) })
		a.acknowledge(call.Update.Status)
	case mesosexec.Call_MESSAGE:
		var report tasklet.Report
		if err := json.Unmarshal(call.Message.Data, &report); err != nil {
			a.t.Errorf("message is no report: %v", err)
		}
		a.note(func() { a.reports = append(a.reports, report) })
		if a.answer != nil {
			if o := a.answer(report); o != nil {
				a.order(*o)
			}
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

func (a *testAgent) acknowledge(s mesos.TaskStatus) {
	a.mu.Lock()
	withhold := a.withhold
	a.mu.Unlock()
	if !withhold {
		a.send(&mesosexec.Event{
			Type:         mesosexec.Event_ACKNOWLEDGED,
			Acknowledged: &mesosexec.Event_Acknowledged{TaskID: s.TaskID, UUID: s.UUID},
		})
	}
}

func (a *testAgent) serveStream(w http.ResponseWriter, r *http.Request, s *mesosexec.Call_Subscribe) {
	stream, cut := make(chan *mesosexec.Event, 256), make(chan struct{})
	stream <- &mesosexec.Event{
		Type: mesosexec.Event_SUBSCRIBED,
		Subscribed: &mesosexec.Event_Subscribed{
			AgentInfo:     mesos.AgentInfo{Hostname: "test-agent"},
			FrameworkInfo: mesos.FrameworkInfo{User: "u", Name: "n"},
			ExecutorInfo:  mesos.ExecutorInfo{ExecutorID: mesos.ExecutorID{Value: "e"}},
		},
	}
	a.note(func() {
		a.stream, a.cut = stream, cut
		a.subscribe = append(a.subscribe, s)
	})
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(http.StatusOK)
	for {
		select {
		case e := <-stream:
			record, err := e.Marshal()
			if err != nil {
				a.t.Errorf("marshal event: %v", err)
				return
			}
			if _, err := fmt.Fprintf(w, "%s\n%s", strconv.Itoa(len(record)), record); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		case <-cut:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// send queues an event; without a subscriber it is lost, as with a real agent.
func (a *testAgent) send(e *mesosexec.Event) {
	a.mu.Lock()
	stream := a.stream
	a.mu.Unlock()
	if stream != nil {
		stream <- e
	}
}

func (a *testAgent) launchRaw(id string, data []byte) {
	a.send(&mesosexec.Event{
		Type: mesosexec.Event_LAUNCH,
		Launch: &mesosexec.Event_Launch{Task: mesos.TaskInfo{
			Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: mesos.AgentID{Value: "a"}, Data: data,
		}},
	})
}

func (a *testAgent) kill(id string, grace time.Duration) {
	k := &mesosexec.Event_Kill{TaskID: mesos.TaskID{Value: id}}
	if grace > 0 {
		k.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: int64(grace)}}
	}
	a.send(&mesosexec.Event{Type: mesosexec.Event_KILL, Kill: k})
}

func (a *testAgent) order(o tasklet.Order) {
	data, err := json.Marshal(o)
	if err != nil {
		a.t.Errorf("marshal order: %v", err)
	}
	a.send(&mesosexec.Event{Type: mesosexec.Event_MESSAGE, Message: &mesosexec.Event_Message{Data: data}})
}

func (a *testAgent) shutdown() { a.send(&mesosexec.Event{Type: mesosexec.Event_SHUTDOWN}) }

func (a *testAgent) note(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.changed)
	a.changed = make(chan struct{})
}

// patience is how long tests wait for what must come.
const patience = 60 * time.Second

// wait waits until a condition over what the agent has seen holds.
func (a *testAgent) wait(what string, condition func() bool) {
	a.t.Helper()
	deadline := time.After(patience)
	for {
		a.mu.Lock()
		ok, changed := condition(), a.changed
		a.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			a.t.Fatalf("no %s within %s", what, patience)
		}
	}
}

// status waits for a task's update of a state.
func (a *testAgent) status(id string, state mesos.TaskState) (found mesos.TaskStatus) {
	a.t.Helper()
	a.wait(fmt.Sprintf("%s of %s", state, id), func() bool {
		for _, u := range a.updates {
			if u.TaskID.Value == id && u.GetState() == state {
				found = u
				return true
			}
		}
		return false
	})
	return found
}

// end waits for a task's terminal update.
func (a *testAgent) end(id string) (found mesos.TaskStatus) {
	a.t.Helper()
	a.wait("end of "+id, func() bool {
		for _, u := range a.updates {
			if u.TaskID.Value == id && isTerminal(u.GetState()) {
				found = u
				return true
			}
		}
		return false
	})
	return found
}

// states lists the states that a task's updates told of, in order.
func (a *testAgent) states(id string) (states []mesos.TaskState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range a.updates {
		if u.TaskID.Value == id {
			states = append(states, u.GetState())
		}
	}
	return states
}
