package mail

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

const (
	// maxShown bounds the rows of a table in the text, and maxCell the letters of a cell there. The CSV has all.
	maxShown = 50
	maxCell  = 200
)

// A table is what the text shows of a message's rows.
type table struct {
	Columns []string
	Rows    [][]string
	// More is how many rows the text leaves out.
	More int
}

func shown(m message.Message) table {
	// A text of the owner's own says what its author wants of the rows.
	if m.HasTemplate || len(m.Rows) == 0 {
		return table{}
	}
	t := table{Columns: shortened(m.Columns), More: m.MoreRows}
	for i, row := range m.Rows {
		if i == maxShown {
			t.More += len(m.Rows) - maxShown
			break
		}
		t.Rows = append(t.Rows, shortened(row))
	}
	return t
}

func shortened(cells []string) []string {
	short := make([]string, len(cells))
	for i, cell := range cells {
		short[i] = oneLine(cell, maxCell)
	}
	return short
}

// oneLine is a text without line ends and other control characters, of up to so many letters.
func oneLine(text string, limit int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit]) + "…"
}

// String lines up the cells for a text that is read in a font of one width.
func (t table) String() string {
	widths := make([]int, len(t.Columns))
	for _, row := range append([][]string{t.Columns}, t.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	line := func(cells []string) {
		var cols strings.Builder
		for i, cell := range cells {
			cols.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		text.WriteString(strings.TrimRight(cols.String(), " ") + "\n")
	}
	line(t.Columns)
	for _, row := range t.Rows {
		line(row)
	}
	return text.String()
}

// asCSV is all rows that a message carries, for a spreadsheet.
func asCSV(m message.Message) ([]byte, error) {
	var file bytes.Buffer
	// Excel reads a file without this mark in the encoding of its country.
	file.WriteString("\uFEFF")
	writer := csv.NewWriter(&file)
	writer.UseCRLF = true
	for _, row := range append([][]string{m.Columns}, m.Rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = harmless(cell)
		}
		if err := writer.Write(cells); err != nil {
			return nil, err
		}
	}
	writer.Flush()
	return file.Bytes(), writer.Error()
}

// number matches what a spreadsheet takes for a number, sign or not.
var number = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// harmless is a cell that no spreadsheet takes for a formula, which could send the other cells elsewhere: it begins
// with an apostrophe, as a text that is typed into a spreadsheet does. Numbers keep their sign.
func harmless(cell string) string {
	if strings.IndexAny(cell, "=+-@\t\r\n") != 0 && !strings.HasPrefix(cell, "＝") && !strings.HasPrefix(cell, "＋") &&
		!strings.HasPrefix(cell, "－") && !strings.HasPrefix(cell, "＠") || number.MatchString(cell) {
		return cell
	}
	return "'" + cell
}
