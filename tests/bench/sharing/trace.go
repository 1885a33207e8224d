package sharing

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/baas-batch/baas/mesos/placement"
)

// The parameters of the model, as published: natural logarithms of seconds for times,
// logarithms to base 2 for sizes, half hours for the time of day.
const (
	serial, powerOfTwo = 0.244, 0.576 // parts of the jobs that have one task, and 2^n tasks
	sizeLow, sizeMed   = 0.8, 4.5
	sizeHigh, sizePart = 7.0, 0.86 // that part of the larger jobs is between low and med

	shortShape, shortScale = 4.2, 0.94
	longShape, longScale   = 312.0, 0.03
	shortSlope, shortPart  = -0.0054, 0.78 // how many jobs are short, by their number of tasks
	longest                = 12.0

	gapShape, gapScale = 10.2303 * 1.0225, 0.4871
	longestGap         = 13.0
	dayShape, dayScale = 8.1737, 3.9631
	dayStart, dayParts = 11, 48
)

// task is one task of the trace; times are in seconds from its beginning.
type task struct {
	team   int
	submit int64
	lasts  int64
	need   placement.Vector
}

// trace makes the tasks of all teams, oldest first, and tells of how many jobs.
func trace(cfg Config) (tasks []task, jobs int) {
	weights := dayWeights()
	for team := range cfg.Teams {
		rng := rand.New(rand.NewPCG(cfg.Seed, uint64(team)))
		gaps := arrivals{rng: rng, weights: &weights}
		for {
			at := gaps.next()
			if at >= float64(cfg.Days)*86400 {
				break
			}
			n := jobSize(rng)
			lasts := jobTime(rng, n)
			need := jobNeed(rng)
			for range n {
				tasks = append(tasks, task{team, step(at, cfg), step(lasts, cfg), need})
			}
			jobs++
		}
	}
	slices.SortStableFunc(tasks, func(a, b task) int { return cmp.Compare(a.submit, b.submit) })
	return tasks, jobs
}

// step rounds up to a tick.
func step(seconds float64, cfg Config) int64 {
	tick := int64(cfg.Tick.Seconds())
	return max(1, int64(math.Ceil(seconds/float64(tick)))) * tick
}

// jobSize is the number of tasks: one, or a two-stage uniform power of two, which
// mostly is a whole one.
func jobSize(rng *rand.Rand) int {
	u := rng.Float64()
	if u <= serial {
		return 1
	}
	power := sizeLow + rng.Float64()*(sizeMed-sizeLow)
	if rng.Float64() > sizePart {
		power = sizeMed + rng.Float64()*(sizeHigh-sizeMed)
	}
	if u <= serial+powerOfTwo {
		power = math.Round(power)
	}
	return int(math.Round(math.Exp2(power)))
}

// jobTime is how long each task of a job runs: a mixture of two gammas of the
// logarithm.
func jobTime(rng *rand.Rand, tasks int) float64 {
	short := min(1, max(0, shortSlope*float64(tasks)+shortPart))
	for {
		shape, scale := longShape, longScale
		if rng.Float64() <= short {
			shape, scale = shortShape, shortScale
		}
		if log := gamma(rng, shape, scale); log <= longest {
			return math.Exp(log)
		}
	}
}

// jobNeed is what each task of a job needs. The model counts nodes only, so this is
// assumed.
func jobNeed(rng *rand.Rand) placement.Vector {
	pick := func(values, parts []float64) float64 {
		u := rng.Float64()
		for i, part := range parts {
			if u -= part; u < 0 {
				return values[i]
			}
		}
		return values[len(values)-1]
	}
	return placement.Vector{
		placement.CPUs: placement.Milli(pick([]float64{0.5, 1, 2}, []float64{0.3, 0.5, 0.2})),
		placement.Mem:  placement.Milli(1024 * pick([]float64{1, 2, 4, 8}, []float64{0.4, 0.3, 0.2, 0.1})),
	}
}

// arrivals are one team's: gaps as at the busiest time of the day, stretched where
// fewer jobs come.
type arrivals struct {
	rng     *rand.Rand
	weights *[dayParts]float64
	at      float64 // seconds
}

func (a *arrivals) next() float64 {
	log := gamma(a.rng, gapShape, gapScale)
	for log > longestGap {
		log = gamma(a.rng, gapShape, gapScale)
	}
	const part = 86400.0 / dayParts
	for points := math.Exp(log); ; {
		number := math.Floor(a.at / part)
		weight := a.weights[int(number)%dayParts]
		end := (number + 1) * part
		if got := (end - a.at) * weight; got < points {
			points -= got
			a.at = end
			continue
		}
		a.at += points / weight
		return a.at
	}
}

// dayWeights says how many jobs come in each half hour, one being the mean: a gamma
// over the day, taken at the middle of each half hour.
func dayWeights() (weights [dayParts]float64) {
	sum := 0.0
	for i := dayStart; i < dayStart+dayParts; i++ {
		x := float64(i)
		w := math.Pow(x, dayShape-1) * math.Exp(-x/dayScale)
		weights[(i-1)%dayParts] = w
		sum += w
	}
	for i := range weights {
		weights[i] *= dayParts / sum
	}
	return weights
}

// gamma draws from a gamma distribution of a shape of at least one (Marsaglia and
// Tsang, "A Simple Method for Generating Gamma Variables").
func gamma(rng *rand.Rand, shape, scale float64) float64 {
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(rng.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v * scale
		}
	}
}

func teamName(team int) string { return fmt.Sprint("team", team) }
