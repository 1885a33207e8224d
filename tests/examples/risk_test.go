package examples

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/harness"
)

const (
	paths  = 2_000_000
	months = 12
	// Bounds of what is taken for chance, in standard errors of the estimate.
	tolerance = 5
)

// The figures are compared with the closed form of the model that is simulated,
// and with those of a run one of whose simulations was killed half-way.
func TestRisk(t *testing.T) {
	p := harness.Start(t)
	c := harness.Client(p)
	dir := app(t, "risk")
	harness.Build(t, filepath.Join(dir, "bin", "var"), "examples/risk/var")
	args := map[string]string{"paths": strconv.Itoa(paths), "months": strconv.Itoa(months)}

	run := succeeded(t, c, begin(t, c, dir, args))
	checkFigures(t, run)
	checkTable(t, c, run)

	id := begin(t, c, dir, args)
	partition := killHalfWay(t, p.Store, id)
	broken := succeeded(t, c, id)
	if s, _ := broken.Step("simulate"); s.Retries != 1 {
		t.Errorf("%d retries after one kill", s.Retries)
	}
	for i, at := range output[[]int](t, broken, "simulate", "resumed_at") {
		if resumed := at > 0 && at < paths; resumed != (i == partition) || !resumed && at != 0 {
			t.Errorf("partition %d went on at path %d; partition %d was killed", i, at, partition)
		}
	}
	for _, name := range []string{"var95", "var99", "shortfall99"} {
		whole, resumed := output[[]float64](t, run, "simulate", name), output[[]float64](t, broken, "simulate", name)
		if !slices.Equal(whole, resumed) {
			t.Errorf("%s is %v in one go and %v after a kill", name, whole, resumed)
		}
	}
}

// killHalfWay kills a simulation of a run that has made a checkpoint, and tells
// its partition.
func killHalfWay(t *testing.T, store storage.Store, run string) int {
	t.Helper()
	var pid, partition int
	harness.Eventually(t, "no simulation makes a checkpoint", func() bool {
		for p, env := range tasks(t, run) {
			if env[tasklet.EnvStep] != "simulate" {
				continue
			}
			if !halfWay(env) || syscall.Kill(p, syscall.SIGSTOP) != nil {
				continue
			}
			if !halfWay(env) {
				_ = syscall.Kill(p, syscall.SIGCONT)
				continue
			}
			var err error
			if partition, err = strconv.Atoi(env[tasklet.EnvPartition]); err != nil {
				t.Fatal(err)
			}
			pid = p
			return true
		}
		return false
	})
	prefix := api.CheckpointPrefix(api.StepPrefix("risk", run, "simulate"), partition)
	harness.Eventually(t, "the checkpoint is not stored", func() bool {
		for _, err := range storage.All(t.Context(), store, storage.ListOptions{Prefix: prefix}) {
			if err != nil {
				t.Fatal(err)
			}
			return true
		}
		return false
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return partition
}

// halfWay tells whether a simulation has made a checkpoint, and not its last one.
func halfWay(env map[string]string) bool {
	name, err := os.ReadFile(filepath.Join(env[tasklet.EnvCheckpoint], tasklet.CommitFile))
	if err != nil {
		return false
	}
	at, err := strconv.Atoi(string(name))
	return err == nil && at < paths
}

// tasks finds the processes of a run, and their environments.
func tasks(t *testing.T, run string) map[int]map[string]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int]map[string]string)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended, or is somebody else's
		}
		env := make(map[string]string)
		for _, entry := range bytes.Split(data, []byte{0}) {
			name, value, _ := strings.Cut(string(entry), "=")
			env[name] = value
		}
		if env[tasklet.EnvRun] != run {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		found[pid] = env
	}
	return found
}

