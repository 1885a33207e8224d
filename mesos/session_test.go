package mesos

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

func TestSubscribeSaysWhoWeAre(t *testing.T) {
	m := newScripted(t)
	cfg := testConfig(m.url)
	cfg.Principal, cfg.Secret, cfg.WebUI, cfg.GPUs = "batch", "s3cret", "http://ui.example", true
	r := start(t, cfg, newHandler(), leads)
	s := get(t, m.streams, "SUBSCRIBE")

	req := get(t, m.http, "request")
	if user, pass, _ := req.BasicAuth(); user != "batch" || pass != "s3cret" {
		t.Errorf("credentials are %q, %q", user, pass)
	}
	if id := req.Header.Get(streamIDHeader); id != "" {
		t.Errorf("SUBSCRIBE carries stream ID %q: Mesos answers 400", id)
	}
	info := s.call.Subscribe.FrameworkInfo
	if info.GetID().GetValue() != testFramework || s.call.GetFrameworkID().GetValue() != testFramework {
		t.Errorf("framework ID in info %q, in call %q", info.GetID().GetValue(), s.call.GetFrameworkID().GetValue())
	}
	if info.GetPrincipal() != "batch" || info.User != "tester" || info.GetWebUiURL() != "http://ui.example" {
		t.Errorf("FrameworkInfo is %v", info)
	}
	if info.GetFailoverTimeout() != (7*24*time.Hour).Seconds() || !info.GetCheckpoint() {
		t.Errorf("failover timeout %v, checkpoint %v", info.GetFailoverTimeout(), info.GetCheckpoint())
	}
	if info.Role != nil || !slices.Equal(info.Roles, []string{"*"}) {
		t.Errorf("role %v, roles %v: Mesos refuses role together with MULTI_ROLE", info.Role, info.Roles)
	}
	var capabilities []string
	for _, c := range info.Capabilities {
		capabilities = append(capabilities, c.Type.String())
	}
	want := []string{"PARTITION_AWARE", "TASK_KILLING_STATE", "MULTI_ROLE", "RESERVATION_REFINEMENT", "REVOCABLE_RESOURCES", "GPU_RESOURCES"}
	if !slices.Equal(capabilities, want) {
		t.Errorf("capabilities %v, want %v", capabilities, want)
	}

	s.send(subscribedEvent())
	got := get(t, r.handler.subscribed, "Subscribed")
	if got.FrameworkID != testFramework || got.Master != m.url || got.MasterID != "master-1" || got.Repeated || got.Heartbeat != 15*time.Second {
		t.Errorf("subscription is %+v", got)
	}
	if c := m.want(scheduler.Call_RECONCILE); len(c.GetReconcile().GetTasks()) != 0 {
		t.Errorf("first reconciliation names tasks: %v", c)
	}
	if id := get(t, m.http, "request").Header.Get(streamIDHeader); !strings.HasPrefix(id, "stream-") {
		t.Errorf("call carries stream ID %q", id)
	}
	r.stop()
	if err := get(t, r.result, "end of Run"); err != nil {
		t.Errorf("Run ends with %v after its context did", err)
	}
	get(t, r.handler.disconnected, "Disconnected")
}

