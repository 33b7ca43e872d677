package workbook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// Rows reads the rows of a sheet. Those without values are left out.
type Rows struct {
	workbook *Workbook
	content  io.ReadCloser
	scan     *scanner
	// skipped are rows that are left out, from the first.
	skipped int64
	// first and width are the columns of the table; without width all are.
	first, width int

	// area is where the sheet says that its cells are, such as A1:H20; empty when it does not.
	area   string
	row    int64
	cells  []span
	cell   cell
	text   []byte // of the cell
	record records.Record
}

// A span is where the text of a cell stands in the text of its row.
type span struct{ start, end int }

// A cell that is read.
type cell struct {
	column     int // from 0
	style      int
	kind       string
	hasFormula bool
	hasValue   bool
	// isWanted is within a text that counts, isSpoken within one that says how another is spoken.
	isWanted, isSpoken bool
}

// Rows begins to read a sheet.
func (w *Workbook) Rows(sheet Sheet) (*Rows, error) {
	content, err := w.open(sheet.part)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return &Rows{workbook: w, content: content, scan: newScanner(content)}, nil
}

// Close ends reading.
func (r *Rows) Close() error { return r.content.Close() }

// SetColumns says which columns the table has: so many, after the first that are left out. From then on records have a
// field for each, and further ones for values to the right.
func (r *Rows) SetColumns(first, width int) { r.first, r.width = first, width }

// SkipLines leaves out so many of the rows that come next, whether they have values or not.
func (r *Rows) SkipLines(count int) error {
	r.skipped = max(r.skipped, r.row) + int64(count)
	return nil
}

// Next reads a row that has a value; io.EOF comes after the last. Its line is the number of the row. Fault names errors in
// cells, which are NULL.
func (r *Rows) Next() (*records.Record, error) {
	record, err := r.next()
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: row %d: %w", ErrFile, r.row, err)
	}
	return record, err
}

func (r *Rows) next() (*records.Record, error) {
	for {
		kind, err := r.scan.next()
		if err != nil {
			return nil, err
		}
		switch {
		case kind == isText:
			if r.cell.isWanted && !r.cell.isSpoken {
				r.text = append(r.text, r.scan.text...)
			}
			if len(r.text)+len(r.record.Raw) > records.MaxRecord {
				return nil, records.ErrLong
			}
		case kind == isStart:
			if err := r.begin(); err != nil {
				return nil, err
			}
		case string(r.scan.name) == "v" || string(r.scan.name) == "t":
			r.cell.isWanted = false
		case string(r.scan.name) == "rPh":
			r.cell.isSpoken = false
		case string(r.scan.name) == "c":
			if err := r.endCell(); err != nil {
				return nil, err
			}
		case string(r.scan.name) == "row":
			if r.isData() {
				return r.finish(), nil
			}
		case string(r.scan.name) == "sheetData":
			return nil, io.EOF
		}
	}
}

// begin begins a row, a cell, or a part of one.
func (r *Rows) begin() error {
	switch string(r.scan.name) {
	case "dimension":
		r.area = string(r.scan.attribute("ref"))
	case "row":
		r.row++
		if number := r.scan.attribute("r"); number != nil {
			row, err := strconv.ParseInt(string(number), 10, 32)
			if err != nil || row < 1 {
				return fmt.Errorf("a row with the number %q", number)
			}
			r.row = row
		}
		r.record = records.Record{Line: r.row, Raw: r.record.Raw[:0], Fields: r.record.Fields[:0]}
		r.cells = r.cells[:0]
		r.cell.column = -1
	case "c":
		return r.beginCell()
	case "f":
		r.cell.hasFormula = true
	case "v", "t":
		r.cell.isWanted, r.cell.hasValue = true, true
	case "rPh":
		r.cell.isSpoken = true
	}
	return nil
}

// maxColumns is how many columns a sheet has.
const maxColumns = 16384

func (r *Rows) beginCell() error {
	column := r.cell.column + 1
	if place := r.scan.attribute("r"); place != nil {
		column = columnOf(place)
	}
	if column < 0 || column >= maxColumns {
		return fmt.Errorf("a cell in the place %q", r.scan.attribute("r"))
	}
	r.cell = cell{column: column, kind: kindOf(r.scan.attribute("t"))}
	if style := r.scan.attribute("s"); style != nil {
		r.cell.style, _ = strconv.Atoi(string(style))
	}
	r.text = r.text[:0]
	return nil
}