// returns reads the monthly logarithmic returns of each security.
func returns(t *testing.T) map[string][]float64 {
	t.Helper()
	last, list := make(map[string]float64), make(map[string][]float64)
	for _, row := range table(t, "risk/data/prices.csv") {
		price, err := strconv.ParseFloat(row[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := last[row[0]]; ok {
			list[row[0]] = append(list[row[0]], math.Log(price)-math.Log(before))
		}
		last[row[0]] = price
	}
	return list
}

// model is the loss 1 - exp(X) of a position, X normally distributed.
type model struct{ mean, deviation float64 }

func newModel(returns []float64) model {
	sum, squares, n := 0.0, 0.0, float64(len(returns))
	for _, r := range returns {
		sum += r
		squares += r * r
	}
	variance := (squares - sum*sum/n) / (n - 1)
	return model{months * sum / n, math.Sqrt(months * variance)}
}

// quantile inverts the standard normal distribution, phi is its density.
func quantile(p float64) float64     { return math.Sqrt2 * math.Erfinv(2*p-1) }
func distribution(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
func phi(x float64) float64          { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }

// valueAtRisk gives the loss that is exceeded with probability 1-q, and the
// standard error of its estimate from n paths: sqrt(q(1-q)/n) over the density
// of the loss there.
func (m model) valueAtRisk(q, n float64) (value, deviation float64) {
	z := quantile(1 - q)
	left := math.Exp(m.mean + m.deviation*z)
	density := phi(z) / (m.deviation * left)
	return 1 - left, math.Sqrt(q*(1-q)/n) / density
}

// shortfall gives the mean of the losses over the value at risk, and the standard
// error of its estimate: that of the mean of a tail whose beginning is estimated too.
func (m model) shortfall(q, n float64) (value, deviation float64) {
	z, s := quantile(1-q), m.deviation
	// Moments of exp(X) where X is below its quantile.
	first := math.Exp(m.mean+s*s/2) * distribution(z-s) / (1 - q)
	second := math.Exp(2*m.mean+2*s*s) * distribution(z-2*s) / (1 - q)
	excess := (1 - first) - (1 - math.Exp(m.mean+s*z))
	return 1 - first, math.Sqrt((second - first*first + q*excess*excess) / (n * (1 - q)))
}

func checkFigures(t *testing.T, run starter.Run) {
	t.Helper()
	history := returns(t)
	symbols := output[[]string](t, run, "securities", "symbols")
	if want := slices.Sorted(maps.Keys(history)); !slices.Equal(symbols, want) {
		t.Fatalf("securities %v, want %v", symbols, want)
	}
	for i, symbol := range symbols {
		m := newModel(history[symbol])
		for name, exact := range map[string]func() (float64, float64){
			"var95":       func() (float64, float64) { return m.valueAtRisk(0.95, paths) },
			"var99":       func() (float64, float64) { return m.valueAtRisk(0.99, paths) },
			"shortfall99": func() (float64, float64) { return m.shortfall(0.99, paths) },
		} {
			want, deviation := exact()
			have := output[[]float64](t, run, "simulate", name)[i]
			t.Logf("%-5s %-12s %.5f, exactly %.5f: %+.2f standard errors", symbol, name, have, want, (have-want)/deviation)
			if math.Abs(have-want) > tolerance*deviation {
				t.Errorf("%s of %s is %.5f, want %.5f within %d standard errors of %.5f", name, symbol, have, want, tolerance, deviation)
			}
		}
	}
}

// checkTable checks that the report has the figures in their places.
func checkTable(t *testing.T, c *starter.Client, run starter.Run) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(download(t, c, run, "report", "report")["report"]), "\n")
	symbols := output[[]string](t, run, "securities", "symbols")
	if len(lines) != 2+len(symbols) {
		t.Fatalf("the report has %d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	for i, symbol := range symbols {
		want := symbol
		for _, name := range []string{"var95", "var99", "shortfall99"} {
			want += fmt.Sprintf(" %.4f", output[[]float64](t, run, "simulate", name)[i])
		}
		if have := strings.Join(strings.Fields(lines[2+i]), " "); have != want {
			t.Errorf("the report has %q, want %q", have, want)
		}
	}
}
