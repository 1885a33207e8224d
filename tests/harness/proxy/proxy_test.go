package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); served.Wait() })
	return listener.Addr().String()
}

func link(t *testing.T) *Proxy {
	t.Helper()
	target := echo(t)
	p, err := New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	have := make([]byte, len(want))
	if _, err := io.ReadFull(conn, have); err != nil || string(have) != want {
		t.Fatalf("received %q, %v; want %q", have, err, want)
	}
}

// silent checks that nothing comes for a while.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(make([]byte, 1))
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func TestPass(t *testing.T) {
	p := link(t)
	conn := dial(t, p)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = conn.Write(big)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	have, err := io.ReadAll(conn) // the end of one direction is passed on, too
	if err != nil || !bytes.Equal(have, big) {
		t.Fatalf("received %d bytes, %v; want %d as sent", len(have), err, len(big))
	}
	want := Stats{Opened: 1, Bytes: [2]int64{int64(len(big)), int64(len(big))}}
	if have := p.Stats(); have != want {
		t.Errorf("stats %+v, want %+v", have, want)
	}
}

func TestCut(t *testing.T) {
	p := link(t)
	conn := dial(t, p)
	send(t, conn, "a")
	receive(t, conn, "a")
	for range 3 {
		p.Cut()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read: %v, want a reset", err)
		}
		if _, err := net.DialTimeout("tcp", p.Addr(), patience); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial: %v, want it refused", err)
		}
		p.Pass()
		conn = dial(t, p)
		send(t, conn, "b")
		receive(t, conn, "b")
	}
	if n := p.Stats().Cut; n != 3 {
		t.Errorf("%d connections cut, want 3", n)
	}
}

func TestReset(t *testing.T) {
	p := link(t)
	conn := dial(t, p)
	send(t, conn, "a")
	receive(t, conn, "a")
	p.Reset()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v, want a reset", err)
	}
	conn = dial(t, p)
	send(t, conn, "b")
	receive(t, conn, "b")
}

func TestBlackHole(t *testing.T) {
	p := link(t)
	old := dial(t, p)
	send(t, old, "a")
	receive(t, old, "a")
	p.BlackHole()
	send(t, old, "b")
	young := dial(t, p)
	send(t, young, "c")
	silent(t, old)
	silent(t, young)
	if n := p.Stats().Held; n != 2 {
		t.Errorf("%d pieces held, want 2", n)
	}
	p.Pass()
	receive(t, old, "b")
	receive(t, young, "c")
}

// The end of a connection, too, does not come through a black hole.
func TestBlackHoleHoldsTheEnd(t *testing.T) {
	p := link(t)
	conn := dial(t, p)
	send(t, conn, "a")
	receive(t, conn, "a")
	p.BlackHole()
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	silent(t, conn)
	p.Pass()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("read: %v, want the end", err)
	}
}

func TestDelay(t *testing.T) {
	p := link(t)
	conn := dial(t, p)
	send(t, conn, "a")
	receive(t, conn, "a")
	for _, d := range [][2]time.Duration{{150 * time.Millisecond, 0}, {0, 150 * time.Millisecond}} {
		p.Delay(d[0], d[1])
		began := time.Now()
		send(t, conn, "a")
		receive(t, conn, "a")
		if took := time.Since(began); took < 150*time.Millisecond {
			t.Errorf("delay %v: the answer came after %v", d, took)
		}
	}
	if n := p.Stats().Delayed; n != 2 {
		t.Errorf("%d pieces delayed, want 2", n)
	}
	p.Delay(time.Hour, 0)
	send(t, conn, "b")
	eventually(t, "the third piece is not delayed", func() bool { return p.Stats().Delayed == 3 })
	p.Pass() // ends delays that are under way
	receive(t, conn, "b")
}

func TestCutAfter(t *testing.T) {
	p := link(t)
	conn := dial(t, p)
	p.CutAfter(5)
	send(t, conn, "abc")
	receive(t, conn, "abc")
	send(t, conn, "defg")
	rest, _ := io.ReadAll(conn)
	if string(rest) != "de" {
		t.Errorf("the connection ended after %q, want it after %q", rest, "de")
	}
	if n := p.Stats().Cut; n != 1 {
		t.Errorf("%d connections cut, want 1", n)
	}
	conn = dial(t, p) // only one is cut
	send(t, conn, "abcdefgh")
	receive(t, conn, "abcdefgh")
}

func TestCutWithin(t *testing.T) {
	p := link(t)
	bystander, conn := dial(t, p), dial(t, p)
	p.CutWithin([]byte("<end>!"))
	send(t, bystander, "abc")
	receive(t, bystander, "abc")
	send(t, conn, "abc<end>!def")
	rest, _ := io.ReadAll(conn)
	if string(rest) != "abc<en" {
		t.Errorf("the connection ended after %q, want it after %q", rest, "abc<en")
	}
	send(t, bystander, "<end>!")
	receive(t, bystander, "<end>!")
}

func TestSetTarget(t *testing.T) {
	p := link(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	old := dial(t, p)
	send(t, old, "a")
	receive(t, old, "a")
	p.SetTarget(dead.Addr().String())
	dead.Close()
	conn, err := net.DialTimeout("tcp", p.Addr(), patience)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%v, want a reset where the target is not there", err)
	}
	send(t, old, "b") // connections that are there stay
	receive(t, old, "b")
}

func TestStop(t *testing.T) {
	for _, state := range []func(*Proxy){(*Proxy).Pass, (*Proxy).Cut, (*Proxy).BlackHole, func(p *Proxy) { p.Delay(time.Hour, time.Hour) }} {
		p := link(t)
		conn := dial(t, p)
		send(t, conn, "a")
		receive(t, conn, "a")
		state(p)
		_, _ = io.WriteString(conn, "b") // refused where it is cut
		p.Stop()
		p.Stop()
		p.Pass() // has no effect any more
		if conn, err := net.Dial("tcp", p.Addr()); err == nil {
			conn.Close()
			t.Error("somebody listens after Stop")
		}
	}
}
