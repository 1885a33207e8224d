package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/agent/internal/container"
)

var framework = mesos.FrameworkInfo{User: "u", Name: "n", ID: &mesos.FrameworkID{Value: "fw"}}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func filled(t *testing.T, s *Store) *Log {
	t.Helper()
	must(t, s.SaveAgent(mesos.AgentInfo{Hostname: "h", ID: &mesos.AgentID{Value: "agent"}}))
	must(t, s.SaveFramework(framework))
	log, err := s.SaveExecutor(*framework.ID, mesos.ExecutorInfo{ExecutorID: mesos.ExecutorID{Value: "ex"}}, "container")
	must(t, err)
	t.Cleanup(func() { log.Close() })
	return log
}

func task(id string) mesos.Task {
	return mesos.Task{
		Name: id, TaskID: mesos.TaskID{Value: id}, FrameworkID: *framework.ID,
		AgentID: mesos.AgentID{Value: "agent"}, State: mesos.TASK_STAGING.Enum(),
	}
}

func uuid(n byte) []byte { return bytes.Repeat([]byte{n}, 16) }

func status(id string, n byte) mesos.TaskStatus {
	return mesos.TaskStatus{TaskID: mesos.TaskID{Value: id}, State: mesos.TASK_RUNNING.Enum(), UUID: uuid(n)}
}

func recovered(t *testing.T, s *Store) []*TaskState {
	t.Helper()
	frameworks := s.Recover(func(path string, err error) { t.Errorf("%s: %v", path, err) })
	if len(frameworks) != 1 || len(frameworks[0].Executors) != 1 {
		t.Fatalf("recovered %+v", frameworks)
	}
	executor := frameworks[0].Executors[0]
	t.Cleanup(func() { executor.Log.Close() })
	if executor.ContainerID != "container" {
		t.Errorf("container %q", executor.ContainerID)
	}
	return executor.Tasks
}

func TestRecover(t *testing.T) {
	s := open(t, t.TempDir())
	log := filled(t, s)
	must(t, log.Task(task("a")))
	must(t, log.Update(status("a", 1)))
	must(t, log.Task(task("b")))
	must(t, log.Ack(mesos.TaskID{Value: "a"}, uuid(1)))
	must(t, log.Update(status("a", 2)))
	must(t, log.Task(task("c")))
	must(t, log.Complete(mesos.TaskID{Value: "c"}))

	for range 2 { // the first one rewrites the log
		tasks := recovered(t, s)
		if len(tasks) != 2 || tasks[0].Task.TaskID.Value != "a" || tasks[1].Task.TaskID.Value != "b" {
			t.Fatalf("tasks %+v", tasks)
		}
		a := tasks[0]
		if len(a.Updates) != 2 || !a.Acked[string(uuid(1))] || a.Acked[string(uuid(2))] {
			t.Errorf("updates %+v", a)
		}
	}
	info, err := s.Agent()
	must(t, err)
	if info.ID.Value != "agent" {
		t.Errorf("agent %+v", info)
	}
	must(t, s.ForgetAgent())
	if info, err := s.Agent(); err != nil || info != nil {
		t.Errorf("forgotten agent: %v, %v", info, err)
	}
}

// However the last write was cut short, all that came before it is there, and
// what is written next is found.
func TestTornLog(t *testing.T) {
	s := open(t, t.TempDir())
	log := filled(t, s)
	must(t, log.Task(task("a")))
	whole := log.size
	must(t, log.Task(task("b")))
	data, err := os.ReadFile(log.path)
	must(t, err)
	for cut := whole; cut < int64(len(data)); cut++ {
		must(t, os.WriteFile(log.path, data[:cut], 0o600))
		frameworks := s.Recover(func(path string, err error) { t.Errorf("%s: %v", path, err) })
		executor := frameworks[0].Executors[0]
		if len(executor.Tasks) != 1 {
			t.Fatalf("cut at %d: %d tasks", cut, len(executor.Tasks))
		}
		must(t, executor.Log.Task(task("c")))
		must(t, executor.Log.Close())
		if tasks := recovered(t, s); len(tasks) != 2 {
			t.Fatalf("cut at %d: %d tasks after one more", cut, len(tasks))
		}
	}
}

func TestCompletedTasksVanish(t *testing.T) {
	s := open(t, t.TempDir())
	log := filled(t, s)
	must(t, log.Task(task("stays")))
	must(t, log.Update(status("stays", 9)))
	message := strings.Repeat("x", 10_000)
	for i := range 1000 {
		id := fmt.Sprint(i)
		must(t, log.Task(task(id)))
		update := status(id, 1)
		update.Message = &message
		must(t, log.Update(update))
		must(t, log.Complete(mesos.TaskID{Value: id}))
	}
	info, err := os.Stat(log.path)
	must(t, err)
	if info.Size() > 2*compactAt {
		t.Errorf("log of %d bytes for one live task", info.Size())
	}
	if tasks := recovered(t, s); len(tasks) != 1 || len(tasks[0].Updates) != 1 {
		t.Errorf("tasks %+v", tasks)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("second agent: %v", err)
	}
	must(t, s.Close())
	open(t, dir)
}

func TestContainers(t *testing.T) {
	s := open(t, t.TempDir())
	must(t, s.SaveContainer(container.Record{ID: "c", PID: 7}))
	must(t, os.WriteFile(filepath.Join(s.containers(), "torn.json"), []byte("{"), 0o600))
	records, err := s.Containers()
	must(t, err)
	if len(records) != 1 || records["c"].PID != 7 {
		t.Errorf("got %+v", records)
	}
	must(t, s.RemoveContainer("c"))
	must(t, s.RemoveContainer("c"))
}

func TestValidName(t *testing.T) {
	for _, id := range []string{"a", "a.b~c", "...", strings.Repeat("x", MaxName)} {
		must(t, ValidName(id))
	}
	for _, id := range []string{"", ".", "..", "a/b", `a\b`, "a\x00", "a\n", strings.Repeat("x", MaxName+1)} {
		if ValidName(id) == nil {
			t.Errorf("%q was taken", id)
		}
	}
}
