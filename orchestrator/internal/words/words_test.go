package words_test

import (
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

func TestCount(t *testing.T) {
	for count, want := range map[int64]string{0: "0 rows", 1: "1 row", 2: "2 rows", 1000000: "1000000 rows"} {
		if got := words.Count(count, "row"); got != want {
			t.Errorf("%d: %q, want %q", count, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for took, want := range map[time.Duration]string{
		0:                              "less than 1 ms",
		400 * time.Microsecond:         "less than 1 ms",
		time.Millisecond:               "1 ms",
		80 * time.Millisecond:          "80 ms",
		999400 * time.Microsecond:      "999 ms",
		999600 * time.Microsecond:      "1.0 s",
		2500 * time.Millisecond:        "2.5 s",
		59900 * time.Millisecond:       "59.9 s",
		59960 * time.Millisecond:       "1 min 0 s",
		200 * time.Second:              "3 min 20 s",
		3599600 * time.Millisecond:     "1 h 0 min",
		2*time.Hour + 5*time.Minute:    "2 h 5 min",
		49*time.Hour + 600*time.Second: "49 h 10 min",
	} {
		if got := words.Duration(took); got != want {
			t.Errorf("%s: %q, want %q", took, got, want)
		}
	}
	if got := words.Milliseconds(80.4); got != "80 ms" {
		t.Errorf("80.4 ms: %q", got)
	}
}

func TestBytes(t *testing.T) {
	for count, want := range map[int64]string{0: "0 bytes", 1: "1 byte", 1023: "1023 bytes", 8192: "8 kB", 1 << 20: "1 MB", 123456789: "118 MB", 5 << 40: "5 TB"} {
		if got := words.Bytes(count); got != want {
			t.Errorf("%d is %s, want %s", count, got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for passed, want := range map[time.Duration]string{
		0:                       "now",
		-999 * time.Millisecond: "now",
		59 * time.Second:        "59 s ago",
		-60 * time.Second:       "in 1 min",
		119 * time.Minute:       "1 h ago",
		25 * time.Hour:          "1 day ago",
		-49 * time.Hour:         "in 2 days",
		31 * 24 * time.Hour:     "2026-03-04",
	} {
		if got := words.Ago(passed, at); got != want {
			t.Errorf("%s is %q, want %q", passed, got, want)
		}
	}
}

func TestGroup(t *testing.T) {
	for number, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -100: "-100"} {
		if got := words.Group(number); got != want {
			t.Errorf("%d is %q, want %q", number, got, want)
		}
	}
}
