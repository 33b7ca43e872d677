package upload

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/jsonlines"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// shownProblems is how many lines a refusal lists, and shownText how much of each line.
	shownProblems = 20
	shownText     = 60
	shownSample   = 20
	// The limits, in lines and bytes, of what is kept before it is written to import_problems.
	keptProblems = 1000
	keptBytes    = 1 << 20
	// defaultRejects is how many lines may be rejected.
	defaultRejects = 1000
)

const badBytes = "bytes that are not text in this encoding"

// problems are what is wrong with the lines of a file.
type problems struct {
	refused int64
	first   []db.Line // the first lines for which the file is refused
	// isLast means that good lines come before the first of them and none after it, hasQuote that text follows a
	// quote in one of them.
	isLast, hasQuote bool
	// hasFault means that its format says what is wrong with one of them.
	hasFault bool
	rejected int64
	file     string // that is read; empty for the first

	// Repaired or rejected lines that are not in import_problems yet.
	lines   []int64
	reasons []string
	texts   []string
	bytes   int
}

// of returns what is wrong with a record, for a table of that width; empty when nothing is.
func (p *problems) of(record *records.Record, width int) string {
	problem := p.fault(record, width)
	if problem != "" && p.file != "" {
		return p.file + ": " + problem
	}
	return problem
}

func (p *problems) fault(record *records.Record, width int) string {
	switch got := len(record.Fields); {
	case record.IsBad:
		return badBytes
	case record.Fault != "":
		return record.Fault
	case got != width:
		return fmt.Sprintf("%s instead of %d", words.Count(int64(got), "field"), width)
	case record.AfterQuote:
		return "text after a closing quote"
	}
	return ""
}

// note counts a line for which the file is refused.
func (p *problems) note(record *records.Record, problem string) {
	p.refused++
	p.hasQuote = p.hasQuote || record.AfterQuote
	p.hasFault = p.hasFault || record.Fault != ""
	if len(p.first) < shownProblems {
		p.first = append(p.first, db.Line{Number: record.Line, Reason: problem, Text: excerpt(record.Raw)})
	}
}

func excerpt(raw []byte) string { return excerptOf(raw, shownText) }

func excerptOf(raw []byte, length int) string {
	text := printable(raw[:min(len(raw), 4*length)])
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length]) + "…"
	}
	return text
}

// printable is text that Postgres accepts.
func printable(raw []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(raw), "\uFFFD"), "\x00", "\uFFFD")
}

func (p *problems) isRefused() bool { return p.refused > 0 }

// refusal is the error for a file with such lines.
func (p *problems) refusal() error {
	var lines []string
	for _, line := range p.first {
		lines = append(lines, line.String())
	}
	detail := strings.Join(lines, "\n")
	if more := p.refused - int64(len(p.first)); more > 0 {
		detail += fmt.Sprintf("\nand %d more", more)
	}
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD005",
		Message: fmt.Sprintf("%s of the file cannot be read; nothing was imported", words.Count(p.refused, "line")),
		Detail:  detail,
		Hint:    p.hint(),
		Lines:   p.first,
	}
}

const padsOrRejects = "--ragged pad fills up short lines and adds columns for surplus fields, --ragged reject leaves these lines out."

// hint names the options that would get the file in.
func (p *problems) hint() string {
	isEach := func(fits func(db.Line) bool) bool {
		return !slices.ContainsFunc(p.first, func(line db.Line) bool { return !fits(line) })
	}
	first := p.first[0]
	switch {
	case p.rejected > 0 && p.hasFault:
		return "More lines were rejected than --reject-limit allows."
	case p.rejected > 0:
		return "More lines were rejected than --reject-limit allows. Is the delimiter right (--delimiter)?"
	case isEach(func(line db.Line) bool { return strings.HasSuffix(line.Reason, badBytes) }):
		return "Name the file's encoding (--encoding), or leave these lines out (--ragged reject)."
	case p.hasFault:
		return "Correct the lines, or leave them out (--ragged reject)."
	case isEach(func(line db.Line) bool { return strings.HasPrefix(line.Text, "#") }):
		return "If these lines are comments, leave them out (--comment '#')."
	case p.isLast && p.refused <= shownProblems && isEach(func(line db.Line) bool { return line.Reason == first.Reason }) && p.refused > 2:
		return fmt.Sprintf("Another table may begin on line %d: import the first without it (--skip-end %d), and the second "+
			"into a table of its own (--skip %d --table).", first.Number, p.refused, first.Number-1)
	case p.isLast && p.refused <= shownProblems:
		return fmt.Sprintf("If these lines are not part of the table, leave them out (--skip-end %d). If they are: "+padsOrRejects, p.refused)
	case p.hasQuote:
		return "Correct the lines, take quotes as text (--quote none), or leave these lines out (--ragged reject)."
	}
	return "Correct the lines, or give the delimiter or quote (--delimiter, --quote) if a wrong one was found; " + padsOrRejects
}

// keep keeps a repaired or rejected line, for import_problems.
func (p *problems) keep(record *records.Record, problem string, isRejected bool) {
	if isRejected {
		p.rejected++
	}
	p.lines = append(p.lines, record.Line)
	p.reasons = append(p.reasons, problem)
	p.texts = append(p.texts, printable(record.Raw))
	p.bytes += len(record.Raw)
}

func (p *problems) isFull() bool { return len(p.lines) >= keptProblems || p.bytes >= keptBytes }

var errNoHeader = &db.UserError{
	Status:  http.StatusUnprocessableEntity,
	Code:    "TD005",
	Message: "the file has no lines after the skipped ones",
	Hint:    "Skip fewer lines.",
}

// explainRecord says at which line a file cannot be read, and why.
func explainRecord(err error) error {
	var open *records.OpenQuoteError
	var wide *records.WideError
	var syntax *jsonlines.SyntaxError
	var keys *jsonlines.WideError
	switch {
	case errors.As(err, &open):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: open.Error(),
			Hint: "Close it, write it twice if it belongs to the text, choose another quote (--quote), or take quotes " +
				"as text (--quote none).",
		}
	case errors.As(err, &wide):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: wide.Error(),
			Hint:    "Is the delimiter right? Choose another one with --delimiter.",
		}
	case errors.As(err, &syntax):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: syntax.Error(),
			Hint:    "The file must have objects of JSON: one a line, one after the other, or in a list. Try jq . FILE; another format is --format csv.",
		}
	case errors.As(err, &keys):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: keys.Error(),
			Hint:    "Keys that are values belong into a column: jq -c 'to_entries[]' FILE makes one of them.",
		}
	case errors.Is(err, records.ErrLong):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: err.Error(),
			Hint:    "Is it a CSV file with line ends?",
		}
	}
	return err
}
