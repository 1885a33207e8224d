package mesos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// zkSession is the session time-out asked for, as Mesos' --zk_session_timeout.
const zkSession = 10 * time.Second

// infoPrefix begins the names of the nodes that masters make, one each; the rest
// is the number that ZooKeeper has given (MASTER_INFO_JSON_LABEL of Mesos).
const infoPrefix = "json.info_"

// errLeaderMoved ends a subscription whose master leads no longer.
var errLeaderMoved = errors.New("ZooKeeper says that the master leads no longer")

// sighting is a leading master.
type sighting struct {
	base string // its URL; "": there is none
	node string // its node in ZooKeeper; "": ZooKeeper knows of none
}

// moved tells whether ZooKeeper names another leading master now. A master that
// was started again is another one.
func (s sighting) moved(now sighting) bool {
	return now.node != s.node && (s.node != "" || now.base != s.base)
}

// detector follows what a ZooKeeper ensemble tells of the leading master: it is
// the one whose node has the smallest number, and the node goes with the master's
// session.
type detector struct {
	at     zkAddress
	scheme string // of the masters' URLs: their nodes do not tell
	log    *slog.Logger
	t      Timings

	mu      sync.Mutex
	conn    *zk.Conn
	dialled error // how the last try to connect ended
	// answered says that leader or trouble has been set once.
	answered bool
	leader   sighting      // as last seen, also while ZooKeeper does not answer
	trouble  error         // why leader is not known to lead
	changed  chan struct{} // closed with the next change of these
}

func newDetector(at zkAddress, cfg *Config, secure bool) *detector {
	d := &detector{at: at, scheme: "http", log: cfg.Logger, t: cfg.Timings, changed: make(chan struct{})}
	if secure {
		d.scheme = "https"
	}
	return d
}

// run watches until ctx ends.
func (d *detector) run(ctx context.Context) {
	for failures := 0; ; failures++ {
		began := time.Now()
		err := d.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		d.set(func() { d.trouble = d.explain(err) })
		if time.Since(began) > d.t.BackoffMax {
			failures = 0
		}
		if !sleep(ctx, backoff(failures, d.t.BackoffMin, d.t.BackoffMax)) {
			return
		}
	}
}

// connect holds one connection, over which the library keeps a session with
// whichever server answers, until something fails. Without any it tries them in
// turn, with a second between two rounds.
func (d *detector) connect(ctx context.Context) error {
	conn, _, err := zk.Connect(d.at.servers, zkSession, zk.WithHostProvider(&ring{}), zk.WithDialer(d.dial),
		zk.WithLogger(zkLogger{d.log}), zk.WithLogInfo(false))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, conn.Close) // ends calls that wait
	defer stop()
	d.mu.Lock()
	d.conn = conn
	d.mu.Unlock()
	if d.at.auth != "" {
		if err := conn.AddAuth("digest", []byte(d.at.auth)); err != nil {
			return err
		}
	}
	for {
		changed, err := d.look(conn)
		if err != nil {
			return err
		}
		select {
		case <-changed: // also when the session has ended
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look reads who leads, and gives a channel that tells when that may have changed.
func (d *detector) look(conn *zk.Conn) (<-chan zk.Event, error) {
	for {
		nodes, _, changed, err := conn.ChildrenW(d.at.path)
		if errors.Is(err, zk.ErrNoNode) {
			var there bool
			if there, _, changed, err = conn.ExistsW(d.at.path); err == nil && there {
				continue // made in between
			}
			if err == nil {
				d.saw(sighting{}, fmt.Errorf("there is no node %s: see the path in the masters' --zk", d.at.path))
				return changed, nil
			}
		}
		if err != nil {
			return nil, err
		}
		node, err := smallest(nodes)
		if err != nil {
			d.saw(sighting{}, err)
			return changed, nil
		}
		data, _, err := conn.Get(strings.TrimSuffix(d.at.path, "/") + "/" + node)
		if errors.Is(err, zk.ErrNoNode) {
			continue // the master has gone in between
		}
		if err != nil {
			return nil, err
		}
		base, err := leaderURL(d.scheme, data)
		if err != nil {
			d.saw(sighting{node: node}, fmt.Errorf("node %s: %w", node, err))
			return changed, nil
		}
		d.saw(sighting{base: base, node: node}, nil)
		return changed, nil
	}
}

// smallest gives the node of the leading master.
func smallest(nodes []string) (string, error) {
	least, old := "", false
	for _, n := range nodes {
		switch {
		case strings.HasPrefix(n, infoPrefix):
			if least == "" || n < least {
				least = n
			}
		case strings.HasPrefix(n, "info_"):
			old = true
		}
	}
	if least == "" && old {
		return "", errors.New("the masters there are older than Mesos 0.24, which has no HTTP API")
	}
	if least == "" {
		return "", errors.New("no master leads: none is running, or none has reached ZooKeeper")
	}
	return least, nil
}

// leaderURL reads a MasterInfo in JSON. Where certificates are checked, the host
// name is what they name; else the address is what Mesos' own clients connect to.
func leaderURL(scheme string, data []byte) (string, error) {
	var info struct {
		Hostname string
		Port     int
		Address  struct {
			Hostname, IP string
			Port         int
		}
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return "", fmt.Errorf("it is not a master's: %w", err)
	}
	hosts := []string{info.Address.IP, info.Address.Hostname, info.Hostname}
	if scheme == "https" {
		hosts = []string{info.Hostname, info.Address.Hostname, info.Address.IP}
	}
	port := info.Address.Port
	if port == 0 {
		port = info.Port
	}
	for _, host := range hosts {
		if host != "" && port > 0 {
			return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)), nil
		}
	}
	return "", errors.New("it names no address of the master")
}

