package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen: machines are loaded.
const patience = 2 * time.Minute

// ledger is a file that every task appends to: what really ran, whatever the
// platform believes.
type ledger struct {
	path string
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{filepath.Join(dir(t), "ledger")}
	if err := os.WriteFile(l.path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.path, 0o666); err != nil { // tasks are other users
		t.Fatal(err)
	}
	return l
}

// lines gives the entries, split into words.
func (l *ledger) lines(t *testing.T) [][]string {
	t.Helper()
	data, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]string
	for line := range strings.Lines(string(data)) {
		if strings.HasSuffix(line, "\n") {
			lines = append(lines, strings.Fields(line))
		}
	}
	return lines
}

// count counts the entries of one kind by what they are about.
func (l *ledger) count(t *testing.T, kind string) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, words := range l.lines(t) {
		if len(words) > 1 && words[0] == kind {
			n[words[1]]++
		}
	}
	return n
}

// next waits for the next entry of a kind, and notices it within a millisecond.
func (l *ledger) next(t *testing.T, kind string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for before := len(l.of(t, kind)); len(l.of(t, kind)) == before; time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for an entry %s in the ledger", patience, kind)
		}
	}
}

// of gives the entries of one kind, without its name.
func (l *ledger) of(t *testing.T, kind string) [][]string {
	t.Helper()
	var entries [][]string
	for _, words := range l.lines(t) {
		if len(words) > 0 && words[0] == kind {
			entries = append(entries, words[1:])
		}
	}
	return entries
}

// first waits for the first entry of a kind.
func (l *ledger) first(t *testing.T, kind string) []string {
	t.Helper()
	var entry []string
	eventually(t, patience, "no entry "+kind+" in the ledger", func() bool {
		if entries := l.of(t, kind); len(entries) > 0 {
			entry = entries[0]
		}
		return entry != nil
	})
	return entry
}

// exactlyOnce checks that each of the items has one entry of each kind.
func (l *ledger) exactlyOnce(t *testing.T, items int, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		counts := l.count(t, kind)
		for i := 1; i <= items; i++ {
			if n := counts[strconv.Itoa(i)]; n != 1 {
				t.Errorf("task %d: %d times %q", i, n, kind)
			}
		}
	}
}
