package mesos

import (
	"os"
	"strings"
	"testing"
)

// What docs/mesos.md quotes of baas explain is, word for word, what the tests of this
// package expect of it.
func TestDocumentedExplanations(t *testing.T) {
	doc := read(t, "../docs/mesos.md")
	tests := read(t, "explain_test.go") + read(t, "constraints_test.go")
	_, chapter, _ := strings.Cut(doc, "### What a refusal looks like")
	_, rest, _ := strings.Cut(chapter, "```\n")
	quoted, _, closed := strings.Cut(rest, "```")
	if !closed || strings.Count(quoted, "\n") < 10 {
		t.Fatalf("docs/mesos.md quotes %q", quoted)
	}
	for line := range strings.Lines(quoted) {
		if line = strings.TrimSpace(line); !strings.Contains(tests, `"`+line+`"`) {
			t.Errorf("no test expects what docs/mesos.md quotes: %s", line)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