// Only SUBSCRIBE follows a redirect in mesos-go; later calls would go to the old
// master.
func TestCallsGoToTheLeader(t *testing.T) {
	for _, by := range []string{"GET_MASTER", "SUBSCRIBE"} {
		t.Run("redirected by "+by, func(t *testing.T) {
			leader, follower := newScripted(t), newScripted(t)
			redirect := func(w http.ResponseWriter) bool {
				w.Header().Set("Location", strings.TrimPrefix(leader.url, "http:")+"/somewhere")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
			if by == "GET_MASTER" {
				follower.leader = redirect
			} else {
				follower.answer = func(w http.ResponseWriter, _ *scheduler.Call) bool { return redirect(w) }
			}
			r := start(t, testConfig(follower.url), newHandler(), leads)
			get(t, leader.streams, "SUBSCRIBE").send(subscribedEvent())
			if got := get(t, r.handler.subscribed, "Subscribed").Master; got != leader.url {
				t.Errorf("subscribed to %s, the leader is %s", got, leader.url)
			}
			leader.want(scheduler.Call_RECONCILE)
			r.ShutdownExecutor("agent", "executor")
			leader.want(scheduler.Call_SHUTDOWN)
			if n := len(follower.calls); n != 0 {
				t.Errorf("%d calls went to the old master", n)
			}
		})
	}
}

func TestCallThatIsRedirectedMovesTheSubscription(t *testing.T) {
	next := newScripted(t)
	r, m, s := connect(t, nil)
	m.answer = func(w http.ResponseWriter, c *scheduler.Call) bool {
		w.Header().Set("Location", next.url)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}
	r.ShutdownExecutor("agent", "executor")
	get(t, s.gone, "end of the old stream")
	get(t, next.streams, "SUBSCRIBE at the new leader").send(subscribedEvent())
	if got := get(t, r.handler.subscribed, "Subscribed"); got.Master != next.url || !got.Repeated {
		t.Errorf("subscription is %+v", got)
	}
}

func TestListOfMasters(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	recovering, m := newScripted(t), newScripted(t)
	unavailable := func(w http.ResponseWriter) bool {
		http.Error(w, "Master has not finished recovery", http.StatusServiceUnavailable)
		return true
	}
	recovering.leader = unavailable
	var ready atomic.Bool
	m.leader = func(w http.ResponseWriter) bool { return !ready.Load() && unavailable(w) }
	r := start(t, testConfig(down.URL+","+recovering.url, m.url), newHandler(), leads)
	eventually(t, "trouble is said", func() bool { return r.log.count("not subscribed") > 0 })
	ready.Store(true)
	get(t, m.streams, "SUBSCRIBE").send(subscribedEvent())
	get(t, r.handler.subscribed, "Subscribed")
	if n := r.log.count("level=WARN"); n != 1 {
		t.Errorf("trouble was said %d times, want once", n)
	}
	if n := r.log.count("the Mesos master is back"); n != 1 {
		t.Errorf("its end was said %d times, want once", n)
	}
}

// A follower that points at a dead leader is no reason to spin.
func TestRedirectToADeadLeader(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	follower := newScripted(t)
	var asked atomic.Int32
	follower.leader = func(w http.ResponseWriter) bool {
		asked.Add(1)
		w.Header().Set("Location", down.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	}
	cfg := testConfig(follower.url)
	cfg.Timings.BackoffMin, cfg.Timings.BackoffMax = time.Hour, time.Hour
	r := start(t, cfg, newHandler(), leads)
	eventually(t, "trouble is said", func() bool { return r.log.count("no leading master") > 0 })
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times before the first pause", n)
	}
	if got := r.log.count(strings.TrimPrefix(down.URL, "http://")); got == 0 {
		t.Error("the address that was tried is not named")
	}
}

// Who may not use the operator API may still be a framework.
func TestOperatorAPIRefused(t *testing.T) {
	m := newScripted(t)
	m.leader = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusForbidden); return true }
	start(t, testConfig(m.url), newHandler(), leads)
	get(t, m.streams, "SUBSCRIBE")
}

