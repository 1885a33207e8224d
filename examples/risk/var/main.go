// Command var is one step of the risk example: the value at risk of one security.
// It simulates the price with monthly logarithmic returns that are normally
// distributed as in the history, and makes a checkpoint after each batch of paths.
package main

import (
	"encoding/csv"
	"encoding/json"
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

// A checkpoint is made after each batch of paths: twenty in all, but not for less
// than the least batch, since each holds all losses so far.
const (
	checkpoints = 20
	leastBatch  = 10_000
)

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
	h := fnv.New64a()
	io.WriteString(h, symbol)
	s := &state{source: rand.NewPCG(uint64(seed), h.Sum64()), losses: make([]float64, 0, paths)}
	if err := s.restore(os.Getenv("BAAS_CHECKPOINT")); err != nil {
		return err
	}
	resumedAt := len(s.losses)
	if resumedAt > 0 {
		fmt.Printf("%s: going on at path %d\n", symbol, resumedAt)
	}
	mean, deviation := moments(returns)
	random := rand.New(s.source)
	batch := max(leastBatch, paths/checkpoints)
	for len(s.losses) < paths {
		for range min(batch, paths-len(s.losses)) {
			s.losses = append(s.losses, loss(random, mean, deviation, months))
		}
		if err := s.save(os.Getenv("BAAS_CHECKPOINT")); err != nil {
			return err
		}
		progress := fmt.Sprintf("%d/%d %s", len(s.losses), paths, symbol)
		if err := os.WriteFile(os.Getenv("BAAS_PROGRESS"), []byte(progress), 0o644); err != nil {
			return err
		}
	}
	return report(s.losses, resumedAt)
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
