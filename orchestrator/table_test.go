package main

import (
	"strings"
	"testing"
)

// Names and messages that users choose cannot change an administrator's terminal, or forge a line.
func TestTablesArePrintable(t *testing.T) {
	message, code, since := "broken\r\n\x1b]0;owned\a", "P0001", "today"
	for name, want := range map[string]string{
		"eve.\x1b[2Jv":            `eve.\x1b[2Jv`,
		"v\nann.v  ok":            `v\nann.v  ok`,
		"v\u202ereversed":         `v\u202ereversed`,
		"v\tcell":                 `v\tcell`,
		"Größe 東京 \"as written\"": "Größe 東京 \"as written\"",
	} {
		var out strings.Builder
		if err := printStatuses(&out, []matviewStatus{{
			Matview: name, Status: "failing", ErrorCode: &code, ErrorMessage: &message, FailingSince: &since,
		}}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want+"  failing") || !strings.Contains(out.String(), `P0001 broken\r\n\x1b]0;owned\a (since`) {
			t.Errorf("%q is printed as %q", name, out.String())
		}
		if lines := strings.Count(out.String(), "\n"); lines != 2 {
			t.Errorf("%q makes %d lines", name, lines)
		}
	}
}
