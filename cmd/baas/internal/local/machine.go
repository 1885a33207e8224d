package local

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

func machineCPUs() float64 { return float64(runtime.NumCPU()) }

// machineMemMB is the memory that an agent offers when nothing else is said: half
// of the machine's, 2 GB where that is not known.
func machineMemMB() float64 {
	const unknown = 2048
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return unknown
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var kb float64
		if strings.HasPrefix(lines.Text(), "MemTotal:") {
			if _, err := fmt.Sscanf(lines.Text(), "MemTotal: %f kB", &kb); err == nil {
				return kb / 1024 / 2
			}
		}
	}
	return unknown
}
