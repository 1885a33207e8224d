package footprint

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// TestMain measures before anything else, as the program does.
func TestMain(m *testing.M) {
	before = mapped()
	failed = Shrink()
	after = mapped()
	os.Exit(m.Run())
}

var (
	before, after int // KiB
	failed        error
)

// mapped is how much of files is mapped into this process, in KiB.
func mapped() (kib int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return -1
	}
	_, rest, _ := strings.Cut(string(status), "RssFile:")
	fmt.Sscan(rest, &kib)
	return kib
}

func TestShrink(t *testing.T) {
	if failed != nil {
		t.Fatal(failed)
	}
	if after <= 0 || after >= before {
		t.Errorf("%d KiB of files were mapped before, %d after", before, after)
	}
	if percent := debug.SetGCPercent(gcPercent); percent != gcPercent {
		t.Errorf("garbage is collected at %d %%", percent)
	}
}
