package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// eachCommand calls check for all commands, also those that only have others.
func eachCommand(check func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		check(command)
		for _, child := range command.Commands() {
			walk(child)
		}
	}
	walk((&program{}).rootCommand())
}

// ownLeaves are our commands that do something; not those of cobra, which print help and completions.
func ownLeaves(t *testing.T) []*cobra.Command {
	t.Helper()
	var leaves []*cobra.Command
	eachCommand(func(command *cobra.Command) {
		path := strings.Fields(command.CommandPath())
		if len(path) > 1 && !command.HasSubCommands() && path[1] != "completion" && path[1] != "help" {
			leaves = append(leaves, command)
		}
	})
	if len(leaves) < 60 {
		t.Fatalf("there are only %d commands", len(leaves))
	}
	return leaves
}

// invocation is a command line that a command takes: everything that its Use names.
func invocation(t *testing.T, command *cobra.Command) []string {
	t.Helper()
	args := strings.Fields(command.CommandPath())[1:]
	for _, word := range strings.Fields(command.Use)[1:] {
		switch strings.Trim(word, "[]{}…") {
		case "STEPS", "VERSION":
			args = append(args, "1")
		case "FILE":
			args = append(args, dbtest.Sample(t))
		case "DIR":
			args = append(args, t.TempDir())
		case "URL":
			args = append(args, "https://example.com/x")
		case "|", "--all":
		default:
			args = append(args, "x")
		}
	}
	return args
}

// Each command has an example, which names options that it has.
func TestEachCommandHasAnExample(t *testing.T) {
	option := regexp.MustCompile(`(?:^|\s)--([a-z-]+)`)
	eachCommand(func(command *cobra.Command) {
		path := command.CommandPath()
		if command.HasSubCommands() && command.HasParent() {
			return // its commands have them
		}
		if command.Name() != "help" && !strings.Contains(command.Example, path) {
			t.Errorf("%s has no example: %q", path, command.Example)
		}
		for line := range strings.Lines(command.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("the example of %s is not indented: %q", path, line)
			}
			if command.Parent() == nil {
				continue
			}
			for _, found := range option.FindAllStringSubmatch(line, -1) {
				if command.Flags().Lookup(found[1]) == nil && command.InheritedFlags().Lookup(found[1]) == nil {
					t.Errorf("%s has no option --%s, which its example has", path, found[1])
				}
			}
		}
	})
}

func TestHelpFitsATerminal(t *testing.T) {
	seen := 0
	eachCommand(func(command *cobra.Command) {
		help, _, err := command0(t, append(strings.Fields(command.CommandPath())[1:], "--help")...)
		if err != nil || !strings.Contains(help, "Usage:") {
			t.Errorf("the help of %s is %q, %v", command.CommandPath(), help, err)
		}
		for line := range strings.Lines(help) {
			if width := utf8.RuneCountInString(strings.TrimRight(line, "\n")); width > helpWidth {
				t.Errorf("the help of %s has %d columns: %s", command.CommandPath(), width, line)
			}
			seen++
		}
	})
	if seen < 1000 {
		t.Errorf("help has %d lines", seen)
	}
}

// command0 runs the program without a database.
func command0(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return command(t, "", "", args...)
}

