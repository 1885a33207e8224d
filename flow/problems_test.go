package flow

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "write the problems that were found into testdata/problems.txt")

// appFiles is the directory of the app whose flow files are tested.
var appFiles = fstest.MapFS{
	"render.sh":     {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
	"plain.sh":      {Data: []byte("#!/bin/sh\n"), Mode: 0o644},
	"lib/tool.sh":   {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
	"accounts.csv":  {Data: []byte("a,b\n"), Mode: 0o644},
	"count.yaml":    {Data: []byte("name: count\nversion: 1.2.3\ninputs:\n  text: {type: file, description: What to count}\n  by: {type: string, default: words, choices: [words, lines]}\n  limit: {type: int, required: false}\noutputs: {n: int}\nrun: ./lib/tool.sh\ntimeout: 5m\nresources: {mem: 64MB}\ncheckpoint: true\n"), Mode: 0o644},
	"broken.yaml":   {Data: []byte("name: Broken\nverison: 1\nrun: echo ${{ x }}\n"), Mode: 0o644},
	"walk.yaml":     {Data: []byte("name: walk\nversion: 1.0.0\ninputs: {tree: directory}\nrun: ls \"$BAAS_INPUT_TREE\"\n"), Mode: 0o644},
	"nothing.yaml":  {Data: []byte("# nothing\n"), Mode: 0o644},
	"versions.yaml": {Data: []byte("name: v\nversion: one\nrun: x\ninputs: {a: {type: file, default: x}, A: int}\n"), Mode: 0o644},
}

// fakeCatalog is a catalogue of one tasklet.
type fakeCatalog struct{ t *Tasklet }

func (c fakeCatalog) Names() []string { return []string{"csv-split"} }

func (c fakeCatalog) Find(name, version string) (*Tasklet, error) {
	switch {
	case name != c.t.Name:
		return nil, &UnknownTaskletError{Name: name, Version: version}
	case version != "1" && version != c.t.Version:
		return nil, &UnknownTaskletError{Name: name, Version: version, Versions: []string{c.t.Version}}
	}
	return c.t, nil
}

const splitTasklet = `
name: csv-split
version: 1.0.0
inputs:
  file: file
  by: {type: string, pattern: '[a-z_]+'}
  parts: {type: int, default: 10}
outputs: {parts: files}
run: |
  awk 1 "$BAAS_INPUT_FILE"
`

func appOptions(t testing.TB) Options {
	t.Helper()
	tasklet, err := ParseTasklet("csv-split.yaml", []byte(splitTasklet), nil)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Files: appFiles, Catalog: fakeCatalog{tasklet}}
}

// The cases stand in testdata/problems.txt: "=== title", the file, ">>>", and
// what is said about it.
func TestProblems(t *testing.T) {
	const file = "testdata/problems.txt"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(raw), "=== ")[1:]
	if len(blocks) < 100 {
		t.Errorf("%d cases, want at least 100", len(blocks))
	}
	opts := appOptions(t)
	var out strings.Builder
	for _, block := range blocks {
		title, rest, _ := strings.Cut(block, "\n")
		src, want, ok := strings.Cut(rest, "\n>>>\n")
		if !ok {
			t.Fatalf("%s: no >>> line", title)
		}
		want = strings.TrimSpace(want)
		_, err := Parse("f.yaml", []byte(unescape(src)), opts)
		got := "fine"
		var problems Problems
		if errors.As(err, &problems) {
			got = problems.Error()
		}
		out.WriteString("=== " + title + "\n" + src + "\n>>>\n" + got + "\n\n")
		if got != want && !*update {
			t.Errorf("%s\n%s\n got: %s\nwant: %s", title, src, got, want)
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// unescape lets a case hold bytes that the file of cases cannot.
func unescape(s string) string {
	return strings.NewReplacer("<TAB>", "\t", "<BELL>", "\a", "<NOTUTF8>", "\xff", "<CR>", "\r", "<BOM>", "\ufeff", "<LS>", "\u2028", "<EMPTY>", "").Replace(s)
}
