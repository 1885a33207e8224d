package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/encoding"
	"github.com/mesos/mesos-go/api/v1/lib/encoding/codecs"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/executor/calls"
	"github.com/mesos/mesos-go/api/v1/lib/executor/config"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli/httpexec"
)

// executorVariable makes the test binary an executor.
const executorVariable = "AGENT_TEST_EXECUTOR"

// agentVariable makes the test binary an agent in this work directory.
const agentVariable = "AGENT_TEST_AGENT"

func TestMain(m *testing.M) {
	if codec := os.Getenv(executorVariable); codec != "" {
		runExecutor(codec)
		return
	}
	if workDir := os.Getenv(agentVariable); workDir != "" {
		runAgent(workDir)
		return
	}
	os.Exit(m.Run())
}

// testExecutor runs tasks by the first word of their data:
//
//	finish      RUNNING, then FINISHED
//	run         RUNNING until killed, or until the file <task> is in the sandbox
//	deaf        as run, but ignores KILL and SHUTDOWN
//	exit        RUNNING, then the process exits with status 3
//	memory N    RUNNING, then a child that holds N MB
//	disk N      RUNNING, then N MB in the file filler, or as many as there is room for; filled when done
//	daemon      RUNNING, and a grandchild in a session of its own: its PID in daemon
type testExecutor struct {
	cfg config.Config
	cli calls.Sender
	sub calls.Sender

	mu      sync.Mutex
	tasks   map[mesos.TaskID]mesos.TaskInfo
	updates []executor.Call_Update // in order, until acknowledged
	deaf    atomic.Bool
}

func runExecutor(codec string) {
	cfg, err := config.FromEnv()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println("executor starts", os.Getpid())
	if err := os.WriteFile("pid", []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	signal.Ignore(syscall.SIGHUP)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil { // as a good executor does
		fmt.Fprintln(os.Stderr, err)
	}
	options := []httpcli.Opt{
		httpcli.Endpoint("http://" + cfg.AgentEndpoint + "/api/v1/executor"),
		httpcli.Codec(map[string]encoding.Codec{"json": codecs.ByMediaType[codecs.MediaTypeJSON],
			"protobuf": codecs.ByMediaType[codecs.MediaTypeProtobuf]}[codec]),
	}
	if token := os.Getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"); token != "" {
		options = append(options, httpcli.DefaultHeader("Authorization", "Bearer "+token))
	}
	cli := httpcli.New(options...)
	ids := executor.CallOptions{calls.Framework(cfg.FrameworkID), calls.Executor(cfg.ExecutorID)}
	e := &testExecutor{
		cfg: cfg, tasks: map[mesos.TaskID]mesos.TaskInfo{},
		cli: calls.SenderWith(httpexec.NewSender(cli.Send), ids...),
		sub: calls.SenderWith(httpexec.NewSender(cli.Send, httpcli.Close(true)), ids...),
	}
	for {
		e.session()
		if !cfg.Checkpoint && !e.deaf.Load() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (e *testExecutor) session() {
	e.mu.Lock()
	subscribe := calls.Subscribe(nil, nil)
	for _, t := range e.tasks {
		subscribe.Subscribe.UnacknowledgedTasks = append(subscribe.Subscribe.UnacknowledgedTasks, t)
	}
	subscribe.Subscribe.UnacknowledgedUpdates = slices.Clone(e.updates)
	e.mu.Unlock()
	response, err := e.sub.Send(context.Background(), calls.NonStreaming(subscribe))
	if err != nil {
		return
	}
	defer response.Close()
	for {
		var event executor.Event
		if response.Decode(&event) != nil {
			return
		}
		e.handle(event)
	}
}

func (e *testExecutor) handle(event executor.Event) {
	switch event.Type {
	case executor.Event_SUBSCRIBED:
		fmt.Println("subscribed")
	case executor.Event_LAUNCH:
		e.mu.Lock()
		e.tasks[event.Launch.Task.TaskID] = event.Launch.Task
		e.mu.Unlock()
		go e.run(event.Launch.Task)
	case executor.Event_KILL:
		if !e.deaf.Load() {
			go e.update(event.Kill.TaskID, mesos.TASK_KILLED)
		}
	case executor.Event_ACKNOWLEDGED:
		e.mu.Lock()
		delete(e.tasks, event.Acknowledged.TaskID)
		e.updates = slices.DeleteFunc(e.updates, func(u executor.Call_Update) bool {
			return bytes.Equal(u.Status.UUID, event.Acknowledged.UUID)
		})
		e.mu.Unlock()
	case executor.Event_MESSAGE:
		go e.send(calls.Message(append([]byte("echo "), event.Message.Data...)))
	case executor.Event_SHUTDOWN:
		fmt.Println("shutdown")
		if !e.deaf.Load() {
			os.Exit(0)
		}
	}
}

func (e *testExecutor) run(task mesos.TaskInfo) {
	word, rest, _ := strings.Cut(string(task.Data), " ")
	if word == "deaf" {
		e.deaf.Store(true)
	}
	e.update(task.TaskID, mesos.TASK_RUNNING)
	switch word {
	case "finish":
		fmt.Println("ran", task.TaskID.Value)
		e.update(task.TaskID, mesos.TASK_FINISHED)
	case "exit":
		os.Exit(3)
	case "memory":
		script := fmt.Sprintf(`(x=$(head -c %s000000 /dev/zero | tr '\0' x); sleep 1000; :) & wait`, rest)
		_ = exec.Command("sh", "-c", script).Run()
	case "disk":
		mb, _ := strconv.Atoi(rest)
		_ = os.WriteFile("filler", make([]byte, mb<<20), 0o600)
		_ = os.Rename("filler", "filled")
	case "daemon":
		script := `setsid sh -c 'setsid sh -c "trap : TERM HUP; echo \$\$ > new; mv new daemon; while :; do sleep 1; done" &' &`
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // as executors do for their tasks
		_ = cmd.Run()
	case "run", "deaf":
		for {
			if _, err := os.Stat(task.TaskID.Value); err == nil {
				e.update(task.TaskID, mesos.TASK_FINISHED)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (e *testExecutor) update(task mesos.TaskID, state mesos.TaskState) {
	id := uuid.New()
	call := calls.Update(mesos.TaskStatus{
		TaskID: task, State: &state, Source: mesos.SOURCE_EXECUTOR.Enum(), UUID: id[:],
		ExecutorID: &mesos.ExecutorID{Value: e.cfg.ExecutorID},
	})
	e.mu.Lock()
	e.updates = append(e.updates, *call.Update)
	e.mu.Unlock()
	e.send(call)
}

// send gives up at once: what is lost comes again with the next subscription.
func (e *testExecutor) send(call *executor.Call) {
	response, err := e.cli.Send(context.Background(), calls.NonStreaming(call))
	if response != nil {
		response.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, call.Type, err)
	}
}

func TestDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"15mins": 15 * time.Minute, "90secs": 90 * time.Second, "2secs": 2 * time.Second, "1500ms": 1500 * time.Millisecond,
		"1days": 24 * time.Hour, "0ns": 0, "7ns": 7,
	} {
		if got := duration(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestRawString(t *testing.T) {
	in := []byte("a\"b\\c\n\t\x00\xff\xc3")
	if got, want := rawString(in), []byte("a\\\"b\\\\c\\n\\t\\u0000\xff\xc3"); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
