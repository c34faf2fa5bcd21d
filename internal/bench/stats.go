package main

import (
	"math"
	"slices"
	"time"
)

// quantiles are the ones that are shown, in per mille.
func quantiles() []int { return []int{500, 900, 990, 999} }

// quantile is the smallest sample that so many per mille of the sorted samples do not exceed (nearest rank).
func quantile(sorted []time.Duration, perMille int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(float64(len(sorted)) * float64(perMille) / 1000))
	return sorted[max(rank, 1)-1]
}

// spread is the quantiles of samples, which it sorts.
func spread(samples []time.Duration) []time.Duration {
	slices.Sort(samples)
	var q []time.Duration
	for _, p := range quantiles() {
		q = append(q, quantile(samples, p))
	}
	return q
}

// median is the middle value; the lower one of two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
