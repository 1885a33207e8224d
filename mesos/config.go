package mesos

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os/user"
	"time"
)

// Config is what the framework is and how it behaves. Zero values of everything
// below Masters and FrameworkID have a default.
type Config struct {
	// Masters are addresses of masters, http://host:port, https://host:port or
	// host:port, in any order; an entry may be a list separated by commas. The
	// leading one is found by asking. One entry may be
	// zk://[user:password@]host:port,host:port/path, where the masters say who leads
	// (their --zk); they are spoken to by https then if TLS is set, else by http.
	// file:///path names a file that holds addresses, as Mesos' own --master does.
	Masters []string
	zk      *zkAddress // of Masters, which has only URLs once prepared

	// FrameworkID is chosen before first use and never changes: Mesos takes an ID
	// that it has never seen.
	FrameworkID string
	Name        string // shown by Mesos; "baas" by default
	User        string // runs the executors; by default the user of this process
	WebUI       string // URL that Mesos shows for the framework
	Hostname    string // of this scheduler, shown by Mesos

	// Principal and Secret are the HTTP basic credential. FrameworkInfo carries
	// the principal, since Mesos refuses a framework whose two principals differ.
	Principal string
	Secret    string
	TLS       *tls.Config // for https:// masters
	// Access, where set, takes the place of these three. It is asked before each
	// subscription, since files may hold others by then. Whether it gives TLS must not
	// change, nor the principal: Mesos keeps that of the first subscription.
	Access func() (Access, error)
	// Transport wraps the HTTP transport of each subscription and its calls; nil
	// leaves it as it is.
	Transport func(http.RoundTripper) http.RoundTripper

	// Role, if set, is the platform's role in Mesos: the tasks of owner NAME run in
	// role Role/NAME, so that quota and weights can be set for each owner. The roles
	// are added when their first task comes (UPDATE_FRAMEWORK: Mesos 1.9 or newer).
	Role string
	// Roles to subscribe with where Role is not set: one, "*" by default, for the
	// tasks of all owners.
	Roles []string
	// GPUs asks for agents with GPUs (capability GPU_RESOURCES).
	GPUs bool
	// RemoteRegions asks for agents in other regions than the master's (capability
	// REGION_AWARE).
	RemoteRegions bool
	// FailoverTimeout is how long Mesos keeps the tasks of a framework that is
	// away; a week by default.
	FailoverTimeout time.Duration

	// ExecutorURI is where agents fetch the executor from, ExecutorSHA256 the hash
	// of those bytes (hex): another binary is another executor.
	ExecutorURI    string
	ExecutorSHA256 string
	// ExecutorCommand is the path of the fetched binary in the sandbox,
	// "./baas-executor" by default; ExecutorArgs follow it.
	ExecutorCommand string
	ExecutorArgs    []string
	ExecutorEnv     map[string]string
	// ExecutorResources are the executor's own; 0.1 CPU and 32 MB by default.
	ExecutorResources Resources
	// ExecutorGrace is what Mesos gives an executor between shutdown and kill;
	// 10 s by default.
	ExecutorGrace time.Duration
	// ExecutorIdle is how long an executor without tasks is kept; 5 minutes by
	// default.
	ExecutorIdle time.Duration

	// GroupOf tells from a task's ID which other tasks it is counted with by
	// constraints that count, "" for none: the ID is all that Mesos tells of the
	// tasks that an earlier leader has launched.
	GroupOf func(taskID string) string

	Logger  *slog.Logger
	Timings Timings
}

