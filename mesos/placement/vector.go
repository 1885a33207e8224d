package placement

import "math"

// Vector is an amount of each resource in thousandths: of a CPU, a megabyte, a
// GPU, a port, a megabit per second. Mesos itself computes with three decimals (src/common/values.cpp), so sums
// and differences here are exact where floats would drift.
type Vector [8]int64

// The dimensions of a Vector.
const (
	CPUs = iota
	Mem
	Disk
	GPUs
	Ports
	Network
	// What Mesos may take back at any moment (revocable resources).
	RevocableCPUs
	RevocableMem
)

// Milli converts a scalar as Mesos does: to three decimals, rounded.
func Milli(scalar float64) int64 { return int64(math.Round(scalar * 1000)) }

// Add gives the sum.
func (v Vector) Add(w Vector) Vector {
	for i := range v {
		v[i] += w[i]
	}
	return v
}

// Sub gives the difference.
func (v Vector) Sub(w Vector) Vector {
	for i := range v {
		v[i] -= w[i]
	}
	return v
}

// Max gives the larger of the two in each dimension.
func (v Vector) Max(w Vector) Vector {
	for i := range v {
		v[i] = max(v[i], w[i])
	}
	return v
}

// Fits tells whether v can be taken out of free.
func (v Vector) Fits(free Vector) bool {
	for i := range v {
		if v[i] > free[i] {
			return false
		}
	}
	return true
}

// within is Fits, for the many that are looked at to place one task.
func (v *Vector) within(free *Vector) bool {
	for i := range v {
		if v[i] > free[i] {
			return false
		}
	}
	return true
}

// Share is the dominant share of v in total, between 0 and 1: the largest part
// that it has of any resource (Ghodsi et al., "Dominant Resource Fairness").
func (v Vector) Share(total Vector) float64 {
	share := 0.0
	for i := range v {
		if total[i] > 0 {
			share = max(share, float64(v[i])/float64(total[i]))
		}
	}
	return share
}
