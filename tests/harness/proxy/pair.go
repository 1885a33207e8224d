package proxy

import (
	"bytes"
	"context"
	"net"
	"sync"
	"time"
)

// pair is one connection through the link: two TCP connections.
type pair struct {
	ctx  context.Context // ends with the connection
	stop context.CancelFunc

	mu    sync.Mutex
	ends  []*net.TCPConn
	ended bool
}

// reset ends both sides and throws away what is on its way; false when they have
// ended before.
func (c *pair) reset() bool { return c.end(func(end *net.TCPConn) { _ = end.SetLinger(0) }) }

// add takes the second side; false when the connection has ended meanwhile.
func (c *pair) add(end *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		end.Close()
		return false
	}
	c.ends = append(c.ends, end)
	return true
}

// close ends both sides; what was written before still arrives. False when they
// have ended before.
func (c *pair) close() bool { return c.end(func(*net.TCPConn) {}) }

func (c *pair) end(prepare func(*net.TCPConn)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.ended = true
	c.stop()
	for _, end := range c.ends {
		prepare(end)
		end.Close()
	}
	return true
}

// handle serves one connection from its first to its last byte.
func (p *Proxy) handle(client *net.TCPConn, listener net.Listener) {
	ctx, stop := context.WithCancel(context.Background())
	c := &pair{ctx: ctx, stop: stop, ends: []*net.TCPConn{client}}
	defer c.close()
	p.mu.Lock()
	if p.listener != listener { // cut or stopped between accept and here
		p.mu.Unlock()
		c.reset()
		return
	}
	p.conns[c] = struct{}{}
	p.stats.Opened++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()

	if !p.await(c, Up, time.Now()) { // a black hole swallows the SYN, too
		return
	}
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", target)
	if err != nil {
		c.reset()
		return
	}
	server := conn.(*net.TCPConn)
	if !c.add(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(c, Up, client, server) })
	both.Go(func() { p.pump(c, Down, server, client) })
	both.Wait()
}

// pump copies one direction. The end of one direction is passed on by itself; a
// failure ends the connection.
func (p *Proxy) pump(c *pair, d Direction, from, to *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if (n > 0 || err != nil) && !p.await(c, d, time.Now()) {
			return
		}
		if n > 0 && !p.deliver(c, d, to, buffer[:n]) {
			return
		}
		if err != nil {
			if to.CloseWrite() != nil {
				c.close()
			}
			return
		}
	}
}

// await holds a piece of data that has arrived back for as long as the link wants
// to; false when the connection has ended meanwhile.
func (p *Proxy) await(c *pair, d Direction, arrived time.Time) bool {
	held, delayed := false, false
	for {
		p.mu.Lock()
		s, changed := p.state, p.changed
		wait := time.Until(arrived.Add(s.delay[d]))
		if s.black && !held {
			p.stats.Held++
			held = true
		}
		if !s.black && wait > 0 && !delayed {
			p.stats.Delayed++
			delayed = true
		}
		p.mu.Unlock()
		var due <-chan time.Time
		switch {
		case c.ctx.Err() != nil:
			return false
		case s.black:
		case wait > 0:
			due = time.After(wait)
		default:
			return true
		}
		select {
		case <-changed:
		case <-due:
		case <-c.ctx.Done():
			return false
		}
	}
}

// deliver writes a piece of data, or as much of it as the link lets pass before
// it cuts the connection; false when the connection has ended.
func (p *Proxy) deliver(c *pair, d Direction, to *net.TCPConn, data []byte) bool {
	pass := len(data)
	if d == Down {
		pass = p.allowed(data)
	}
	n, err := to.Write(data[:pass])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Bytes[d] += int64(n)
	if pass < len(data) {
		if c.close() { // not reset: the part that passed is to arrive
			p.stats.Cut++
		}
		return false
	}
	if err != nil {
		c.close()
	}
	return err == nil
}

// allowed tells how much of what comes down may pass before a cut, and uses the
// cut up.
func (p *Proxy) allowed(data []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state
	pass := len(data)
	if len(s.within) > 0 {
		if at := bytes.Index(data, s.within); at >= 0 {
			pass = at + len(s.within)/2
			s.within = nil
		}
	}
	if s.left >= 0 && s.left < int64(pass) {
		pass = int(s.left)
	}
	if s.left >= 0 {
		if s.left -= int64(pass); pass < len(data) {
			s.left = -1
		}
	}
	return pass
}
