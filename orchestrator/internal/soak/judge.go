// Package soak runs the program for hours, and judges whether its use of resources stays the same. The run
// itself has the build tag soak: scripts/test --soak.
package soak

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A sample holds one measurement of everything. A measure that could not be taken is missing.
type sample struct {
	at     time.Duration
	values map[string]float64
}

// An allowance is how much larger a measure may be at the end than before: a share of it, plus a constant that small
// numbers need.
type allowance struct {
	share, plus float64
	unit        string
}

// A verdict is the course of a measure: at the start of a run, once it has settled, and at the end.
type verdict struct {
	name                string
	unit                string
	start, settled, end float64
	most                float64
	isFlat              bool
}

// fewestSamples is how many samples each third of the judged time must have.
const fewestSamples = 3

// judge compares the medians of the first and the last third of the time since settled. Regular ups and downs,
// such as dead rows between two autovacuums, have the same median in both.
func judge(samples []sample, settled time.Duration, allowed func(name string) allowance) []verdict {
	names := make(map[string]bool)
	for _, sample := range samples {
		for name := range sample.values {
			names[name] = true
		}
	}
	var end time.Duration
	if len(samples) > 0 {
		end = samples[len(samples)-1].at
	}
	third := (end - settled) / 3
	var verdicts []verdict
	for name := range names {
		limit := allowed(name)
		early := between(samples, name, settled, settled+third)
		late := between(samples, name, end-third, end)
		all := between(samples, name, 0, end)
		v := verdict{name: name, unit: limit.unit, start: all[0], most: slices.Max(all),
			settled: median(early), end: median(late)}
		v.isFlat = len(early) >= fewestSamples && len(late) >= fewestSamples &&
			v.end <= v.settled*(1+limit.share)+limit.plus
		verdicts = append(verdicts, v)
	}
	slices.SortFunc(verdicts, func(a, b verdict) int { return strings.Compare(a.name, b.name) })
	return verdicts
}

func between(samples []sample, name string, from, to time.Duration) []float64 {
	var values []float64
	for _, sample := range samples {
		if value, ok := sample.values[name]; ok && sample.at >= from && sample.at <= to {
			values = append(values, value)
		}
	}
	return values
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// writeVerdicts writes the verdicts as a table.
func writeVerdicts(w io.Writer, settled time.Duration, verdicts []verdict) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "measure\tstart\tfrom %s\tend\tmost\tunit\tflat\t\n", settled.Round(time.Second))
	for _, v := range verdicts {
		flat := "yes"
		if !v.isFlat {
			flat = "NO"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n",
			v.name, number(v.start), number(v.settled), number(v.end), number(v.most), v.unit, flat)
	}
	return table.Flush()
}

func number(value float64) string { return fmt.Sprintf("%.0f", value) }