// columnOf is the number of the column in a place such as C7, from 0; -1 when there is none.
func columnOf(place []byte) int {
	column := 0
	for _, b := range place {
		b &^= 0x20
		if b < 'A' || b > 'Z' || column > maxColumns {
			break
		}
		column = column*26 + int(b-'A') + 1
	}
	return column - 1
}

// kindOf is a type of cells without an allocation.
func kindOf(name []byte) string {
	for _, kind := range []string{"n", "s", "str", "inlineStr", "b", "e", "d"} {
		if string(name) == kind {
			return kind
		}
	}
	return "n"
}

// endCell adds the value of a cell to its row.
func (r *Rows) endCell() error {
	start := len(r.record.Raw)
	switch {
	case r.cell.hasFormula && len(r.text) == 0 && (!r.cell.hasValue || r.cell.kind == "n"):
		r.note("a formula without a value")
	case len(r.text) == 0:
	default:
		if err := r.appendValue(); err != nil {
			return err
		}
	}
	if start == len(r.record.Raw) {
		return nil
	}
	if r.cell.column >= r.first+records.MaxFields {
		return fmt.Errorf("it has more than %d columns, the most that a table has", records.MaxFields)
	}
	for len(r.cells) <= r.cell.column {
		r.cells = append(r.cells, span{})
	}
	r.cells[r.cell.column] = span{start, len(r.record.Raw)}
	r.record.Raw = append(r.record.Raw, ',')
	return nil
}

func (r *Rows) appendValue() error {
	raw := &r.record.Raw
	switch r.cell.kind {
	case "s":
		text, err := r.workbook.strings.at(bytes.TrimSpace(r.text))
		*raw = append(*raw, text...)
		return err
	case "str", "inlineStr":
		*raw = appendText(*raw, r.text)
	case "d":
		*raw = append(*raw, bytes.TrimSpace(r.text)...)
	case "b":
		*raw = strconv.AppendBool(*raw, string(bytes.TrimSpace(r.text)) != "0")
	case "e":
		r.note(string(r.text))
	default:
		r.appendNumber(bytes.TrimSpace(r.text))
	}
	return nil
}

func (r *Rows) appendNumber(text []byte) {
	raw := &r.record.Raw
	if r.cell.style > 0 && r.cell.style < len(r.workbook.looks) || r.cell.style == 0 && len(r.workbook.looks) > 0 {
		found := r.workbook.looks[r.cell.style]
		number, err := strconv.ParseFloat(string(text), 64)
		if found != (look{}) && err == nil {
			var isMoment bool
			if *raw, isMoment = appendMoment(*raw, number, found, r.workbook.is1904); isMoment {
				return
			}
		}
	}
	*raw = appendNumber(*raw, text)
}

// maxFault bounds the names of faults in a row.
const maxFault = 100

// note notes a cell that is NULL because of an error.
func (r *Rows) note(problem string) {
	if len(r.record.Fault) > maxFault {
		return
	}
	if r.record.Fault != "" {
		r.record.Fault += ", "
	}
	r.record.Fault += problem + " in " + columnName(r.cell.column) + strconv.FormatInt(r.row, 10)
}

// columnName is the name of a column, such as C.
func columnName(column int) string {
	var name []byte
	for column++; column > 0; column = (column - 1) / 26 {
		name = append([]byte{byte('A' + (column-1)%26)}, name...)
	}
	return string(name)
}

// isData reports whether the row has a value, or an error instead of one, and is not left out.
func (r *Rows) isData() bool {
	return r.row > r.skipped && (len(r.cells) > 0 || r.record.Fault != "")
}

// finish makes the record of the row.
func (r *Rows) finish() *records.Record {
	record := &r.record
	isLeft := false
	for column, span := range r.cells {
		switch {
		case column >= r.first:
			record.Fields = append(record.Fields, records.Field{Text: record.Raw[span.start:span.end]})
		case span.end > span.start:
			isLeft = true
			record.Fault = "a value to the left of the table, in " + columnName(column) + strconv.FormatInt(r.row, 10)
		}
	}
	for len(record.Fields) < max(r.width, 1) {
		record.Fields = append(record.Fields, records.Field{})
	}
	record.Raw = bytes.TrimSuffix(record.Raw, []byte{','})
	record.IsBad = bytes.IndexByte(record.Raw, 0) >= 0 || !utf8.Valid(record.Raw)
	switch {
	case isLeft:
	case r.width == 0 || len(record.Fields) == r.width:
		record.IsRepaired = record.Fault != ""
	default:
		// That the row is too wide is what the user must know first.
		record.Fault = ""
	}
	return record
}
