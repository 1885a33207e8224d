package agent

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

func TestDiskQuota(t *testing.T) {
	cfg := settings(t)
	cfg.EnforceDiskQuota, cfg.DiskInterval = true, 50*time.Millisecond
	r := start(t, cfg)
	launch := func(executor, task, data string, disk float64) {
		r.runAs(framework1, mesos.TaskInfo{
			Name: task, TaskID: mesos.TaskID{Value: task}, AgentID: r.ID(), Executor: executorInfo(executor), Data: []byte(data),
			Resources: []mesos.Resource{Scalar("mem", 64), Scalar("disk", disk)},
		})
	}
	launch("roomy", "within", "disk 4", 8)
	launch("e", "neighbour", "run", 1)
	r.master.expect(t, "neighbour", "RUNNING")
	launch("e", "large", "disk 8", 3) // the container has 1+3 MB
	for _, task := range []string{"large", "neighbour"} {
		last := r.master.expect(t, task, "RUNNING FAILED")[1]
		if last.GetReason() != mesos.REASON_CONTAINER_LIMITATION_DISK || last.GetSource() != mesos.SOURCE_AGENT ||
			!strings.HasSuffix(last.GetMessage(), "exceeds quota (4MB)") || sum(last.GetLimitation().GetResources(), "disk") != 4 {
			t.Errorf("status %+v", last)
		}
	}
	r.exited("e 9")
	// What has no disk in its resources is not limited.
	r.run(executorInfo("free"), "free", "disk 8")
	readFile(t, filepath.Join(r.sandbox("free"), "filled"))
	r.master.expect(t, "free", "RUNNING")
	r.master.expect(t, "within", "RUNNING")
}

// smallDiskVariable tells the test binary that it is in a mount namespace of its own.
const smallDiskVariable = "AGENT_TEST_SMALL_DISK"

// The agent's disk is full, really: it is a file system of 8 MB, in a mount
// namespace of its own, which another process of this binary has.
func TestDiskFull(t *testing.T) {
	if os.Getenv(smallDiskVariable) != "" {
		testDiskFull(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), smallDiskVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestDiskFull")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func testDiskFull(t *testing.T) {
	cfg := settings(t)
	if err := os.Mkdir(cfg.WorkDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil { // not seen outside
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", cfg.WorkDir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	t.Cleanup(func() {
		if err := unix.Unmount(cfg.WorkDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	large := make([]byte, 16<<20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(large) }))
	defer server.Close()

	// What is fetched does not fit.
	e := executorInfo("fetches")
	e.Command.URIs = []mesos.CommandInfo_URI{{Value: server.URL + "/large"}}
	r.run(e, "fetch", "run")
	failed := r.master.expect(t, "fetch", "FAILED")[0]
	if failed.GetReason() != mesos.REASON_CONTAINER_LAUNCH_FAILED || !strings.Contains(failed.GetMessage(), "no space left") {
		t.Errorf("status %+v", failed)
	}

	truncate(t, filepath.Join(r.sandbox("fetches"), "large")) // as Mesos, the agent leaves it there

	// A task fills the disk: it goes on, as does the agent, but nothing can be
	// launched until there is room.
	r.run(executorInfo("filler"), "fill", "disk 100")
	eventually(t, "disk full", func() bool { return diskFree(t, cfg.WorkDir) == 0 })
	r.run(executorInfo("late"), "late", "run")
	dropped := r.master.expect(t, "late", "DROPPED")[0]
	if dropped.GetReason() != mesos.REASON_EXECUTOR_TERMINATED || !strings.Contains(dropped.GetMessage(), "no space left") {
		t.Errorf("status %+v", dropped)
	}
	r.master.expect(t, "fill", "RUNNING")
	filled := filepath.Join(r.sandbox("filler"), "filled")
	eventually(t, "end of the writing", func() bool { _, err := os.Stat(filled); return err == nil })
	truncate(t, filled)
	r.run(executorInfo("later"), "later", "finish")
	r.master.expect(t, "later", "RUNNING FINISHED")
}

func truncate(t *testing.T, path string) {
	t.Helper()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
}

func diskFree(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return fs.Bavail
}
