package channel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

const (
	// maxColumns and maxCell keep a row on a line that a person can read.
	maxColumns = 8
	maxCell    = 40
	// maxLines is how many lines of text a card has that gives each one an element of its own.
	maxLines = 20
)

// marshal writes JSON without Go's escapes for HTML, which a person could not read.
func marshal(value any) ([]byte, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("write a message: %w", err)
	}
	return bytes.TrimSpace(body.Bytes()), nil
}

// characters counts as JavaScript does: no receiver counts more.
func characters(text string) int {
	count := 0
	for _, r := range text {
		count++
		if r > 0xFFFF {
			count++
		}
	}
	return count
}

// size counts the bytes of a text as a JSON string has them.
func size(text string) int {
	body, _ := marshal(text)
	return len(body) - len(`""`)
}

func plain(text string) string { return text }

// cut shortens a text so that it has up to limit of what count counts, after escape. 0 is no limit.
func cut(text string, limit int, escape func(string) string, count func(string) int) string {
	if limit <= 0 || count(escape(text)) <= limit {
		return escape(text)
	}
	// As many as may fit without escapes, and then fewer.
	end := len(text)
	if end > limit*utf8.UTFMax {
		end = limit * utf8.UTFMax
	}
	for end > 0 {
		end--
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		shorter := escape(strings.TrimRightFunc(text[:end], unicode.IsSpace)) + "…"
		if over := count(shorter) - limit; over <= 0 {
			return shorter
		} else if over > 2*utf8.UTFMax {
			// No escape makes a byte to more than eight characters.
			end -= over / 8
		}
	}
	return ""
}

// clean is a text without what moves the cursor, reverses the direction or hides, but with line ends.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\r':
			return -1
		case unicode.IsControl(r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return ' '
		case isDirection(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// isDirection reports whether a character changes the direction of the text around it.
func isDirection(r rune) bool {
	return r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069'
}

// line is a text on one line.
func line(text string) string { return strings.ReplaceAll(clean(text), "\n", " ") }

// prose is all of a message but its title, its rows and its link. A template has what its author wants of the rest.
func prose(m message.Message) string {
	if m.HasTemplate {
		return clean(m.Text)
	}
	paragraphs := []string{clean(m.Text)}
	if m.Description != "" {
		paragraphs = append(paragraphs, clean(m.Description))
	}
	if len(m.Also) > 0 {
		paragraphs = append(paragraphs, "Also: "+line(strings.Join(m.Also, ", ")))
	}
	for _, part := range m.Parts {
		paragraphs = append(paragraphs, "• "+line(part.Title))
	}
	if m.Note != "" {
		paragraphs = append(paragraphs, "("+line(m.Note)+")")
	}
	return strings.Join(paragraphs, "\n")
}

// A table is the rows that a message shows, cut to what is readable.
type table struct {
	columns []string
	rows    [][]string
	// more is how many rows are left out.
	more int
}

// tableOf is the table of up to count rows.
func tableOf(m message.Message, count int) table {
	if m.HasTemplate || len(m.Rows) == 0 {
		return table{}
	}
	count = min(count, len(m.Rows))
	t := table{columns: cells(m.Columns), more: m.MoreRows + len(m.Rows) - count}
	for _, row := range m.Rows[:count] {
		t.rows = append(t.rows, cells(row))
	}
	return t
}

// cells are the cells of a row, each on one line, and a mark for those that are left out.
func cells(row []string) []string {
	var shown []string
	for i, cell := range row {
		if i == maxColumns {
			return append(shown, "…")
		}
		shown = append(shown, cut(line(cell), maxCell, plain, characters))
	}
	return shown
}

// remark says how many rows are left out; nothing when there are all.
func (t table) remark() string {
	switch {
	case t.more <= 0:
		return ""
	case len(t.rows) == 0 && t.more == 1:
		return "1 row"
	case len(t.rows) == 0:
		return fmt.Sprintf("%d rows", t.more)
	}
	return fmt.Sprintf("and %d more", t.more)
}

// block is the table for a font whose characters are equally wide.
func (t table) block() string {
	if len(t.rows) == 0 {
		return t.remark()
	}
	widths := make([]int, len(t.columns))
	lines := append([][]string{t.columns}, t.rows...)
	for _, l := range lines {
		for i, cell := range l[:min(len(l), len(widths))] {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for _, l := range lines {
		var printed strings.Builder
		for i, cell := range l[:min(len(l), len(widths))] {
			if i > 0 {
				printed.WriteString("  ")
			}
			printed.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		text.WriteString(strings.TrimRight(printed.String(), " ") + "\n")
	}
	text.WriteString(t.remark())
	return strings.TrimRight(text.String(), "\n")
}

// list is the table with a line a row, for a font whose characters are not.
func (t table) list() []string {
	var lines []string
	for _, row := range t.rows {
		var named []string
		for i, cell := range row {
			switch {
			case i < len(t.columns) && t.columns[i] != "" && t.columns[i] != "…":
				named = append(named, t.columns[i]+": "+cell)
			default:
				named = append(named, cell)
			}
		}
		lines = append(lines, strings.Join(named, ", "))
	}
	if remark := t.remark(); remark != "" {
		lines = append(lines, remark)
	}
	return lines
}

// fit builds with as many rows as the receiver takes: fewer and fewer, until isShort.
func fit[T any](m message.Message, build func(table) (T, error), isShort func(T) bool) (T, error) {
	count := len(m.Rows)
	if m.Limits.Rows > 0 {
		count = min(count, m.Limits.Rows)
	}
	for {
		built, err := build(tableOf(m, count))
		if err != nil || count == 0 || isShort(built) {
			return built, err
		}
		count--
	}
}

// fits reports whether a body is as short as the receiver wants it.
func fits(m message.Message) func([]byte) bool {
	limit := m.Limits.Bytes
	if limit <= 0 {
		limit = math.MaxInt
	}
	return func(body []byte) bool { return len(body) <= limit }
}
