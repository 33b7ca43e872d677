package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/jedib0t/go-pretty/v6/text"
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
		if err := (&program{stdout: &out}).printStatuses([]matviewStatus{{
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

// On a terminal a list fits, says what it says in fewer columns, and shows failures in red.
func TestListsFitATerminal(t *testing.T) {
	reason, since := "division by zero in a view whose message goes on for much longer than a line", "2026-01-02 03:04:05+00"
	code := "22012"
	statuses := []matviewStatus{
		{Matview: "broken", Status: "failing", NotifyWhen: "always", LastRefreshedAt: &since, ErrorCode: &code, ErrorMessage: &reason,
			FailingSince: &since, IsTracked: true, IsTroubled: true},
		{Matview: "東京", Status: "ok", NotifyWhen: "changed", LastRefreshedAt: &since, IsTracked: true},
	}
	escapes := regexp.MustCompile("\x1b\\[[0-9]+m")
	for _, test := range []struct {
		name       string
		width      int
		getenv     string
		isColoured bool
		lines      int
	}{
		{"wide", 250, "", true, 3},
		{"narrow", 90, "", true, 0},
		{"very narrow", 40, "", true, 0},
		{"NO_COLOR", 250, "NO_COLOR", false, 3},
		{"a dumb terminal", 250, "TERM", false, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			shown := onTerminal(t, test.width, func(screen *os.File) {
				p := &program{stdout: screen, hasNoColour: test.getenv != ""}
				if err := p.printStatuses(slices.Clone(statuses)); err != nil {
					t.Error(err)
				}
			})
			if got := strings.Contains(shown, red+"failing"); got != test.isColoured {
				t.Errorf("failing is red: %v, in %q", got, shown)
			}
			plain := escapes.ReplaceAllString(shown, "")
			for line := range strings.Lines(plain) {
				if width := text.StringWidthWithoutEscSequences(strings.TrimRight(line, "\n")); width > test.width {
					t.Errorf("a line has %d columns: %q", width, line)
				}
			}
			for _, word := range strings.Fields("broken failing always 東京 22012 division goes longer line " + since) {
				if !strings.Contains(plain, word) {
					t.Errorf("%q is missing in:\n%s", word, plain)
				}
			}
			if strings.Contains(plain, "NEXT") {
				t.Errorf("a column without values is shown:\n%s", plain)
			}
			if lines := strings.Count(plain, "\n"); test.lines != 0 && lines != test.lines {
				t.Errorf("there are %d lines:\n%s", lines, plain)
			}
		})
	}

	var out strings.Builder
	if err := (&program{stdout: &out}).printStatuses(statuses); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "\n") != 3 || strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "NEXT") {
		t.Errorf("a program gets %q", out.String())
	}
}

// The environment decides on colours, and errors have one.
func TestColourOfErrors(t *testing.T) {
	for variable, want := range map[string]string{"": red + "error:" + noColour, "NO_COLOR": "error:", "TERM": "error:"} {
		shown := onTerminal(t, 100, func(screen *os.File) {
			getenv := func(name string) string {
				if name == variable {
					return "dumb"
				}
				return ""
			}
			_ = run(t.Context(), []string{"statsu"}, getenv, strings.NewReader(""), io.Discard, screen)
		})
		if !strings.HasPrefix(shown, want) {
			t.Errorf("with %s an error is %q", variable, shown)
		}
	}
}

// onTerminal returns what is shown on a terminal of a width.
func onTerminal(t *testing.T, width int, print func(*os.File)) string {
	t.Helper()
	keyboard, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer keyboard.Close()
	if err := pty.Setsize(screen, &pty.Winsize{Cols: uint16(width), Rows: 24}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		// Linux ends the reading with an error when the other side is closed.
		text, _ := io.ReadAll(keyboard)
		shown <- strings.ReplaceAll(string(text), "\r\n", "\n")
	}()
	print(screen)
	screen.Close()
	return <-shown
}
