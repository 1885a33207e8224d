package master

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// Version is the Mesos version whose behaviour and API this master has.
const Version = "1.12.0"

// Config sets a master up. Zero values mean Mesos' defaults unless noted.
type Config struct {
	// Listener serves the HTTP API; without one the master listens on Address,
	// by default 127.0.0.1:0.
	Listener net.Listener
	Address  string
	// Registry holds the admitted, unreachable and gone agents. Masters of one
	// cluster share it; nil keeps it in memory.
	Registry *Registry
	// Credentials maps principals to secrets. If there are any, the APIs ask for
	// HTTP basic authentication.
	Credentials map[string]string
	// Roles maps principals to the roles that they may use, those below them
	// included ("a" allows "a/b"); a principal that is not in it may use all. It
	// stands for register_frameworks of Mesos' --acls.
	Roles map[string][]string
	// TLS, if set, serves https (LIBPROCESS_SSL_ENABLED). With ClientAuth it asks for
	// client certificates (LIBPROCESS_SSL_REQUIRE_CERT).
	TLS *tls.Config
	// Standby masters redirect all calls until Elect is called.
	Standby bool
	Logger  *slog.Logger

	// OnEvent, for tests, decides what becomes of each event on its way to a
	// scheduler but SUBSCRIBED, HEARTBEAT and ERROR; OnCall of each call that the
	// master has read and found valid, but SUBSCRIBE. They may be called from
	// several goroutines, must not change what they see and must return soon.
	OnEvent func(mesos.FrameworkID, *scheduler.Event) link.Fate
	OnCall  func(*scheduler.Call) link.CallFate

	HeartbeatInterval       time.Duration // 15 s
	AllocationInterval      time.Duration // 100 ms (Mesos: 1 s)
	AgentPingTimeout        time.Duration // 15 s
	MaxAgentPingTimeouts    int           // 5
	AgentReregisterTimeout  time.Duration // 10 min
	OfferTimeout            time.Duration // none
	MaxCompletedFrameworks  int           // 50
	MaxCompletedTasks       int           // 1000 for each framework
	MaxUnreachableTasks     int           // 1000 for each framework
	MaxStreamBacklog        int           // bytes that a subscriber may leave unread: 64 MiB
	SubscriberWriteDeadline time.Duration // for one batch of events: 30 s
}

func (c *Config) setDefaults() error {
	for _, d := range []struct {
		v    *time.Duration
		name string
		def  time.Duration
	}{
		{&c.HeartbeatInterval, "HeartbeatInterval", 15 * time.Second},
		{&c.AllocationInterval, "AllocationInterval", 100 * time.Millisecond},
		{&c.AgentPingTimeout, "AgentPingTimeout", 15 * time.Second},
		{&c.AgentReregisterTimeout, "AgentReregisterTimeout", 10 * time.Minute},
		{&c.OfferTimeout, "OfferTimeout", 0},
		{&c.SubscriberWriteDeadline, "SubscriberWriteDeadline", 30 * time.Second},
	} {
		if *d.v < 0 {
			return fmt.Errorf("master: %s is negative", d.name)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, n := range []struct {
		v   *int
		def int
	}{
		{&c.MaxAgentPingTimeouts, 5},
		{&c.MaxCompletedFrameworks, 50},
		{&c.MaxCompletedTasks, 1000},
		{&c.MaxUnreachableTasks, 1000},
		{&c.MaxStreamBacklog, 64 << 20},
	} {
		if *n.v < 0 {
			return errors.New("master: a limit is negative")
		}
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.Registry == nil {
		c.Registry = OpenRegistry("")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return nil
}
