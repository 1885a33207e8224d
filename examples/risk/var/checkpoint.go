package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// state is what a checkpoint holds: with the random source in it, a resumed run
// gives the same figures as one that was never broken.
type state struct {
	source *rand.PCG
	losses []float64
}

// Files of a checkpoint. The first is BAAS's: it names the directory that holds
// the other two.
const (
	commitFile = "commit"
	sourceFile = "source"
	lossesFile = "losses"
)

// restore reads the last checkpoint, if there is one.
func (s *state) restore(dir string) error {
	name, err := committed(dir)
	if err != nil || name == "" {
		return err
	}
	source, err := os.ReadFile(filepath.Join(dir, name, sourceFile))
	if err != nil {
		return err
	}
	if err := s.source.UnmarshalBinary(source); err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(dir, name, lossesFile))
	if err != nil {
		return err
	}
	defer file.Close()
	var number [8]byte
	for r := bufio.NewReader(file); ; {
		_, err := io.ReadFull(r, number[:])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		s.losses = append(s.losses, math.Float64frombits(binary.LittleEndian.Uint64(number[:])))
	}
}

// committed gives the name of the directory that holds the last checkpoint; empty
// when there is none.
func committed(dir string) (string, error) {
	name, err := os.ReadFile(filepath.Join(dir, commitFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(bytes.TrimSpace(name)), err
}

// save writes a new directory and then, by rename, lets the commit file name it.
func (s *state) save(dir string) error {
	previous, err := committed(dir)
	if err != nil {
		return err
	}
	name := strconv.Itoa(len(s.losses))
	if err := s.write(filepath.Join(dir, name)); err != nil {
		return err
	}
	commit := filepath.Join(dir, commitFile)
	if err := os.WriteFile(commit+".new", []byte(name), 0o644); err != nil {
		return err
	}
	if err := os.Rename(commit+".new", commit); err != nil {
		return err
	}
	if previous == "" || previous == name {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, previous))
}

func (s *state) write(dir string) error {
	source, err := s.source.MarshalBinary()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, sourceFile), source, 0o644); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, lossesFile))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	var number [8]byte
	for _, loss := range s.losses {
		binary.LittleEndian.PutUint64(number[:], math.Float64bits(loss))
		w.Write(number[:]) // Flush tells the first error
	}
	return errors.Join(w.Flush(), file.Close())
}