// saw notes what ZooKeeper has answered; leader is empty where none leads.
func (d *detector) saw(leader sighting, trouble error) {
	d.set(func() { d.leader, d.trouble = leader, trouble })
}

func (d *detector) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	leader, troubled, answered := d.leader, d.trouble != nil, d.answered
	change()
	d.answered = true
	if d.leader != leader || (d.trouble != nil) != troubled || !answered {
		close(d.changed)
		d.changed = make(chan struct{})
	}
}

// now gives what is known, with a channel that is closed when that changes. In
// trouble the leader that was seen last may still lead.
func (d *detector) now() (leader sighting, changed <-chan struct{}, trouble error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	trouble = d.trouble
	if trouble == nil && d.dialled != nil && d.conn != nil && d.conn.State() != zk.StateHasSession {
		trouble = d.unreachable()
	}
	return d.leader, d.changed, trouble
}

// find waits for the first answer, and gives who leads. Where it cannot tell it
// gives who led last, and the reason.
func (d *detector) find(ctx context.Context) (sighting, error) {
	ctx, cancel := context.WithTimeout(ctx, d.t.Call)
	defer cancel()
	for {
		d.mu.Lock()
		answered := d.answered
		d.mu.Unlock()
		leader, changed, trouble := d.now()
		if answered {
			return leader, trouble
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return sighting{}, fmt.Errorf("ZooKeeper has not answered within %v", d.t.Call)
		}
	}
}

// follow calls end when ZooKeeper names another leading master than the one given,
// or none; it returns then, or when ctx ends. That ZooKeeper does not answer says
// nothing of the master.
func (d *detector) follow(ctx context.Context, led sighting, end func(error)) {
	for {
		leader, changed, _ := d.now()
		if led.moved(leader) {
			end(errLeaderMoved)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// explain says what to do about an error of the library. d.mu is held.
func (d *detector) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, zk.ErrNoServer):
		return d.unreachable()
	case errors.Is(err, zk.ErrNoAuth) && d.at.auth == "":
		return fmt.Errorf("ZooKeeper does not let everybody read %s: name a user, zk://user:password@…", d.at.path)
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrAuthFailed):
		user, _, _ := strings.Cut(d.at.auth, ":")
		return fmt.Errorf("ZooKeeper does not let user %q read %s: wrong user or password, or the node's ACL has others", user, d.at.path)
	}
	return fmt.Errorf("ZooKeeper: %w", err)
}

// unreachable says why no server is connected. d.mu is held.
func (d *detector) unreachable() error {
	if d.dialled == nil {
		return errors.New("no server of ZooKeeper answers")
	}
	return fmt.Errorf("ZooKeeper cannot be reached: %w", d.dialled)
}

func (d *detector) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, timeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dialled = err
	return conn, err
}

// ring gives the servers in turn. The library's own provider wants all names to
// resolve at the start, and resolves them never again.
type ring struct {
	mu      sync.Mutex
	servers []string
	next    int
	tried   int // since the last connection
}

func (r *ring) Init(servers []string) error {
	r.servers = servers
	return nil
}

func (r *ring) Len() int { return len(r.servers) }

func (r *ring) Next() (server string, retryStart bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	server = r.servers[r.next]
	r.next = (r.next + 1) % len(r.servers)
	retryStart = r.tried > 0 && r.tried%len(r.servers) == 0
	r.tried++
	return server, retryStart
}

func (r *ring) Connected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried = 0
}

// zkLogger keeps the library's words for those who look for trouble.
type zkLogger struct{ log *slog.Logger }

func (l zkLogger) Printf(format string, args ...any) {
	l.log.Debug("ZooKeeper client", "says", fmt.Sprintf(format, args...))
}
