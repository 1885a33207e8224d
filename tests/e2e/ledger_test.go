package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
		lines = append(lines, strings.Fields(line))
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
