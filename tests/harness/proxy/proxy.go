// Package proxy puts a TCP connection under a test's control: a link between two
// processes can be cut, made silent or slow, or broken in the middle of a message.
package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Direction is one of the two ways of a link.
type Direction int

const (
	Up   Direction = iota // from who connects to the target
	Down                  // from the target to who connects
)

// Stats counts what has happened on a link so far: a test asks them whether its
// fault has struck.
type Stats struct {
	Opened  int      // connections
	Cut     int      // connections that a fault has ended
	Held    int      // pieces of data, or ends of connections, that a black hole kept back
	Delayed int      // pieces of data that came late
	Bytes   [2]int64 // delivered, by direction
}

// Proxy is one link: a listening address on 127.0.0.1 and a target to which each
// connection is passed on. Its methods may be called from any goroutine.
type Proxy struct {
	addr string
	hold int // socket that keeps the port while nobody listens

	mu       sync.Mutex
	target   string
	state    state
	changed  chan struct{} // closed at each change of state
	listener net.Listener  // nil while cut, and once stopped
	conns    map[*pair]struct{}
	stats    Stats
	stopped  bool
	wg       sync.WaitGroup
}

// state is what a link does to its connections.
type state struct {
	cut   bool
	black bool
	delay [2]time.Duration
	// left is how many bytes may still come down before the connection that brings
	// the next one is cut; negative: any number.
	left   int64
	within []byte // the next connection that brings this down is cut inside of it
}

// New makes a link to a target (host:port), which passes everything.
func New(target string) (*Proxy, error) {
	p := &Proxy{
		target: target, state: state{left: -1},
		changed: make(chan struct{}), conns: make(map[*pair]struct{}),
	}
	listener, err := listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.addr = listener.Addr().String()
	if p.hold, err = reserve(listener.Addr().(*net.TCPAddr)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("reserve %s: %w", p.addr, err)
	}
	p.serve(listener)
	return p, nil
}

// listen takes a port that another socket of this process may be bound to.
func listen(addr string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return errors.Join(err, set)
	}}
	return config.Listen(context.Background(), "tcp4", addr)
}

// reserve binds a socket that does not listen: while it is the only one, its port
// refuses connections, and no other process gets it.
func reserve(addr *net.TCPAddr) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())})
}

// Addr is host:port to connect to.
func (p *Proxy) Addr() string { return p.addr }

// SetTarget sends new connections elsewhere.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Stats gives the counts so far.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Pass heals the link: what a black hole held is delivered, nothing is delayed,
// and no cut is pending.
func (p *Proxy) Pass() { p.set(func(s *state) { *s = state{left: -1} }) }

// Cut resets all connections and refuses new ones, until Pass.
func (p *Proxy) Cut() { p.set(func(s *state) { *s = state{cut: true, left: -1} }) }

// Reset resets all connections once; new ones pass as before.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetAll()
}

// BlackHole takes connections and data and delivers nothing, until Pass: both
// sides believe the other to be there.
func (p *Proxy) BlackHole() { p.set(func(s *state) { *s = state{black: true, left: -1} }) }

// Delay delivers each piece of data at least so much later, in each direction.
func (p *Proxy) Delay(up, down time.Duration) {
	p.set(func(s *state) { *s = state{delay: [2]time.Duration{up, down}, left: s.left, within: s.within} })
}

// CutAfter resets one connection, the one that comes to bring down the byte after
// the next n of the link.
func (p *Proxy) CutAfter(n int64) { p.set(func(s *state) { s.left = max(n, 0) }) }

// CutWithin resets the connection that brings down the given bytes next, when half
// of them are delivered: what they are part of arrives incomplete. Bytes that
// arrive in two pieces are not noticed.
func (p *Proxy) CutWithin(content []byte) { p.set(func(s *state) { s.within = bytes.Clone(content) }) }

func (p *Proxy) set(change func(*state)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	change(&p.state)
	close(p.changed)
	p.changed = make(chan struct{})
	switch {
	case p.state.cut && p.listener != nil:
		p.listener.Close()
		p.listener = nil
		p.resetAll()
	case !p.state.cut && p.listener == nil:
		listener, err := listen(p.addr)
		if err != nil {
			panic(fmt.Sprintf("proxy: port %s, which is reserved: %v", p.addr, err))
		}
		p.serve(listener)
	}
}

// serve accepts connections in the background. p.mu is held, or p is new.
func (p *Proxy) serve(listener net.Listener) {
	p.listener = listener
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.handle(client.(*net.TCPConn), listener) })
		}
	})
}

// resetAll resets the connections of the moment. p.mu is held.
func (p *Proxy) resetAll() {
	for c := range p.conns {
		if c.reset() {
			p.stats.Cut++
		}
	}
}

// Stop ends all connections and returns when nothing runs any more. It may be
// called again.
func (p *Proxy) Stop() {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		if p.listener != nil {
			p.listener.Close()
			p.listener = nil
		}
		for c := range p.conns {
			c.reset()
		}
		unix.Close(p.hold)
	}
	p.mu.Unlock()
	p.wg.Wait()
}
