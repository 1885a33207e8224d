package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/baas-batch/baas/tests/servers"
)

// Where Debian's package zookeeper, and what it depends on, put their classes. The
// first one makes ZooKeeper log to standard error.
const zkClasses = "/usr/share/java/slf4j-simple.jar:/usr/share/java/zookeeper.jar"

// ZooKeeper is a real server of Debian's package zookeeper, alone in its ensemble,
// in a process of its own. It can be killed and started again: port and data stay.
type ZooKeeper struct {
	Process *exec.Cmd // of the present or last life

	t       testing.TB
	dir     string
	address string
	ended   chan struct{} // closed when the present life has been waited for
}

// zkTick is the server's unit of time; sessions last between 2 and 20 of them.
const zkTick = 500 * time.Millisecond

// StartZooKeeper starts a server that ends with the test, and waits until it serves.
func StartZooKeeper(t testing.TB) *ZooKeeper {
	t.Helper()
	z := &ZooKeeper{t: t, dir: Dir(t)}
	t.Cleanup(func() {
		z.Kill()
		if t.Failed() {
			t.Logf("the last words of ZooKeeper:\n%s", z.tail())
		}
	})
	// The server wants a port by number, which another process may take meanwhile.
	var err error
	for range 3 {
		z.address = servers.FreeAddress(t)
		if err = z.start(); err == nil {
			return z
		}
	}
	t.Fatal(err)
	return nil
}

// Address is the server's host:port.
func (z *ZooKeeper) Address() string { return z.address }

// URL is the zk:// address of a path.
func (z *ZooKeeper) URL(path string) string { return "zk://" + z.address + path }

// Start starts the server again after Kill.
func (z *ZooKeeper) Start() {
	z.t.Helper()
	if err := z.start(); err != nil {
		z.t.Fatal(err)
	}
}

// Kill ends the server as kill -9 does. Without effect on one that does not run.
func (z *ZooKeeper) Kill() {
	if z.Process == nil || closed(z.ended) {
		return
	}
	_ = z.Process.Process.Kill()
	<-z.ended
}

func (z *ZooKeeper) start() error {
	_, port, err := net.SplitHostPort(z.address)
	if err != nil {
		return err
	}
	config := filepath.Join(z.dir, "zoo.cfg")
	err = os.WriteFile(config, fmt.Appendf(nil,
		"tickTime=%d\ndataDir=%s\nclientPortAddress=127.0.0.1\nclientPort=%s\nadmin.enableServer=false\n",
		zkTick.Milliseconds(), filepath.Join(z.dir, "data"), port), 0o644)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(z.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", zkClasses,
		"org.apache.zookeeper.server.ZooKeeperServerMain", config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = z.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() { // for as long as the process lives: see life.live
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start ZooKeeper (Debian: apt-get install zookeeper default-jre-headless): %w", err)
	}
	z.Process, z.ended = cmd, ended
	return z.await()
}

// await waits until the server serves clients.
func (z *ZooKeeper) await() error {
	conn := dialZK(z.address, nil)
	defer conn.Close()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); {
		if closed(z.ended) {
			return fmt.Errorf("ZooKeeper has ended:\n%s", z.tail())
		}
		if _, _, err := conn.Exists("/"); err == nil {
			return nil
		}
	}
	return errors.New("ZooKeeper did not come up")
}

func (z *ZooKeeper) log() string { return filepath.Join(z.dir, "log") }

func (z *ZooKeeper) tail() string {
	data, err := os.ReadFile(z.log())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(data), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// Connect opens a session for the test itself, that ends with it, as a user
// ("name:password") or as nobody ("").
func (z *ZooKeeper) Connect(user string) *zk.Conn {
	z.t.Helper()
	conn := dialZK(z.address, nil)
	z.t.Cleanup(conn.Close)
	if user == "" {
		return conn
	}
	if err := conn.AddAuth("digest", []byte(user)); err != nil {
		z.t.Fatal(err)
	}
	return conn
}

// MakePath makes a node and those above it where they are missing, over a session of
// the same user.
func (z *ZooKeeper) MakePath(conn *zk.Conn, path, user string) {
	z.t.Helper()
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if _, err := conn.Create(path[:i], nil, 0, aclOf(user)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			z.t.Fatalf("make node %s: %v", path[:i], err)
		}
	}
}

// aclOf lets a user do all, and nobody else; "" is everybody.
func aclOf(user string) []zk.ACL {
	if user == "" {
		return zk.WorldACL(zk.PermAll)
	}
	name, password, _ := strings.Cut(user, ":")
	return zk.DigestACL(zk.PermAll, name, password)
}

// silent drops what the library logs.
type silent struct{}

func (silent) Printf(string, ...any) {}

// dialZK opens a session; nil for dial is the network as it is.
func dialZK(address string, dial zk.Dialer) *zk.Conn {
	if dial == nil {
		dial = net.DialTimeout
	}
	conn, _, err := zk.Connect([]string{address}, 4*zkTick, zk.WithLogger(silent{}), zk.WithLogInfo(false), zk.WithDialer(dial))
	if err != nil {
		panic(err) // only of addresses that do not resolve
	}
	return conn
}
