package file

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/stream"
)

// The test binary runs itself as the process that is to be killed.
const (
	envVictim    = "BAAS_TEST_VICTIM"
	envVictimDir = "BAAS_TEST_VICTIM_DIR"
)

func TestMain(m *testing.M) {
	if victim := victims[os.Getenv(envVictim)]; victim != nil {
		s, err := Open(os.Getenv(envVictimDir), Options{})
		if err == nil {
			err = victim(s)
		}
		fmt.Fprintln(os.Stderr, "the victim ended by itself:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A victim prints a line when it is where it shall be killed.
var victims = map[string]func(*Store) error{
	"stuck":      putStuck,
	"part":       partStuck,
	"overwriter": overwriteForever,
}

const halfObject = 8 << 20

func stuckReader() io.Reader {
	return io.MultiReader(io.LimitReader(zeros{}, halfObject), stream.ReadFunc(func([]byte) (int, error) {
		fmt.Println("half-way")
		select {}
	}))
}

func putStuck(s *Store) error {
	_, err := s.Put(context.Background(), "dir/key", stuckReader(), storage.PutOptions{})
	return err
}

func partStuck(s *Store) error {
	id, err := s.CreateUpload(context.Background(), "dir/key")
	if err != nil {
		return err
	}
	_, err = s.putPart(context.Background(), "dir/key", id, 1, stuckReader())
	return err
}

func overwriteForever(s *Store) error {
	fmt.Println("overwriting")
	for round := 0; ; round++ {
		content := bytes.Repeat([]byte{byte(round)}, 300<<10+round%7)
		if _, err := storage.PutBytes(context.Background(), s, "dir/key", content); err != nil {
			return err
		}
	}
}

// startVictim starts it and waits for its line.
func startVictim(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envVictim+"="+name, envVictimDir+"="+dir)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		kill(t, cmd)
		t.Fatalf("the victim said %q, %v", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the victim was not killed")
	}
}

func TestKilledPut(t *testing.T) {
	for _, before := range []string{"", "old content"} {
		dir := t.TempDir()
		s := openStore(t, dir, Options{})
		if before != "" {
			put(t, s, "dir/key", before)
		}
		kill(t, startVictim(t, "stuck", dir))
		if before == "" {
			if _, err := s.Stat(t.Context(), "dir/key"); !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("stat: %v, want ErrNotExist", err)
			}
			if page, err := s.List(t.Context(), storage.ListOptions{}); err != nil || len(page.Items) != 0 {
				t.Errorf("list: %+v, %v; want nothing", page, err)
			}
		} else {
			wantContent(t, s, "dir/key", before)
		}
		wantLeftOvers(t, s)
	}
}

// wantLeftOvers: the test did interrupt something, and a later sweep frees it.
func wantLeftOvers(t *testing.T, s *Store) {
	t.Helper()
	entries, err := readDir(s.root, tempDir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("temporary files after the kill: %v, %v; want one", entries, err)
	}
	if fi, err := entries[0].Info(); err != nil || fi.Size() == 0 {
		t.Errorf("the temporary file: %v, %v; want it half-written", fi, err)
	}
	s.tempAge = time.Nanosecond
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNoTemps(t, s)
}

func TestKilledPart(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	kill(t, startVictim(t, "part", dir))
	uploads, err := s.ListUploads(t.Context(), "")
	if err != nil || len(uploads) != 1 {
		t.Fatalf("uploads: %+v, %v; want one, to be aborted", uploads, err)
	}
	if entries, err := readDir(s.root, partsPath(uploads[0].ID)); err != nil || len(entries) != 0 {
		t.Errorf("parts: %v, %v; want none", entries, err)
	}
	wantLeftOvers(t, s)
	if err := s.AbortUpload(t.Context(), "dir/key", uploads[0].ID); err != nil {
		t.Error(err)
	}
}

// TestKilledAnywhere: whenever the writer dies, a reader finds an object whole.
func TestKilledAnywhere(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	put(t, s, "dir/key", "at the start")
	for range 10 {
		victim := startVictim(t, "overwriter", dir)
		<-time.After(time.Duration(rng.IntN(int(40 * time.Millisecond)))) // the moment is the point
		kill(t, victim)
		b, info, err := storage.GetBytes(t.Context(), s, "dir/key", 1<<20)
		if err != nil || info.Size != int64(len(b)) {
			t.Fatalf("get: %+v, %v", info, err)
		}
		if string(b) == "at the start" {
			continue
		}
		if len(b) < 300<<10 || !bytes.Equal(b, bytes.Repeat(b[:1], len(b))) {
			t.Fatalf("%d bytes that are no single writer's", len(b))
		}
		if page, err := s.List(t.Context(), storage.ListOptions{}); err != nil || len(page.Items) != 1 {
			t.Fatalf("list: %+v, %v; want the one key", page, err)
		}
	}
}
