package executor

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func makeFifo(t testing.TB, path string) string {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o666); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}