// A command line is wrong (2), there is no database (1), a signal ends the command (130): the same for all commands.
func TestExitCodesOfEachCommand(t *testing.T) {
	environment := func(databaseURL string) func(string) string {
		return func(name string) string {
			return map[string]string{"DATABASE_URL": databaseURL, "LISTEN_ADDR": "localhost:0"}[name]
		}
	}
	for _, leaf := range ownLeaves(t) {
		path := leaf.CommandPath()
		args := invocation(t, leaf)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		stopped := exitStopped
		if leaf.Annotations[untilStopped] != "" {
			stopped = 0
		}
		tests := []struct {
			name string
			ctx  context.Context
			url  string
			args []string
			want int
		}{
			{"an unknown option", t.Context(), "", append(slices.Clone(args), "--no-such-option"), exitUsage},
			{"no database", t.Context(), "", args, exitFailure},
			{"a signal", ended, "postgres://localhost:1/x?sslmode=disable", args, stopped},
		}
		if path == "orchestrator man" { // which needs no database
			tests = tests[:1]
		}
		if strings.Contains(leaf.Use, " ") {
			if required := strings.Fields(leaf.Use)[1]; required == strings.ToUpper(required) && required[0] != '[' && required[0] != '{' {
				tests = append(tests, struct {
					name string
					ctx  context.Context
					url  string
					args []string
					want int
				}{"no " + required, t.Context(), "", strings.Fields(path)[1:], exitUsage})
			}
		}
		for _, test := range tests {
			if test.want == exitUsage && path == "orchestrator plan" { // whose 2 means changes
				test.want = 64
			}
			var stdout, stderr bytes.Buffer
			err := run(test.ctx, test.args, environment(test.url), strings.NewReader(""), &stdout, &stderr)
			if code := exitCode(err); code != test.want {
				t.Errorf("%s: %s: exit code %d, want %d: %s", path, test.name, code, test.want, stderr.String())
			}
			if required, isMissing := strings.CutPrefix(test.name, "no "); isMissing && required != "database" && !strings.Contains(stderr.String(), required) {
				t.Errorf("%s: the error does not name %s: %s", path, required, stderr.String())
			}
		}
	}
}

// A word that is wrong, or in the wrong place, is answered by the command that is meant.
func TestSuggestedCommandsAndOptions(t *testing.T) {
	for line, want := range map[string]string{
		"schedule v 5s":       "Did you mean matview schedule?",
		"unschedule v":        "Did you mean matview unschedule?",
		"list":                "Did you mean matview list or source list or subscription list or table list?",
		"webhook list":        "Did you mean subscription list?",
		"email drop x":        "Did you mean subscription drop?",
		"tabel list":          "Did you mean table?",
		"nonsense":            "See orchestrator --help",
		"status --jsno":       "Did you mean --json?",
		"upload a --delimter": "Did you mean --delimiter?",
		"status --nonsense":   "See orchestrator status --help",
	} {
		_, stderr, err := command0(t, strings.Fields(line)...)
		if exitCode(err) != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %s, want %q", line, exitCode(err), stderr, want)
		}
	}
}

func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	if _, stderr, err := command0(t, "man", dir); err != nil {
		t.Fatal(stderr)
	}
	pages := 0
	eachCommand(func(command *cobra.Command) {
		if command.Name() == "help" || command.Hidden {
			return
		}
		pages++
		name := strings.ReplaceAll(command.CommandPath(), " ", "-") + ".1"
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			return
		}
		wanted := []string{".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", "TinyDevCRM"}
		if command.Example != "" {
			wanted = append(wanted, ".SH EXAMPLE")
		}
		for _, want := range wanted {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
		if strings.Contains(string(text), "HISTORY") {
			t.Errorf("%s has the day on which it was made", name)
		}
	})
	if files, err := os.ReadDir(dir); err != nil || len(files) != pages || pages < 70 {
		t.Errorf("%d pages of %d commands, %v", len(files), pages, err)
	}
}

// The commands that documents and scripts name exist.
func TestNamedCommandsExist(t *testing.T) {
	const words = "orchestrator ([a-z]+)(?: ([a-z]+))?(?: ([a-z]+))?"
	inDocuments := regexp.MustCompile("(?:`|\\./)" + words)
	inScripts := regexp.MustCompile("^ *" + words)
	root := (&program{}).rootCommand()
	found := 0
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		var named *regexp.Regexp
		switch {
		case entry.IsDir():
			return nil
		case filepath.Ext(path) == ".md":
			named = inDocuments
		case filepath.Dir(path) == filepath.Join("..", "scripts"):
			named = inScripts
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			for _, words := range named.FindAllStringSubmatch(line, -1) {
				command, rest, err := root.Find(slices.DeleteFunc(words[1:], func(word string) bool { return word == "" }))
				if err != nil || command == root || command.HasSubCommands() && len(rest) > 0 {
					t.Errorf("%s names the command %q: %s", path, strings.Join(words[1:], " "), line)
				}
				found++
			}
		}
		return nil
	})
	if err != nil || found < 20 {
		t.Errorf("%d commands are named, %v", found, err)
	}
}
