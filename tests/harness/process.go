package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ErrNotRunning tells that a process has ended, or was never started.
var ErrNotRunning = errors.New("the process does not run")

// Process is a role in a process of its own, one life after the other. Its
// methods may be called from any goroutine.
type Process struct {
	Name string

	role, log string

	mu     sync.Mutex
	config string
	life   *life // nil before the first
	n      int   // lives so far
}

// life is one process from fork to death.
type life struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{} // closed with the role's word, or when there will be none
	word  json.RawMessage
	ended chan struct{} // closed when it has been waited for
}

// NewProcess makes a process without starting it. When the test ends it is
// stopped, and its last words are shown if the test has failed.
func NewProcess(t testing.TB, role, name string, config any) *Process {
	t.Helper()
	p := &Process{Name: name, role: role, log: filepath.Join(Dir(t), name+".log")}
	if err := p.Configure(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("the last words of %s:\n%s", name, p.Tail(60))
		}
	})
	return p
}

// Configure sets what the role is told from the next life on.
func (p *Process) Configure(config any) error {
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config = string(raw)
	return nil
}

// Launch forks the process and does not wait until it serves.
func (p *Process) Launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil && !closed(p.life.ended) {
		return fmt.Errorf("%s runs already", p.Name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.n++
	fmt.Fprintf(log, "--- life %d of %s\n", p.n, p.Name)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envRole+"="+p.role, envConfig+"="+p.config)
	cmd.Stderr = log
	// A process that is stopped by a signal does not notice that the test has gone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	l := &life{cmd: cmd, stdin: stdin, ready: make(chan struct{}), ended: make(chan struct{})}
	started := make(chan error)
	go l.live(stdout, started)
	if err := <-started; err != nil {
		return err
	}
	p.life = l
	return nil
}

// live forks from a thread that lasts as long as the process: the kernel sends
// the parent-death signal when the thread that forked ends.
func (l *life) live(stdout io.Reader, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := l.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	defer close(l.ended)
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadBytes('\n'); err == nil {
		l.word = line
	}
	close(l.ready)
	_, _ = io.Copy(io.Discard, lines)
	_ = l.cmd.Wait()
}

// Await waits until the process serves and reads its word into v, which may be
// nil; at most Patience.
func (p *Process) Await(v any) error {
	l := p.current()
	if l == nil {
		return fmt.Errorf("%s: %w", p.Name, ErrNotRunning)
	}
	select {
	case <-l.ready:
	case <-time.After(Patience):
		return fmt.Errorf("%s did not come up within %s", p.Name, Patience)
	}
	if l.word == nil {
		return fmt.Errorf("%s ended before it served:\n%s", p.Name, p.Tail(20))
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(l.word, v)
}

// Start launches the process and waits until it serves.
func (p *Process) Start() error {
	if err := p.Launch(); err != nil {
		return err
	}
	return p.Await(nil)
}

func (p *Process) current() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life
}

// Running tells whether the process lives, be it paused or not.
func (p *Process) Running() bool {
	l := p.current()
	return l != nil && !closed(l.ended)
}

// Exited is closed when the present life has ended; nil before the first.
func (p *Process) Exited() <-chan struct{} {
	if l := p.current(); l != nil {
		return l.ended
	}
	return nil
}

// PID is that of the present or last life, 0 before the first.
func (p *Process) PID() int {
	if l := p.current(); l != nil {
		return l.cmd.Process.Pid
	}
	return 0
}

func (p *Process) signal(s syscall.Signal) error {
	l := p.current()
	if l == nil || closed(l.ended) {
		return fmt.Errorf("%s: %w", p.Name, ErrNotRunning)
	}
	if err := l.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: %w: %v", p.Name, ErrNotRunning, err)
	}
	return nil
}

// Kill ends the process as kill -9 does, and waits for its end. ErrNotRunning.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.current().ended
	return nil
}

// Pause stops the process by SIGSTOP, and waits until it stands: to others it is
// a machine that does not answer. ErrNotRunning.
func (p *Process) Pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		switch q, ok := LookUp(p.PID()); {
		case !ok:
			return fmt.Errorf("%s: %w", p.Name, ErrNotRunning)
		case q.State == "T":
			return nil
		}
	}
	return fmt.Errorf("%s goes on in spite of SIGSTOP", p.Name)
}

// Resume lets a paused process go on (SIGCONT). ErrNotRunning.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

// stopPatience is how long Stop waits before it kills.
const stopPatience = 30 * time.Second

// Stop ends the process in order, by SIGTERM, and waits for its end; after half a
// minute it is killed. It may be called at any time.
func (p *Process) Stop() {
	l := p.current()
	if l == nil || closed(l.ended) {
		return
	}
	_ = p.signal(syscall.SIGCONT)
	_ = p.signal(syscall.SIGTERM)
	l.stdin.Close()
	select {
	case <-l.ended:
	case <-time.After(stopPatience):
		_ = p.Kill()
	}
}

// Log is all that the process has written to standard error, over all its lives.
func (p *Process) Log() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Tail is the last lines of Log.
func (p *Process) Tail(lines int) string {
	all := strings.Split(p.Log(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
