package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/baas-batch/baas/tests/harness"
)

// What a task enters in the ledger.
const (
	Began    = "start"
	Ended    = "end"     // it has done its work and is about to exit with 0
	Failed   = "fail"    // it is about to exit with 75, as it was told to
	Resumed  = "resume"  // it goes on from a checkpoint
	Overlaps = "overlap" // at its start another process of its partition lives
)

// Partition names one task of a flow.
type Partition struct {
	Step  string
	Index int
}

func (p Partition) String() string { return fmt.Sprintf("%s[%d]", p.Step, p.Index) }

// Entry is one line of a ledger.
type Entry struct {
	Partition
	Kind    string
	Attempt int
	PID     int
	At      time.Time
	Agent   int // index in the cluster; -1 when the directory does not tell
}

func (e Entry) String() string {
	return fmt.Sprintf("%s of %s, attempt %d, process %d on agent %d at %s", e.Kind, e.Partition, e.Attempt, e.PID, e.Agent,
		e.At.Format("15:04:05.000"))
}

// Ledger is what the tasks of a run have entered, in order.
type Ledger []Entry

func readLedger(path string) (Ledger, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all Ledger
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		if len(words) != 7 {
			return nil, fmt.Errorf("ledger: %q", line)
		}
		numbers := [4]int64{}
		for i := range numbers {
			if numbers[i], err = strconv.ParseInt(words[2+i], 10, 64); err != nil {
				return nil, fmt.Errorf("ledger: %q: %w", line, err)
			}
		}
		all = append(all, Entry{
			Partition: Partition{words[1], int(numbers[0])}, Kind: words[0], Attempt: int(numbers[1]),
			PID: int(numbers[2]), At: time.Unix(0, numbers[3]), Agent: agentOf(words[6]),
		})
	}
	return all, nil
}

// agentOf finds an agent's index in a path below its work directory.
func agentOf(path string) int {
	words := strings.Split(filepath.ToSlash(path), "/")
	for i, word := range words[:len(words)-1] {
		if n, err := strconv.Atoi(words[i+1]); word == "agents" && err == nil {
			return n
		}
	}
	return -1
}

// Of gives the entries of one kind.
func (l Ledger) Of(kind string) Ledger {
	var some Ledger
	for _, e := range l {
		if e.Kind == kind {
			some = append(some, e)
		}
	}
	return some
}

// Living gives the entries of kind Began whose process lives.
func (l Ledger) Living() Ledger {
	var some Ledger
	for _, e := range l.Of(Began) {
		if _, ok := harness.LookUp(e.PID); ok {
			some = append(some, e)
		}
	}
	return some
}
