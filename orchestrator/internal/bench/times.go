// Package bench measures the program on this machine. The measurements are behind the build tag bench:
// scripts/bench runs them.
package bench

import (
	"fmt"
	"slices"
)

// times are how long each run of a way took, in seconds, by the way's name.
type times map[string][]float64

// median does not change the order of the values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio is how many times as long as base a way takes.
func (t times) ratio(way, base string) float64 { return median(t[way]) / median(t[base]) }

// report returns a line with the median of a way, and its ratio to base.
func (t times) report(words, way, base string) string {
	return fmt.Sprintf("%-44s %8.2f s %6.2f times  (%.3f to %.3f)",
		words, median(t[way]), t.ratio(way, base), slices.Min(t[way]), slices.Max(t[way]))
}

// rate returns a line with the rows per second of a way, and its ratio to base.
func (t times) rate(words, way, base string, rows int) string {
	return fmt.Sprintf("%-44s %8.0f rows/s %6.2f times", words, float64(rows)/median(t[way]), t.ratio(base, way))
}
