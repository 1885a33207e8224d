// Command var is one step of the risk example: the value at risk of one security
// by simulation of its price, with a checkpoint after each batch of paths.
package main

import (
	"bytes"
	"encoding/csv"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// batch is how many paths lie between two checkpoints.
const batch = 10_000

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "var:", err)
		os.Exit(1)
	}
}

func run() error {
	symbol := os.Getenv("BAAS_INPUT_SYMBOL")
	var paths, months, seed int
	for name, value := range map[string]*int{"PATHS": &paths, "MONTHS": &months, "SEED": &seed} {
		n, err := strconv.Atoi(os.Getenv("BAAS_INPUT_" + name))
		if err != nil {
			return fmt.Errorf("BAAS_INPUT_%s: %w", name, err)
		}
		*value = n
	}
	returns, err := logReturns(os.Getenv("BAAS_INPUT_PRICES"), symbol)
	if err != nil {
		return err
	}
	s, err := restore(os.Getenv("BAAS_CHECKPOINT"))
	if err != nil {
		return err
	}
	resumedAt := len(s.Losses)
	if s.Source == nil {
		h := fnv.New64a()
		io.WriteString(h, symbol)
		s.Source = rand.NewPCG(uint64(seed), h.Sum64())
	} else {
		fmt.Printf("%s: going on at path %d\n", symbol, resumedAt)
	}
	mean, deviation := moments(returns)
	random := rand.New(s.Source)
	for len(s.Losses) < paths {
		for range min(batch, paths-len(s.Losses)) {
			s.Losses = append(s.Losses, loss(random, mean, deviation, months))
		}
		if err := s.save(os.Getenv("BAAS_CHECKPOINT")); err != nil {
			return err
		}
		progress := fmt.Sprintf("%d/%d %s", len(s.Losses), paths, symbol)
		if err := os.WriteFile(os.Getenv("BAAS_PROGRESS"), []byte(progress), 0o644); err != nil {
			return err
		}
	}
	return report(s.Losses, resumedAt)
}

// loss is the share of the position that one simulated path loses.
func loss(random *rand.Rand, mean, deviation float64, months int) float64 {
	sum := 0.0
	for range months {
		sum += mean + deviation*random.NormFloat64()
	}
	return 1 - math.Exp(sum)
}

func report(losses []float64, resumedAt int) error {
	slices.Sort(losses)
	quantile := func(q float64) int { return min(int(q*float64(len(losses))), len(losses)-1) }
	tail := losses[quantile(0.99):]
	shortfall := 0.0
	for _, l := range tail {
		shortfall += l / float64(len(tail))
	}
	data, err := json.Marshal(map[string]any{
		"var95": losses[quantile(0.95)], "var99": losses[quantile(0.99)],
		"shortfall99": shortfall, "resumed_at": resumedAt,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(os.Getenv("BAAS_OUTPUTS"), "outputs.json"), data, 0o644)
}

// logReturns reads the monthly logarithmic returns of one security.
func logReturns(path, symbol string) ([]float64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		return nil, err
	}
	var returns []float64
	last := 0.0
	for _, row := range rows {
		if row[0] != symbol {
			continue
		}
		price, err := strconv.ParseFloat(row[2], 64)
		if err != nil {
			return nil, fmt.Errorf("%s on %s: %w", symbol, row[1], err)
		}
		if last > 0 {
			returns = append(returns, math.Log(price/last))
		}
		last = price
	}
	if len(returns) < 2 {
		return nil, fmt.Errorf("%s has too short a history", symbol)
	}
	return returns, nil
}

func moments(xs []float64) (mean, deviation float64) {
	for _, x := range xs {
		mean += x / float64(len(xs))
	}
	for _, x := range xs {
		deviation += (x - mean) * (x - mean) / float64(len(xs)-1)
	}
	return mean, math.Sqrt(deviation)
}

// state is what a checkpoint holds: with the random source in it, a resumed run
// gives the same figures as one that was never broken.
type state struct {
	Losses []float64
	Source *rand.PCG
}

type saved struct {
	Losses []float64
	Source []byte
}

const stateFile = "state"

// restore reads the checkpoint that the file "commit" names.
func restore(dir string) (*state, error) {
	name, err := os.ReadFile(filepath.Join(dir, "commit"))
	if errors.Is(err, os.ErrNotExist) {
		return &state{}, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, string(bytes.TrimSpace(name)), stateFile))
	if err != nil {
		return nil, err
	}
	var s saved
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&s); err != nil {
		return nil, err
	}
	source := &rand.PCG{}
	return &state{s.Losses, source}, source.UnmarshalBinary(s.Source)
}

// save writes a new directory and then lets "commit" name it, by rename.
func (s *state) save(dir string) error {
	source, err := s.Source.MarshalBinary()
	if err != nil {
		return err
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(saved{s.Losses, source}); err != nil {
		return err
	}
	old, _ := os.ReadFile(filepath.Join(dir, "commit"))
	name := strconv.Itoa(len(s.Losses))
	if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name, stateFile), data.Bytes(), 0o644); err != nil {
		return err
	}
	temp := filepath.Join(dir, "commit.new")
	if err := os.WriteFile(temp, []byte(name), 0o644); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, "commit")); err != nil {
		return err
	}
	if previous := string(bytes.TrimSpace(old)); previous != "" && previous != name {
		return os.RemoveAll(filepath.Join(dir, previous))
	}
	return nil
}
