package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// The exit codes beside 0.
const (
	exitFailure = 1
	exitUsage   = 2
	// exitChanges is that of plan when something would change, as of other programs that plan.
	exitChanges = 2
	// exitStopped is the exit code that shells use for a program that Ctrl-C has ended.
	exitStopped = 130
)

// Annotations of commands.
const (
	// whenStopped is the message after a signal: what the stopped command leaves behind.
	whenStopped = "when stopped"
	// untilStopped marks commands that run until a signal, which is no failure for them.
	untilStopped = "until stopped"
	// usageCode is the exit code of a wrong command line, for a command to which 2 means something else.
	usageCode = "usage code"
)

// errStopped is the error of a command that a signal has ended before it was done.
var errStopped = errors.New("stopped")

// A usageError is an invalid command line. code is its exit code; 0 for exitUsage.
type usageError struct {
	error
	code int
}

func (e usageError) Unwrap() error { return e.error }

// codeUsage gives an invalid command line the exit code that the command has for it.
func codeUsage(command *cobra.Command, err error) error {
	var usage usageError
	if code, convErr := strconv.Atoi(command.Annotations[usageCode]); convErr == nil && errors.As(err, &usage) {
		return usageError{usage.error, code}
	}
	return err
}

func badUsage(hint, format string, args ...any) error {
	return usageError{error: &db.UserError{
		Status:  http.StatusBadRequest,
		Message: fmt.Sprintf(format, args...),
		Hint:    hint,
	}}
}

func exitCode(err error) int {
	var usage usageError
	var refused definitionError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errStopped):
		return exitStopped
	case errors.Is(err, errChanges):
		return exitChanges
	case errors.As(err, &refused):
		return exitFailure
	case errors.As(err, &usage) && usage.code != 0:
		return usage.code
	// TD007: a bad name, mode, rule, type or option, whether Go or SQL has found it.
	case errors.As(err, &usage), db.Explain(err).Code == "TD007":
		return exitUsage
	}
	return exitFailure
}

// afterSignal is what a command's error becomes after a signal.
func afterSignal(command *cobra.Command, err error) error {
	switch {
	case errors.Is(err, upload.ErrCommit):
		return err
	case command.Annotations[untilStopped] == "":
		return errStopped
	}
	// 57014: the server has cancelled a statement, as we asked.
	if errors.Is(err, context.Canceled) || db.Explain(err).Code == "57014" {
		return nil
	}
	return err
}

// restIn is an annotation of commands: the command that has what they lack.
const restIn = "rest in"

// helpWidth is how wide help is, unless a terminal is narrower.
const helpWidth = 100

// helpColumns is how wide help is.
func (p *program) helpColumns() int {
	if width := widthOf(p.stdout); width > 0 {
		return min(helpWidth, max(width, 50))
	}
	return helpWidth
}

// wrapHelp wraps the paragraphs of all descriptions.
func wrapHelp(command *cobra.Command, columns int) {
	paragraphs := strings.Split(command.Long, "\n\n")
	for i, paragraph := range paragraphs {
		lines := strings.Split(text.WrapSoft(strings.ReplaceAll(paragraph, "\n", " "), columns), "\n")
		for at, line := range lines {
			lines[at] = strings.TrimRight(line, " ")
		}
		paragraphs[i] = strings.Join(lines, "\n")
	}
	command.Long = strings.Join(paragraphs, "\n\n")
	for _, child := range command.Commands() {
		wrapHelp(child, columns)
	}
}

// usageTemplate is cobra's, but it wraps the options, and says COMMAND as our commands do.
func (p *program) usageTemplate() string {
	return strings.NewReplacer(
		"Flags.FlagUsages ", fmt.Sprintf("Flags.FlagUsagesWrapped %d ", p.helpColumns()),
		// The Use of a command that has others says so, but that of the program itself.
		"{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "{{if not .HasParent}}\n  {{.CommandPath}} COMMAND{{end}}",
		"[command]", "COMMAND",
	).Replace((&cobra.Command{}).UsageTemplate())
}

// explainCompletion gives cobra's own commands the examples that they lack.
func explainCompletion(root *cobra.Command) {
	completion, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	completion.Short = "Print the script that lets a shell complete commands, options and names"
	completion.Long = completion.Short + "."
	for _, shell := range completion.Commands() {
		shell.Short = "Print the completion script for " + shell.Name()
		shell.Example = map[string]string{
			"bash":       "  source <(orchestrator completion bash)",
			"zsh":        "  orchestrator completion zsh > \"${fpath[1]}/_orchestrator\"",
			"fish":       "  orchestrator completion fish > ~/.config/fish/completions/orchestrator.fish",
			"powershell": "  orchestrator completion powershell | Out-String | Invoke-Expression",
		}[shell.Name()]
		shell.Long = shell.Short + ". It completes the names of tables, views, subscriptions and sources too, " +
			"by asking the database that DATABASE_URL names."
		if shell.Name() == "bash" {
			shell.Long += " It needs the package bash-completion."
		}
	}
	help, _, err := root.Find([]string{"help"})
	if err == nil {
		help.Example = "  orchestrator help matview create"
	}
}

