// Package words formats numbers for people.
package words

import (
	"fmt"
	"time"
)

// Count is a number of things: 1 row, 2 rows. The plural is the singular with an s.
func Count(count int64, thing string) string {
	if count == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", count, thing)
}

// Duration is a duration in common units: 80 ms, 2.5 s, 3 min 20 s, 2 h 5 min. showDuration() of the page's
// scripts returns the same.
func Duration(took time.Duration) string {
	switch {
	case took < time.Millisecond:
		return "less than 1 ms"
	case took.Round(time.Millisecond) < time.Second:
		return fmt.Sprintf("%d ms", took.Round(time.Millisecond).Milliseconds())
	case took.Round(100*time.Millisecond) < time.Minute:
		return fmt.Sprintf("%.1f s", took.Seconds())
	case took.Round(time.Second) < time.Hour:
		seconds := int(took.Round(time.Second).Seconds())
		return fmt.Sprintf("%d min %d s", seconds/60, seconds%60)
	}
	minutes := int(took.Round(time.Minute).Minutes())
	return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
}

// Milliseconds is the Duration of a number of milliseconds, as an event has it.
func Milliseconds(took float64) string {
	return Duration(time.Duration(took * float64(time.Millisecond)))
}
