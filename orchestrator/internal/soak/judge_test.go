package soak

import (
	"math"
	"strings"
	"testing"
	"time"
)

// hour is an hour of a measure, sampled every ten seconds.
func hour(value func(minute float64) float64) []sample {
	var samples []sample
	for at := time.Duration(0); at <= time.Hour; at += 10 * time.Second {
		taken := sample{at, map[string]float64{}}
		if value := value(at.Minutes()); !math.IsNaN(value) {
			taken.values["it"] = value
		}
		samples = append(samples, taken)
	}
	return samples
}

func TestJudge(t *testing.T) {
	tests := []struct {
		name   string
		value  func(minute float64) float64
		isFlat bool
	}{
		{"always the same", func(float64) float64 { return 100 }, true},
		{"grows at first", func(minute float64) float64 { return 10 * min(minute, 10) }, true},
		{"up and down", func(minute float64) float64 { return 100 + 90*math.Sin(minute*3) }, true},
		{"less in the end", func(minute float64) float64 { return 200 - minute }, true},
		{"one peak", func(minute float64) float64 {
			if int(minute) == 59 {
				return 1000
			}
			return 100
		}, true},
		{"within the allowance", func(minute float64) float64 { return 100 + minute/5 }, true},
		{"grows slowly", func(minute float64) float64 { return 100 + minute }, false},
		{"grows from nothing", func(minute float64) float64 { return minute }, false},
		{"grows up and down", func(minute float64) float64 { return 100 + minute + 30*math.Sin(minute*3) }, false},
		{"is not seen at the end", func(minute float64) float64 {
			if minute > 40 {
				return math.NaN()
			}
			return 100
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			verdicts := judge(hour(test.value), 10*time.Minute, func(string) allowance { return allowance{0.1, 5, "things"} })
			if len(verdicts) != 1 || verdicts[0].isFlat != test.isFlat {
				t.Errorf("%+v; want flat: %t", verdicts, test.isFlat)
			}
		})
	}
}

func TestVerdictsAreATable(t *testing.T) {
	var written strings.Builder
	verdicts := judge(hour(func(minute float64) float64 { return minute }), 10*time.Minute,
		func(string) allowance { return allowance{0.1, 5, "things"} })
	if err := writeVerdicts(&written, 10*time.Minute, verdicts); err != nil {
		t.Fatal(err)
	}
	want := "  measure  start  from 10m0s  end  most    unit  flat\n" +
		"       it      0          18   52    60  things    NO\n"
	if written.String() != want {
		t.Errorf("got\n%swant\n%s", written.String(), want)
	}
}