// Timings are the framework's time limits and paces. Zero means the default.
type Timings struct {
	Dial time.Duration // to connect; 5 s
	Call time.Duration // for any call but the event stream; 15 s

	// WatchdogBeats is how many heartbeat intervals of silence end a
	// subscription; 5.
	WatchdogBeats int

	BackoffMin time.Duration // between subscriptions; 100 ms
	BackoffMax time.Duration // 10 s

	Gather time.Duration // offers and tasks are gathered before a match, at most; 5 ms
	// OfferHold is how long an unused offer is kept for work to come; 2 s.
	OfferHold time.Duration
	// Refuse is the filter time of a declined offer; 5 s.
	Refuse time.Duration
	// Revive is the least time between two REVIVE calls; 1 s.
	Revive time.Duration
	// AvoidPatience is how long a task waits for an agent that it does not avoid, or
	// that is not avoided for its losses; 30 s.
	AvoidPatience time.Duration
	// AvoidMin and AvoidMax bound the time for which an agent is avoided after a
	// loss; 2 s and 10 min. AvoidWindow after it, its losses are forgotten; 10 min.
	AvoidMin, AvoidMax, AvoidWindow time.Duration

	// ReconcileMin and ReconcileMax bound the backoff between two explicit
	// reconciliations of one task; 2 s and 1 min.
	ReconcileMin, ReconcileMax time.Duration
	ReconcileBatch             int           // tasks in one call; 200
	Implicit                   time.Duration // between implicit reconciliations; 15 min, with jitter
	Staging                    time.Duration // a launch without news is reconciled; 30 s

	// KillMin and KillMax bound the backoff between two KILL calls for one task;
	// 5 s and 1 min.
	KillMin, KillMax time.Duration

	// Survey is the least time between two questions for the agents of the cluster,
	// asked while tasks wait; 1 min.
	Survey time.Duration
	// Settle is how long after the first subscription a task waits whose
	// constraints count other tasks: until Mesos has told of those that an earlier
	// leader has launched; 2 s.
	Settle time.Duration
	// Puzzle is how long a task waits before Explain looks for reasons that may pass
	// by themselves in a moment; 5 s.
	Puzzle time.Duration

	Tick time.Duration // of housekeeping; 100 ms
}

const (
	day = 24 * time.Hour
	mb  = 1 << 20
)

func (t Timings) withDefaults() Timings {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&t.Dial, 5 * time.Second},
		{&t.Call, 15 * time.Second},
		{&t.BackoffMin, 100 * time.Millisecond},
		{&t.BackoffMax, 10 * time.Second},
		{&t.Gather, 5 * time.Millisecond},
		{&t.OfferHold, 2 * time.Second},
		{&t.Refuse, 5 * time.Second},
		{&t.Revive, time.Second},
		{&t.AvoidPatience, 30 * time.Second},
		{&t.AvoidMin, 2 * time.Second},
		{&t.AvoidMax, 10 * time.Minute},
		{&t.AvoidWindow, 10 * time.Minute},
		{&t.ReconcileMin, 2 * time.Second},
		{&t.ReconcileMax, time.Minute},
		{&t.Implicit, 15 * time.Minute},
		{&t.Staging, 30 * time.Second},
		{&t.KillMin, 5 * time.Second},
		{&t.KillMax, time.Minute},
		{&t.Survey, time.Minute},
		{&t.Settle, 2 * time.Second},
		{&t.Puzzle, 5 * time.Second},
		{&t.Tick, 100 * time.Millisecond},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if t.WatchdogBeats <= 0 {
		t.WatchdogBeats = 5
	}
	if t.ReconcileBatch <= 0 {
		t.ReconcileBatch = 200
	}
	return t
}

// prepare checks the configuration and fills in the defaults.
func (c Config) prepare() (Config, error) {
	var errs []error
	masters, zk, err := resolveMasters(c.Masters)
	errs = append(errs, err)
	c.Masters, c.zk = masters, zk
	if c.FrameworkID == "" {
		errs = append(errs, errors.New("no framework ID"))
	}
	roles, err := c.checkRoles()
	errs = append(errs, err)
	c.Roles = roles
	if c.Secret != "" && c.Principal == "" {
		errs = append(errs, errors.New("a secret without a principal"))
	}
	if c.Access == nil {
		fixed := Access{c.Principal, c.Secret, c.TLS}
		c.Access = func() (Access, error) { return fixed, nil }
	}
	if c.User == "" {
		u, err := user.Current()
		if err != nil {
			errs = append(errs, fmt.Errorf("user to run executors as: %w", err))
		} else {
			c.User = u.Username
		}
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("mesos configuration: %w", err)
	}

	c.Name = cmp.Or(c.Name, "baas")
	c.ExecutorCommand = cmp.Or(c.ExecutorCommand, "./baas-executor")
	c.FailoverTimeout = cmp.Or(c.FailoverTimeout, 7*day)
	c.ExecutorGrace = cmp.Or(c.ExecutorGrace, 10*time.Second)
	c.ExecutorIdle = cmp.Or(c.ExecutorIdle, 5*time.Minute)
	c.ExecutorResources = cmp.Or(c.ExecutorResources, Resources{CPUs: 0.1, Mem: 32 * mb})
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.GroupOf == nil {
		c.GroupOf = func(string) string { return "" }
	}
	c.Timings = c.Timings.withDefaults()
	return c, nil
}