func TestRefusedForGood(t *testing.T) {
	for _, c := range []struct {
		status int
		says   string
	}{
		{http.StatusUnauthorized, "--credentials"},
		{http.StatusForbidden, "--acls"},
		{http.StatusBadRequest, "principal"},
		{http.StatusNotAcceptable, "principal"},
	} {
		t.Run(http.StatusText(c.status), func(t *testing.T) {
			m := newScripted(t)
			m.answer = func(w http.ResponseWriter, _ *scheduler.Call) bool {
				http.Error(w, "because", c.status)
				return true
			}
			cfg := testConfig(m.url)
			cfg.Principal, cfg.Secret = "batch", "s3cret"
			err := get(t, start(t, cfg, newHandler(), leads).result, "end of Run")
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "because") {
				t.Errorf("Run ends with %v; want ErrRefused that names %s and the master's words", err, c.says)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

func TestErrorEvents(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []*scheduler.Event
		want   error
	}{
		{"removed at once", []*scheduler.Event{errorEvent("Framework has been removed")}, ErrFrameworkRemoved},
		{"removed later", []*scheduler.Event{subscribedEvent(), errorEvent("Framework has been removed")}, ErrFrameworkRemoved},
		{"malformed info", []*scheduler.Event{errorEvent("Role 'x' is invalid")}, ErrRefused},
		{"another framework ID", []*scheduler.Event{subscribedAs("other", 15)}, ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newScripted(t)
			r := start(t, testConfig(m.url), newHandler(), leads)
			get(t, m.streams, "SUBSCRIBE").send(c.events...)
			if err := get(t, r.result, "end of Run"); !errors.Is(err, c.want) {
				t.Errorf("Run ends with %v, want %v", err, c.want)
			}
		})
	}
}

// mesos-go's controller subscribes again after every ERROR; two schedulers would
// evict each other for ever.
func TestFailedOver(t *testing.T) {
	unreachable := errors.New("Temporal is not reachable")
	for _, c := range []struct {
		name    string
		answers []error // to Confirm, after the first; the last one stays
		want    error   // of Run; nil: it subscribes again
	}{
		{"lease holds", []error{nil}, nil},
		{"lease lost", []error{ErrLeaseLost}, ErrLeaseLost},
		{"nobody knows, then it holds", []error{unreachable, unreachable, nil}, nil},
		{"nobody knows, then lost", []error{unreachable, unreachable, ErrLeaseLost}, ErrLeaseLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newScripted(t)
			var asked atomic.Int32
			lease := leaseFunc(func(context.Context) error {
				n := int(asked.Add(1)) - 1
				if n == 0 {
					return nil
				}
				return c.answers[min(n, len(c.answers))-1]
			})
			r := start(t, testConfig(m.url), newHandler(), lease)
			get(t, m.streams, "SUBSCRIBE").send(subscribedEvent(), errorEvent("Framework failed over"))
			get(t, r.handler.disconnected, "Disconnected")
			if c.want != nil {
				if err := get(t, r.result, "end of Run"); !errors.Is(err, c.want) {
					t.Errorf("Run ends with %v, want %v", err, c.want)
				}
				if n := len(m.streams); n != 0 {
					t.Errorf("%d more SUBSCRIBE calls after the lease was lost", n)
				}
			} else {
				get(t, m.streams, "second SUBSCRIBE")
			}
			if n := int(asked.Load()); n != 1+len(c.answers) {
				t.Errorf("the lease was asked %d times, want %d", n, 1+len(c.answers))
			}
		})
	}
}

func TestWatchdogDropsASilentStream(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		events []*scheduler.Event
	}{
		{"after SUBSCRIBED", nil, []*scheduler.Event{subscribedAs(testFramework, 0.02)}},
		{"before SUBSCRIBED", func(c *Config) { c.Timings.Call = 100 * time.Millisecond }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newScripted(t)
			cfg := testConfig(m.url)
			if c.change != nil {
				c.change(&cfg)
			}
			r := start(t, cfg, newHandler(), leads)
			s := get(t, m.streams, "SUBSCRIBE")
			s.send(c.events...)
			get(t, s.gone, "drop of the connection")
			if len(c.events) > 0 {
				if err := get(t, r.handler.disconnected, "Disconnected"); !errors.Is(err, errSilent) {
					t.Errorf("disconnected for %v, want %v", err, errSilent)
				}
			}
			get(t, m.streams, "second SUBSCRIBE")
		})
	}
}

func TestWatchdogIsResetByAnyEvent(t *testing.T) {
	m := newScripted(t)
	r := start(t, testConfig(m.url), newHandler(), leads)
	s := get(t, m.streams, "SUBSCRIBE")
	s.send(subscribedAs(testFramework, 0.3)) // the watchdog bites after 1.5 s
	beats := time.NewTicker(100 * time.Millisecond)
	defer beats.Stop()
	for range 20 {
		<-beats.C
		s.send(&scheduler.Event{Type: scheduler.Event_HEARTBEAT})
	}
	if n := len(r.handler.disconnected); n != 0 {
		t.Errorf("disconnected %d times in spite of heartbeats", n)
	}
}

func TestStreamThatBreaks(t *testing.T) {
	whole := record1(errorEvent("never read"))
	for _, c := range []struct {
		name string
		last []byte
	}{
		{"between records", nil},
		{"within a record", whole[:len(whole)-3]},
		{"within a length", []byte("12")},
		{"not a length", []byte("hello\n")},
		{"not protobuf", []byte("3\n\xff\xff\xff")},
		{"a length beyond measure", []byte("99999999999999\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, m, s := connect(t, nil)
			s.raw(c.last)
			if c.name == "between records" || strings.HasPrefix(c.name, "within") {
				close(s.over)
			}
			if err := get(t, r.handler.disconnected, "Disconnected"); err == nil {
				t.Error("disconnected without a reason")
			}
			get(t, m.streams, "second SUBSCRIBE").send(subscribedEvent())
			if got := get(t, r.handler.subscribed, "Subscribed"); !got.Repeated {
				t.Errorf("second subscription is %+v", got)
			}
		})
	}
}

// mesos-go's reader ends the stream at 4 MiB; the OFFERS of some thousand agents
// are larger.
func TestLargeEvent(t *testing.T) {
	r, m, s := connect(t, nil)
	offers := make([]mesos.Offer, 20)
	for i := range offers {
		offers[i] = testOffer("o"+string(rune('a'+i)), "agent"+string(rune('a'+i)), 1, 1024)
		offers[i].Hostname = strings.Repeat("h", 400<<10)
	}
	s.send(offersEvent(offers...))
	eventually(t, "20 agents", func() bool { return len(r.Agents()) == 20 })
	if len(m.streams)+len(r.handler.disconnected) != 0 {
		t.Error("the large event cost the stream")
	}
}