// strict makes a command and its subcommands refuse what they would otherwise ignore: unknown arguments and
// commands, and all but the last value of an option that has one value.
func strict(command *cobra.Command) {
	command.SuggestionsMinimumDistance = 2
	command.SetFlagErrorFunc(explainFlag)
	command.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		_, isList := flag.Value.(pflag.SliceValue)
		_, isDone := flag.Value.(*onceValue)
		if !isList && !isDone && flag.Value.Type() != "func" {
			flag.Value = &onceValue{Value: flag.Value}
			if flag.DefValue == "0s" {
				// pflag recognizes by the type of the value that help need not print the default.
				flag.DefValue = ""
			}
		}
	})
	switch {
	case command.Name() == "help":
		command.Args = isTopic
	case command.HasSubCommands():
		command.Args = isKnown
	default:
		command.Args = areExpected
	}
	if !command.Runnable() {
		command.DisableFlagsInUseLine = true
		command.RunE = func(command *cobra.Command, _ []string) error {
			return badUsage(seeHelp(command), "missing COMMAND")
		}
	}
	for _, child := range command.Commands() {
		strict(child)
	}
}

func seeHelp(command *cobra.Command) string { return "See " + command.CommandPath() + " --help" }

// isKnown is the check of a command that has subcommands: an argument left over is not the name of one.
func isKnown(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := seeHelp(command)
	if similar := command.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = didYouMean(similar)
	} else if command.Flags().Lookup(args[0]) != nil {
		hint = didYouMean([]string{"--" + args[0]})
	} else if others := elsewhere(command, args[0]); len(others) > 0 {
		hint = didYouMean(others)
	}
	return badUsage(hint, "unknown command %q for %q", args[0], command.CommandPath())
}

// elsewhere finds the commands of this name that other commands have.
func elsewhere(command *cobra.Command, name string) (found []string) {
	for _, group := range command.Root().Commands() {
		if other, isGiven := command.Annotations[restIn]; isGiven && group.Name() != other {
			continue
		}
		for _, child := range group.Commands() {
			if child.Name() == name && child.IsAvailableCommand() {
				found = append(found, group.Name()+" "+name)
			}
		}
	}
	return found
}

// isTopic is isKnown for the topic of help.
func isTopic(help *cobra.Command, args []string) error {
	command, rest, err := help.Root().Find(args)
	if err != nil {
		return usageError{error: err}
	}
	return isKnown(command, rest)
}

// areExpected compares the arguments with the command's Use: NAME is required, [NAME] and {NAME | --flag} are
// not, and [NAME…] is any number.
func areExpected(command *cobra.Command, args []string) error {
	var required []string
	most := 0
	for _, word := range strings.Fields(command.Use)[1:] {
		switch {
		case word == strings.ToUpper(word) && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "":
			required = append(required, word)
			most++
		case strings.HasSuffix(word, "…]"):
			most = math.MaxInt
		case strings.HasPrefix(word, "["), strings.HasPrefix(word, "{"):
			most++
		}
	}
	switch usage := "Usage: " + command.UseLine(); {
	case len(args) < len(required):
		return badUsage(usage, "missing %s", strings.Join(required[len(args):], " and "))
	case len(args) > most:
		return badUsage(usage, "unexpected argument %q", args[most])
	}
	return nil
}

// A onceValue is an option that may be given once, and not empty.
type onceValue struct {
	pflag.Value
	isSet bool
}

var (
	errRepeated = errors.New("is given twice")
	errEmpty    = errors.New("is empty")
)

func (v *onceValue) Set(text string) error {
	switch {
	case v.isSet:
		return errRepeated
	case text == "":
		return errEmpty
	}
	v.isSet = true
	return v.Value.Set(text)
}

// explainFlag says what is wrong with an option.
func explainFlag(command *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		for _, own := range []error{errRepeated, errEmpty} {
			if errors.Is(err, own) {
				// pflag's message has the value, which may hold a password.
				return badUsage(seeHelp(command), "--%s %v", invalid.GetFlag().Name, own)
			}
		}
		return badUsage(fmt.Sprintf("--%s: %s.", invalid.GetFlag().Name, invalid.GetFlag().Usage), "%v", err)
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		command.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
		if similar := nearest(unknown.GetSpecifiedName(), names); len(similar) > 0 {
			return badUsage(didYouMean(prefixed("--", similar)), "%v", err)
		}
	}
	return badUsage(seeHelp(command), "%v", err)
}

func prefixed(prefix string, texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = prefix + text
	}
	return all
}
