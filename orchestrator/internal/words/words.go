// Package words formats numbers for people.
package words

import (
	"fmt"
	"strconv"
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

// Group is a number with its digits in groups of three: 1,234,567.
func Group(number int64) string {
	text := strconv.FormatInt(number, 10)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// Ago is how long ago something was: 5 s ago, 3 min ago, in 2 h; the day when that is more than a month away.
// showAgo() of the page's scripts returns the same.
func Ago(passed time.Duration, at time.Time) string {
	const day = 24 * time.Hour
	format := "%s ago"
	if passed < 0 {
		format, passed = "in %s", -passed
	}
	switch {
	case passed < time.Second:
		return "now"
	case passed < time.Minute:
		return fmt.Sprintf(format, fmt.Sprintf("%d s", passed/time.Second))
	case passed < time.Hour:
		return fmt.Sprintf(format, fmt.Sprintf("%d min", passed/time.Minute))
	case passed < day:
		return fmt.Sprintf(format, fmt.Sprintf("%d h", passed/time.Hour))
	case passed < 30*day:
		return fmt.Sprintf(format, Count(int64(passed/day), "day"))
	}
	return at.UTC().Format(time.DateOnly)
}

// Bytes is a number of bytes in a common unit, as pg_size_pretty() has them: 812 bytes, 40 kB, 3 GB.
func Bytes(count int64) string {
	if count < 1024 {
		return Count(count, "byte")
	}
	size := float64(count)
	for _, unit := range []string{"kB", "MB", "GB"} {
		size /= 1024
		if size < 1000 {
			return fmt.Sprintf("%.3g %s", size, unit)
		}
	}
	return fmt.Sprintf("%.3g TB", size/1024)
}
