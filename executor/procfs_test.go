package executor

import (
	"io"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// busy starts shells that fork without end, until the test ends.
func busy(t *testing.T, shells int) {
	t.Helper()
	for range shells {
		cmd := exec.Command("sh", "-c", "while :; do /bin/true; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// Others' processes that come and go hide nothing, and make a look hardly longer.
func TestDescendantsOnABusyMachine(t *testing.T) {
	const children = 20
	cmd := exec.Command("sh", "-c", "for i in $(seq 20); do sleep 1000 & done; echo up; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		found, _ := descendants(cmd.Process.Pid, maxPasses)
		for _, p := range found {
			send(p, unix.SIGKILL)
		}
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	busy(t, 4)
	const looks = 60
	var torn, whole int
	var once, passes time.Duration
	for range looks {
		begun := time.Now()
		if _, ok := descendants(cmd.Process.Pid, 1); !ok {
			torn++
		}
		once += time.Since(begun)
		begun = time.Now()
		found, ok := descendants(cmd.Process.Pid, maxPasses)
		passes += time.Since(begun)
		if len(found) != children {
			t.Fatalf("%d processes", len(found))
		}
		if ok {
			whole++
		}
	}
	t.Logf("of %d looks, %d were whole in one pass, which took %s, and %d in at most %d, which took %s",
		looks, looks-torn, once/looks, whole, maxPasses, passes/looks)
	if torn == 0 || whole < looks*3/4 {
		t.Errorf("%d looks torn, %d whole", torn, whole)
	}
}

// What ends while it is looked at is not held to be nothing.
func TestLives(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, ok := readProc(cmd.Process.Pid)
	if !ok || !p.lives() {
		t.Errorf("%+v, %v", p, ok)
	}
	send(p, unix.SIGKILL)
	eventually(t, "zombie", func() bool { return !p.lives() })
	if now, ok := readProc(p.pid); !ok || !now.zombie {
		t.Errorf("%+v, %v", now, ok)
	}
	_ = cmd.Wait()
	if p.lives() {
		t.Error("it lives")
	}
}
