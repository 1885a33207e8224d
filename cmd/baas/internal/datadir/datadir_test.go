package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestUpFollowsTheLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Up(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a directory: %v", err)
	}
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Up(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("while it starts: %v", err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock while it starts: %v", err)
	}
	want := State{PID: os.Getpid(), Started: time.Unix(1, 0).UTC(), Temporal: "127.0.0.1:7233", Storage: "file:///x?gateway=y"}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := Up(dir); err != nil || got != want {
		t.Errorf("up: got %+v, %v", got, err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its end: %v", err)
	}
	if got, err := Last(dir); err != nil || got != want {
		t.Errorf("last: got %+v, %v", got, err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o066 != 0 {
		t.Errorf("others can read or write the directory: %v, %v", info.Mode(), err)
	}
}

func TestDefault(t *testing.T) {
	env := map[string]string{"HOME": "/home/ann", "XDG_DATA_HOME": "/data"}
	getenv := func(name string) string { return env[name] }
	if dir, err := Default(getenv); err != nil || dir != "/data/baas" {
		t.Errorf("got %s, %v", dir, err)
	}
	env["XDG_DATA_HOME"] = "relative" // the specification says to ignore it
	if dir, err := Default(getenv); err != nil || !filepath.IsAbs(dir) || filepath.Base(dir) != "baas" {
		t.Errorf("got %s, %v", dir, err)
	}
	env["HOME"] = ""
	if _, err := Default(getenv); err == nil {
		t.Error("no error without a home")
	}
}
