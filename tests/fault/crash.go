package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/worker"
)

// CrashRole is the role of workers that a CrashControl can end at a point of the
// hand-off: give it to a World with CrashControl.Equip.
const CrashRole = "fault-crasher"

const optionCrash = "crash" // directory of the crash control

// CrashPoint is a moment at which a worker meets Temporal, Mesos or storage: a side
// and a subject, such as "before ACCEPT". "before" is right before the call goes
// out, "after" when it has been answered with success and nobody has seen the answer
// yet. An event of Mesos is "read" before anything is done about it, and "handled"
// when the reader asks for the next one. An activity is "taken" when
// Temporal has given it to the worker.
type CrashPoint string

// CrashOrder has one worker kill itself (SIGKILL) when it comes to a point.
type CrashOrder struct {
	ID    string // unique
	Point CrashPoint
	// Occurrence counts, from 1, how often one worker comes there after the order was
	// given; the first worker to reach it dies.
	Occurrence int
}

// CrashControl is the test's end: workers read its order at each point.
type CrashControl struct{ dir string }

// Equip gives a worker the role, and this as its control. It fits Config.Worker.
func (c CrashControl) Equip(cfg *harness.WorkerConfig) {
	cfg.Role = CrashRole
	cfg.Options[optionCrash] = c.dir
}

const (
	orderFile  = "order.json"
	passedFile = "passed-"
	struckFile = "struck-"
)

// Set gives an order in place of the one before; nil is none.
func (c CrashControl) Set(o *CrashOrder) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	temp := filepath.Join(c.dir, "new")
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(c.dir, orderFile))
}

// Struck tells which worker has died by an order, and as which process; "" if none
// has yet.
func (c CrashControl) Struck(id string) (worker string, pid int, err error) {
	raw, err := os.ReadFile(filepath.Join(c.dir, struckFile+id))
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	_, err = fmt.Sscan(string(raw), &worker, &pid)
	return worker, pid, err
}

// Passed is the points that workers have come to under an order, one on a line
// after the worker's name.
func (c CrashControl) Passed(id string) string {
	raw, err := os.ReadFile(filepath.Join(c.dir, passedFile+id))
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// crasher is the worker's end.
type crasher struct {
	worker  string
	control CrashControl

	mu    sync.Mutex
	order string // the last one seen
	count int    // how often its point was come to
	// What the subjects of later points depend on.
	activities map[string]string // types, by task token
	held       map[string]int    // tasks of an activity, as its last heartbeat says
	updates    map[string]string // what they tell of, by UUID
}

// pass notes that the worker is at a point, and ends it there if that is ordered.
func (c *crasher) pass(point CrashPoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw, err := os.ReadFile(filepath.Join(c.control.dir, orderFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var o *CrashOrder
	if err == nil {
		err = json.Unmarshal(raw, &o)
	}
	if err != nil {
		panic(fmt.Sprintf("crash order: %v", err))
	}
	if o == nil {
		return
	}
	if c.order != o.ID {
		c.order, c.count = o.ID, 0
	}
	c.note(point)
	if o.Point != point {
		return
	}
	if c.count++; c.count == o.Occurrence {
		c.die(o.ID)
	}
}

func (c *crasher) note(point CrashPoint) {
	f, err := os.OpenFile(filepath.Join(c.control.dir, passedFile+c.order), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%s %s\n", c.worker, point)
}

// die proves itself by a file, and returns only if another worker was the first.
func (c *crasher) die(order string) {
	path := filepath.Join(c.control.dir, fmt.Sprintf("%s.%d", c.worker, os.Getpid()))
	if err := os.WriteFile(path, fmt.Appendln(nil, c.worker, os.Getpid()), 0o600); err != nil {
		panic(err)
	}
	err := os.Link(path, filepath.Join(c.control.dir, struckFile+order))
	if errors.Is(err, fs.ErrExist) {
		return
	}
	if err == nil {
		err = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	if err != nil {
		panic(err)
	}
	select {} // the other threads have a moment still
}

// CrashHooks are Hooks with crash points. A worker without a control has none.
func CrashHooks(cfg harness.WorkerConfig) (harness.Hooks, error) {
	h, err := Hooks(cfg)
	dir := cfg.Options[optionCrash]
	if err != nil || dir == "" {
		return h, err
	}
	c := &crasher{
		worker: cfg.Name, control: CrashControl{dir},
		activities: make(map[string]string), held: make(map[string]int), updates: make(map[string]string),
	}
	// A workflow that sticks to a dead worker waits five seconds for it.
	sdkworker.SetStickyWorkflowCacheSize(0)
	calm, detour := h.Store, h.Worker
	h.Client = func(o *client.Options) {
		o.ConnectionOptions.DialOptions = append(o.ConnectionOptions.DialOptions, grpc.WithChainUnaryInterceptor(c.intercept))
	}
	h.Store = func(s storage.Store) storage.Store { return &crashStore{Store: calm(s), crasher: c} }
	h.Worker = func(w *worker.Config) {
		detour(w)
		way := w.Mesos.Transport
		w.Mesos.Transport = func(next http.RoundTripper) http.RoundTripper { return &crashTransport{way(next), c} }
	}
	return h, nil
}