// In mesos-go a failed call of any kind ends the subscription, and 200 without
// Content-Type counts as failed.
func TestCallsDoNotCostTheStream(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter)
	}{
		{"400", func(w http.ResponseWriter) { http.Error(w, "no such stream", http.StatusBadRequest) }},
		{"403", func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }},
		{"500", func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }},
		{"200 without Content-Type", func(w http.ResponseWriter) {
			w.Header()["Content-Type"] = nil
			w.WriteHeader(http.StatusOK)
		}},
		{"200 with a body", func(w http.ResponseWriter) { w.Write([]byte("fine")) }},
		{"cut connection", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, m, s := connect(t, nil)
			m.answer = func(w http.ResponseWriter, call *scheduler.Call) bool {
				if call.Type == scheduler.Call_SHUTDOWN {
					m.calls <- call
					c.answer(w)
					return true
				}
				return false
			}
			r.ShutdownExecutor("agent", "executor")
			m.want(scheduler.Call_SHUTDOWN)
			s.send(statusEvent("t1", "agent", "x", mesos.TASK_RUNNING, "u1"))
			u := get(t, r.handler.updates, "update on the same stream")
			r.Acknowledge(u)
			m.until(scheduler.Call_ACKNOWLEDGE)
			if len(r.handler.disconnected) != 0 {
				t.Error("the call cost the subscription")
			}
			if failed := r.Metrics().FailedCalls.Load(); (failed == 0) != strings.HasPrefix(c.name, "200") {
				t.Errorf("%d failed calls", failed)
			}
		})
	}
}

func TestSubscribeWithoutStreamID(t *testing.T) {
	m := newScripted(t)
	var tries atomic.Int32
	m.answer = func(w http.ResponseWriter, c *scheduler.Call) bool {
		if tries.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(record1(subscribedEvent()))
		return true
	}
	start(t, testConfig(m.url), newHandler(), leads)
	get(t, m.streams, "second SUBSCRIBE")
}

// mesos-go's default dialer binds to an IPv4 address.
func TestDialsAnyAddressFamily(t *testing.T) {
	cfg, err := testConfig("http://[::1]:5050").prepare()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		// Without IPv6 the dial must fail for that reason, not for the local address.
		_, err := newClient(&cfg, &Access{}, "http://[::1]:1").transport.DialContext(t.Context(), "tcp", "[::1]:1")
		if err == nil || strings.Contains(err.Error(), "0.0.0.0") {
			t.Errorf("dial: %v", err)
		}
		return
	}
	defer listener.Close()
	conn, err := newClient(&cfg, &Access{}, "http://[::1]:1").transport.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"no master", func(c *Config) { c.Masters = []string{" , "} }, "no address"},
		{"bad scheme", func(c *Config) { c.Masters = []string{"ftp://x"} }, "http://host:port"},
		{"credentials in the address", func(c *Config) { c.Masters = []string{"http://u:hidden@x"} }, "no credentials"},
		{"no framework ID", func(c *Config) { c.FrameworkID = "" }, "framework ID"},
		{"two roles", func(c *Config) { c.Roles = []string{"a", "b"} }, "roles"},
		{"secret alone", func(c *Config) { c.Secret = "x" }, "principal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig("http://m:5050")
			c.change(&cfg)
			_, err := New(cfg, newHandler(), leads)
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("error is %v, want one about %q", err, c.says)
			}
		})
	}
	urls, _, err := resolveMasters([]string{"a, http://b:1 ,https://c", "a:5050"})
	if want := []string{"http://a:5050", "http://b:1", "https://c:5050"}; err != nil || !slices.Equal(urls, want) {
		t.Errorf("masters are %v, %v; want %v", urls, err, want)
	}
}

func TestRedirectTo(t *testing.T) {
	for _, c := range []struct{ base, location, want string }{
		{"http://a:5050", "//b:5050/api/v1/scheduler", "http://b:5050"},
		{"http://a:5050", "https://b:5050", "https://b:5050"},
		{"https://a:5050", "//b:5050", "https://b:5050"},
		{"https://a:5050", "http://b:5050", ""}, // would send credentials in the clear
		{"http://a:5050", "", ""},
		{"http://a:5050", "//u:p@b:5050", ""},
		{"http://a:5050", "gopher://b", ""},
	} {
		if got := redirectTo(c.base, c.location); got != c.want {
			t.Errorf("redirect from %s to %q leads to %q, want %q", c.base, c.location, got, c.want)
		}
	}
}
