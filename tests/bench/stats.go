package main

import "slices"

// Spread is the middle and the ends of some measurements.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spread panics without any values. The median of an even number is the mean of the
// two in the middle.
func spread(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// ratios divides run by run: the two values of a run were measured next to each other.
func ratios(ours, floor []float64) []float64 {
	out := make([]float64, min(len(ours), len(floor)))
	for i := range out {
		out[i] = ours[i] / floor[i]
	}
	return out
}
