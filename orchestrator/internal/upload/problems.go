package upload

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// shownProblems is how many lines a refusal lists, and shownText how much of each line.
	shownProblems = 20
	shownText     = 60
	// The limits, in lines and bytes, of what is kept before it is written to import_problems.
	keptProblems = 1000
	keptBytes    = 1 << 20
)

// problems are what is wrong with the lines of a file.
type problems struct {
	refused int64
	first   []db.Line // the first lines for which the file is refused

	// Repaired lines that are not in import_problems yet.
	lines   []int64
	reasons []string
	texts   []string
	bytes   int
}

// of returns what is wrong with a record, for a table of that width; empty when nothing is.
func (p *problems) of(record *records.Record, width int) string {
	switch got := len(record.Fields); {
	case record.IsBad:
		return "bytes that are not text in this encoding"
	case got < width:
		return fmt.Sprintf("%s instead of %d", words.Count(int64(got), "field"), width)
	case got > width:
		return fmt.Sprintf("%s instead of %d", words.Count(int64(got), "field"), width)
	case record.AfterQuote:
		return "text after a closing quote"
	}
	return ""
}

// note counts a line for which the file is refused.
func (p *problems) note(record *records.Record, problem string) {
	p.refused++
	if len(p.first) < shownProblems {
		p.first = append(p.first, db.Line{Number: record.Line, Reason: problem, Text: excerpt(record.Raw)})
	}
}

func excerpt(raw []byte) string {
	text := printable(raw[:min(len(raw), 4*shownText)])
	if runes := []rune(text); len(runes) > shownText {
		return string(runes[:shownText]) + "…"
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
	hint := "Correct the lines, or give the delimiter or quote (--delimiter, --quote) if a wrong one was found; " +
		"--ragged pad fills up short lines and adds columns for surplus fields."
	if strings.Contains(detail, "not text in this encoding") {
		hint = "Name the file's encoding (--encoding), or correct these lines."
	}
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD005",
		Message: fmt.Sprintf("%s of the file cannot be read; nothing was imported", words.Count(p.refused, "line")),
		Detail:  detail,
		Hint:    hint,
		Lines:   p.first,
	}
}

// repair keeps a repaired line, for import_problems.
func (p *problems) repair(record *records.Record, problem string) {
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

func checkRagged(ragged string) error {
	switch ragged {
	case "", "strict", "pad":
		return nil
	}
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD007",
		Message: fmt.Sprintf("ragged cannot be %q", ragged),
		Hint:    "It is strict or pad.",
	}
}

// explainRecord says at which line a file cannot be read, and why.
func explainRecord(err error) error {
	var open *records.OpenQuoteError
	var wide *records.WideError
	switch {
	case errors.As(err, &open):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: open.Error(),
			Hint:    "Close it, write it twice if it belongs to the text, or choose another quote (--quote).",
		}
	case errors.As(err, &wide):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: wide.Error(),
			Hint:    "Is the delimiter right? Choose another one with --delimiter.",
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
