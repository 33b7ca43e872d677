package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/spool"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/workbook"
)

// workbookFormat is read as CSV is, with the rows of a sheet for lines.
const workbookFormat = "xlsx"

func isWorkbook(sample []byte, named string) bool {
	document, _ := documentIn(sample)
	return document == workbookDocument ||
		bytes.HasPrefix(sample, []byte("PK\x03\x04")) && named == workbookFormat
}

// sampledRows is how many rows of a sheet show where its table is.
const sampledRows = 1000

// openWorkbook finds the table in a workbook. The workbook is in a temporary file, because its list of parts is at its end.
func (l *loader) openWorkbook(ctx context.Context, text io.Reader) (Dialect, error) {
	file, size, err := spool.File(text)
	if err != nil {
		return Dialect{}, err
	}
	l.closers = append(l.closers, file)
	limit := l.request.MaxBytes
	if ratio := l.request.MaxRatio; ratio > 0 {
		limit = min(cmpLimit(limit), max(anyRatio, size*ratio))
	}
	book, err := workbook.Open(file, size, func(part io.Reader) io.Reader { return &countingReader{reader: part, limit: limit} })
	if err != nil {
		return Dialect{}, explainWorkbook(err, nil)
	}
	l.book = book
	sheet, err := book.Find(l.request.Sheet)
	if err != nil {
		return Dialect{}, explainWorkbook(err, book)
	}
	found, err := l.findTable(ctx, book, sheet)
	if err != nil {
		return Dialect{}, explainWorkbook(err, book)
	}
	rows, err := book.Rows(sheet)
	if err != nil {
		return Dialect{}, explainWorkbook(err, book)
	}
	l.closers = append(l.closers, rows)
	rows.SetColumns(found.first, found.width)
	if err := rows.SkipLines(found.dialect.SkipLines); err != nil {
		return Dialect{}, err
	}
	l.records = &lines{reader: sheetRows{rows}, comment: []byte(l.request.Comment), skipEnd: l.request.SkipEnd}
	return found.dialect, l.readHeader(found.dialect)
}

// cmpLimit is a limit of which 0 means none.
func cmpLimit(limit int64) int64 {
	if limit == 0 {
		return math.MaxInt64
	}
	return limit
}

// A foundTable is the place of the table in a sheet.
type foundTable struct {
	dialect Dialect
	// first is its first column, width how many it has.
	first, width int
}

// findTable lets the database find the header, as in a CSV file with the same values.
func (l *loader) findTable(ctx context.Context, book *workbook.Workbook, sheet workbook.Sheet) (foundTable, error) {
	request := l.request
	request.Encoding, request.Delimiter, request.Quote, request.Escape = "UTF8", ",", `"`, `"`
	skipped := 0
	if request.Skip != nil {
		skipped, request.Skip = *request.Skip, new(0)
	}
	rows, err := book.Rows(sheet)
	if err != nil {
		return foundTable{}, err
	}
	defer rows.Close()
	if err := rows.SkipLines(skipped); err != nil {
		return foundTable{}, err
	}
	var sample []byte
	var spans []rowSpan
	for len(spans) < sampledRows && len(sample) < sampleSize {
		record, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return foundTable{}, err
		}
		sample = appendCSV(sample, record.Fields)
		spans = append(spans, spanOf(record))
	}
	if len(spans) == 0 {
		return foundTable{}, errNoHeader
	}
	dialect, err := sniff(sample, request)
	if err != nil {
		return foundTable{}, err
	}
	above := min(dialect.SkipLines, len(spans)-1)
	table := spans[above]
	for _, span := range spans[above:] {
		table.first, table.end = min(table.first, span.first), max(table.end, span.end)
	}
	if above > 0 {
		skipped = int(spans[above-1].row)
	}
	found := Dialect{Format: workbookFormat, Sheet: sheet.Name, Encoding: dialect.Encoding, HasHeader: dialect.HasHeader,
		SkipLines: skipped, Warnings: append(sheetNotes(book, sheet), dialect.Warnings...)}
	return foundTable{found, table.first, table.end - table.first}, nil
}

// A rowSpan is from which column to which a row has values.
type rowSpan struct {
	row        int64
	first, end int
}

func spanOf(record *records.Record) rowSpan {
	span := rowSpan{record.Line, len(record.Fields), 0}
	for column, field := range record.Fields {
		if len(field.Text) > 0 {
			span.first, span.end = min(span.first, column), column+1
		}
	}
	return span
}

// appendCSV writes a row as a line of CSV.
func appendCSV(to []byte, fields []records.Field) []byte {
	for i, field := range fields {
		if i > 0 {
			to = append(to, ',')
		}
		text := strings.ReplaceAll(strings.Join(strings.Fields(printable(field.Text)), " "), `"`, `""`)
		if strings.ContainsAny(text, `",`) {
			text = `"` + text + `"`
		}
		to = append(to, text...)
	}
	return append(to, '\n')
}

// sheetNotes list the sheets, if there are several.
func sheetNotes(book *workbook.Workbook, chosen workbook.Sheet) []string {
	if len(book.Sheets()) == 1 {
		return nil
	}
	return []string{fmt.Sprintf("this is the sheet %q; choose another with --sheet: %s", chosen.Name, nameSheets(book))}
}

// shownSheets is how many sheets are listed.
const shownSheets = 20

func nameSheets(book *workbook.Workbook) string {
	var names []string
	sheets := book.Sheets()
	for _, sheet := range sheets[:min(len(sheets), shownSheets)] {
		name := sheet.Name
		if sheet.IsHidden {
			name += " (hidden)"
		}
		names = append(names, name)
	}
	if more := len(sheets) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// sheetRows explain errors.
type sheetRows struct{ *workbook.Rows }

func (r sheetRows) Next() (*records.Record, error) {
	record, err := r.Rows.Next()
	return record, explainWorkbook(err, nil)
}

func explainWorkbook(err error, book *workbook.Workbook) error {
	var known *db.UserError
	problem := &db.UserError{Status: http.StatusUnprocessableEntity, Code: "TD005"}
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, workbook.ErrSheet):
		problem.Code, problem.Message = "TD007", "the workbook has "+err.Error()
		problem.Hint = "Its sheets are " + nameSheets(book) + "."
		problem.Choices = sheetChoices(book)
	case errors.Is(err, workbook.ErrFile):
		problem.Message = err.Error()
		problem.Hint = "Is the file complete? Otherwise save it again as xlsx, or the sheet as CSV UTF-8."
	default:
		return err
	}
	return problem
}
