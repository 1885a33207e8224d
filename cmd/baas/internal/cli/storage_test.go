package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage"
	_ "github.com/baas-batch/baas/storage/file"
)

// storageBench has a real store in a directory.
func storageBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.env["BAAS_STORAGE"] = "file://" + t.TempDir()
	b.program.Parts.OpenStore = func(ctx context.Context, url string) (storage.Store, error) { return storage.Open(ctx, url) }
	return b
}

// says runs a command and gives what it prints.
func (b *bench) says(code int, args ...string) string {
	b.t.Helper()
	b.stdout.b.Reset()
	b.stderr.b.Reset()
	b.expect(code, args...)
	return b.stdout.String() + b.stderr.String()
}

func TestStorage(t *testing.T) {
	b, dir := storageBench(t), t.TempDir()
	other := "file://" + t.TempDir()
	file := filepath.Join(dir, "in.txt")
	if err := os.WriteFile(file, []byte(strings.Repeat("0123456789", 150)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.says(ExitDone, "storage", "put", file, "a/one")
	b.says(ExitDone, "storage", "put", file, "a/b/")
	b.program.Stdin = strings.NewReader("from a pipe")
	b.says(ExitDone, "storage", "put", "-", "c/two")

	if got := b.says(ExitDone, "storage", "ls"); strings.Count(got, "\n") != 3 || !strings.Contains(got, "   1.5 kB  ") || !strings.HasSuffix(got, "  c/two\n") {
		t.Errorf("ls:\n%s", got)
	}
	if got := b.says(ExitDone, "storage", "ls", "a/", "--limit", "1"); !strings.Contains(got, "a/b/in.txt\n") || !strings.Contains(got, "There are more") {
		t.Errorf("ls with a limit:\n%s", got)
	}
	var list []storedObject
	if err := json.Unmarshal([]byte(b.says(ExitDone, "storage", "ls", "c/", "-o", "json")), &list); err != nil || len(list) != 1 || list[0].Size != 11 {
		t.Errorf("ls as JSON: %+v, %v", list, err)
	}
	if got := b.says(ExitDone, "storage", "du", "a/"); got != "   1.5 kB        1 object  a/b/\n   1.5 kB        1 object  a/one\n     3 kB       2 objects  in all\n" {
		t.Errorf("du:\n%s", got)
	}
	if got := b.says(ExitDone, "storage", "get", "c/two", "-"); got != "from a pipe" {
		t.Errorf("get: %q", got)
	}
	out := filepath.Join(dir, "out")
	b.says(ExitDone, "storage", "get", "a/one", out)
	if got, err := os.ReadFile(out); err != nil || len(got) != 1500 {
		t.Errorf("get to a file: %d bytes, %v", len(got), err)
	}
	if got := b.says(ExitDone, "storage", "cp", "a/", "--to", other); got != "2 objects copied, 3 kB\n" {
		t.Errorf("cp: %q", got)
	}
	b.says(ExitDone, "storage", "cp", "c/two", "c/three")
	if got := b.says(ExitDone, "storage", "ls", "--storage", other); !strings.Contains(got, "a/one") || strings.Contains(got, "c/") {
		t.Errorf("the other store:\n%s", got)
	}
	if got := b.says(ExitUsage, "storage", "rm", "a/"); !strings.Contains(got, "2 objects with 3 kB lie below a/; remove them with --yes") {
		t.Errorf("rm without --yes: %q", got)
	}
	b.says(ExitDone, "storage", "rm", "a/", "--yes")
	b.says(ExitDone, "storage", "rm", "c/two")
	if got := b.says(ExitDone, "storage", "ls"); strings.Count(got, "\n") != 1 || !strings.Contains(got, "c/three") {
		t.Errorf("after rm:\n%s", got)
	}
}

func TestStorageMistakes(t *testing.T) {
	b := storageBench(t)
	for _, c := range []struct {
		code int
		args string
		want string
	}{
		{ExitUsage, "lst", `did you mean "ls"?`},
		{ExitUsage, "frobnicate", "expected ls, du, get"},
		{ExitUsage, "get", "usage: baas storage get KEY [FILE]"},
		{ExitUsage, "ls a b", "usage: baas storage ls [PREFIX]"},
		{ExitUsage, "ls --limit 0", "--limit is 0"},
		{ExitUsage, "ls --to file:///x", "--to is for cp"},
		{ExitUsage, "cp a a", "copies a to itself"},
		{ExitUsage, "cp a/ b", "needs another prefix that ends in /"},
		{ExitUsage, "cp a/ a/b/", "needs another prefix that ends in /"},
		{ExitUsage, "put " + t.TempDir() + " a", "is a directory"},
		{ExitNotFound, "get none", "no such object"},
		{ExitNotFound, "rm none", "no such object"},
		{ExitFailed, "get ../x", "invalid key"},
	} {
		if got := b.says(c.code, append([]string{"storage"}, strings.Fields(c.args)...)...); !strings.Contains(got, c.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("storage %s: %q, want %q", c.args, got, c.want)
		}
	}
	if files, err := filepath.Glob("*.part"); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}
