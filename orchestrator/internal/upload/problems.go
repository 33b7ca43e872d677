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
	// shownProblems is how many lines a refusal lists, and shownText how much of each.
	shownProblems = 20
	shownText     = 60
	// What is kept before it goes to import_problems: so many, and so many bytes.
	keptProblems = 1000
	keptBytes    = 1 << 20
)

// problems are what is wrong with the lines of a file.
type problems struct {
	refused int64
	first   []db.Line // the first that refuse the file

	// Those that were repaired, and are not in import_problems yet.
	lines   []int64
	reasons []string
	texts   []string
	bytes   int
}

// of says what is wrong with a record for a table of that width; empty when nothing is.
func (p *problems) of(record *records.Record, width int) string {
	switch got := len(record.Fields); {
	case record.IsBad:
		return "bytes that are no text in this encoding"
	case got < width:
		return fmt.Sprintf("%s instead of %d", words.Count(int64(got), "field"), width)
	case got > width:
		return fmt.Sprintf("%s instead of %d", words.Count(int64(got), "field"), width)
	case record.AfterQuote:
		return "text after a closing quote"
	}
	return ""
}

// note counts a problem that refuses the file.
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

// printable is what Postgres takes as text.
func printable(raw []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(raw), "\uFFFD"), "\x00", "\uFFFD")
}

func (p *problems) isRefused() bool { return p.refused > 0 }

// refusal tells of the problems that refuse the file.
func (p *problems) refusal() error {
	var told []string
	for _, line := range p.first {
		told = append(told, line.String())
	}
	detail := strings.Join(told, "\n")
	if more := p.refused - int64(len(p.first)); more > 0 {
		detail += fmt.Sprintf("\nand %d more", more)
	}
	hint := "Correct them, or give the delimiter or quote (--delimiter, --quote) if it was not found right; " +
		"--ragged pad fills up short lines and adds columns for surplus fields."
	if strings.Contains(detail, "no text in this encoding") {
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

// repair keeps a problem that is put right, for import_problems.
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
	Message: "the file has no lines after those that are skipped",
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
		Message: fmt.Sprintf("there is no way %q to treat lines of too few or too many fields", ragged),
		Hint:    "The ways are strict and pad.",
	}
}

// explainRecord says where a file cannot be read on.
func explainRecord(err error) error {
	var open *records.OpenQuoteError
	var wide *records.WideError
	switch {
	case errors.As(err, &open):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: open.Error(),
			Hint:    "Close it, write it twice if it belongs to the text, or name another quote (--quote).",
		}
	case errors.As(err, &wide):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: wide.Error(),
			Hint:    "Is the delimiter right? --delimiter gives it.",
		}
	case errors.Is(err, records.ErrLong):
		return &db.UserError{
			Status:  http.StatusUnprocessableEntity,
			Code:    "TD005",
			Message: err.Error(),
			Hint:    "Is it a CSV, with ends at its lines?",
		}
	}
	return err
}
