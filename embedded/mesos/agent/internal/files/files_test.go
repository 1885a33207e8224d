package files

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// A path that is swapped for a link while it is being opened never leads
// outside.
func TestSwap(t *testing.T) {
	outer := t.TempDir()
	root := filepath.Join(outer, "root")
	secret := filepath.Join(outer, "secret")
	for _, err := range []error{
		os.Mkdir(root, 0o755), os.WriteFile(secret, []byte("secret"), 0o600),
		os.WriteFile(filepath.Join(root, "good"), []byte("good"), 0o600), os.Symlink(secret, filepath.Join(root, "bad")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(root, "name")
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			from := []string{"good", "bad"}[i%2]
			temporary := filepath.Join(root, "temporary")
			if from == "good" {
				_ = os.Link(filepath.Join(root, from), temporary)
			} else {
				_ = os.Symlink(secret, temporary)
			}
			_ = os.Rename(temporary, name)
			_ = os.Remove(temporary) // left when both were the same file
		}
	})
	resolve := func(string) (Root, bool) { return Root{Real: root, Rest: "name"}, true }
	var good int
	for range 5000 {
		_, data, err := Read(resolve, "x", 0, -1)
		if string(data) == "secret" {
			t.Error("read what lies outside")
			break
		}
		if err == nil {
			good++
		}
	}
	close(stop)
	swapper.Wait()
	if good == 0 {
		t.Error("never read what lies inside")
	}
}

func TestErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		root Root
		ok   bool
		want error
	}{
		"no root":        {Root{}, false, ErrNotFound},
		"root gone":      {Root{Real: file + "x"}, true, ErrNotFound},
		"up":             {Root{Real: filepath.Dir(file), Rest: "../x"}, true, ErrInvalid},
		"root directory": {Root{Real: filepath.Dir(file)}, true, ErrInvalid},
		"good":           {Root{Real: file}, true, nil},
	} {
		_, _, err := Read(func(string) (Root, bool) { return test.root, test.ok }, name, 0, -1)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if _, _, err := Read(func(string) (Root, bool) { return Root{Real: file, Rest: "below"}, true }, "", 0, -1); err == nil {
		t.Error("read below a file")
	}
}

func TestMode(t *testing.T) {
	for want, mode := range map[string]uint32{
		"-rw-r--r--": syscall.S_IFREG | 0o644, "drwxr-x---": syscall.S_IFDIR | 0o750, "lrwxrwxrwx": syscall.S_IFLNK | 0o777,
		"prw-------": syscall.S_IFIFO | 0o600, "srw-------": syscall.S_IFSOCK | 0o600,
	} {
		if got := Mode(mode); got != want {
			t.Errorf("%o: %s, want %s", mode, got, want)
		}
	}
}
