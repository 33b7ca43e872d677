package web

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A rowForm is one of the formats in which rows are returned.
type rowForm struct {
	mediaType, suffix, contentType string
	isJSON, isFile                 bool
	// cellLimit and rowLimit are for a page that people read.
	cellLimit sql.Null[int]
	rowLimit  int
	write     func(s *server, w io.Writer, rows *viewRows) error
}

// rowForms begin with the default format.
func rowForms() []rowForm {
	return []rowForm{
		{
			mediaType: "application/json", suffix: ".json", contentType: "application/json; charset=utf-8",
			isJSON: true,
			write:  (*server).writeJSONRows,
		},
		{
			mediaType: "text/html", suffix: ".html", contentType: "text/html; charset=utf-8",
			cellLimit: sql.Null[int]{V: maxCell + 1, Valid: true}, rowLimit: shownRows,
			write: (*server).writePageRows,
		},
		{
			mediaType: "text/csv", suffix: ".csv", contentType: "text/csv; charset=utf-8; header=present",
			isFile: true,
			write:  (*server).writeCSVRows,
		},
	}
}

// chooseForm chooses by the header Accept: the format with the greatest q, and the first of several.
func chooseForm(r *http.Request) rowForm {
	forms := rowForms()
	accepts := strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",")
	chosen, greatest := forms[0], 0.0
	for _, form := range forms {
		if quality := qualityOf(form.mediaType, accepts); quality > greatest {
			chosen, greatest = form, quality
		}
	}
	return chosen
}

// qualityOf is the q of the range that matches a media type most closely; 0 when none does.
func qualityOf(mediaType string, accepts []string) float64 {
	main, _, _ := strings.Cut(mediaType, "/")
	closest, quality := 0, 0.0
	for _, accept := range accepts {
		name, parameters, err := mime.ParseMediaType(accept)
		closeness := map[string]int{mediaType: 3, main + "/*": 2, "*/*": 1}[name]
		if err != nil || closeness <= closest {
			continue
		}
		closest, quality = closeness, 1
		if given, isThere := parameters["q"]; isThere {
			quality, _ = strconv.ParseFloat(given, 64)
		}
	}
	return quality
}

// writeJSONRows writes an array of objects. The database has formatted each value as JSON.
func (s *server) writeJSONRows(w io.Writer, rows *viewRows) error {
	keys := make([]string, len(rows.Columns))
	for i, column := range rows.Columns {
		var key bytes.Buffer
		encoder := json.NewEncoder(&key)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(column.Name); err != nil {
			return fmt.Errorf("encode the name of a column: %w", err)
		}
		keys[i] = strings.TrimSuffix(key.String(), "\n")
	}

	object, separator := []byte(nil), "["
	for values, err := range rows.all() {
		if err != nil {
			return err
		}
		object = append(append(object[:0], separator...), '{')
		for i, value := range values {
			if i > 0 {
				object = append(object, ',')
			}
			if !value.Valid {
				value.String = "null"
			}
			object = append(append(append(object, keys[i]...), ':'), value.String...)
		}
		if _, err := w.Write(append(object, '}')); err != nil {
			return fmt.Errorf("write a row: %w", err)
		}
		separator = ",\n"
	}
	end := "]\n"
	if separator == "[" {
		end = "[]\n"
	}
	if _, err := io.WriteString(w, end); err != nil {
		return fmt.Errorf("write the end: %w", err)
	}
	return nil
}

// writeCSVRows writes what an upload can read back: a header, NULL as nothing, the empty text as "".
func (s *server) writeCSVRows(w io.Writer, rows *viewRows) error {
	header := make([]sql.NullString, len(rows.Columns))
	for i, column := range rows.Columns {
		header[i] = sql.NullString{String: column.Name, Valid: true}
	}
	line := appendLine(nil, header)
	for values, err := range rows.all() {
		if err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return fmt.Errorf("write a row: %w", err)
		}
		line = appendLine(line[:0], values)
	}
	if _, err := w.Write(line); err != nil {
		return fmt.Errorf("write a row: %w", err)
	}
	return nil
}

// appendLine appends a line of CSV, as RFC 4180 describes it.
func appendLine(line []byte, values []sql.NullString) []byte {
	for i, value := range values {
		if i > 0 {
			line = append(line, ',')
		}
		switch {
		case !value.Valid:
		// \. on a line of its own ends the file for psql.
		case value.String == "", value.String == `\.`, strings.ContainsAny(value.String, "\",\r\n"):
			line = append(line, '"')
			line = append(line, strings.ReplaceAll(value.String, `"`, `""`)...)
			line = append(line, '"')
		default:
			line = append(line, value.String...)
		}
	}
	return append(line, '\r', '\n')
}

// A rowsPage holds what the template shows: rows, or why there are none.
type rowsPage struct {
	*viewRows
	Rows    iter.Seq[[]cell]
	Problem *db.Problem
}

func (s *server) writePageRows(w io.Writer, rows *viewRows) error {
	page := rowsPage{viewRows: rows}
	var broken error
	page.Rows = func(yield func([]cell) bool) {
		for values, err := range rows.all() {
			if err != nil {
				broken = err
				return
			}
			if !yield(cellsOf(values)) {
				return
			}
		}
	}
	if err := s.templates.ExecuteTemplate(w, "rows.html", page); err != nil {
		return fmt.Errorf("render the rows of %s: %w", rows.Name, err)
	}
	return broken
}

// cellsOf returns the values as a page shows them.
func cellsOf(values []sql.NullString) []cell {
	cells := make([]cell, len(values))
	for i, value := range values {
		cells[i] = cell{Text: shorten(value.String), IsNull: !value.Valid}
	}
	return cells
}

// Home is the URL of the view on the page, where it is scheduled.
func (p rowsPage) Home() string {
	values := url.Values{}
	if p.viewRows != nil {
		values.Set("matview", p.Relation)
	}
	return pageURL(values, stepSchedule)
}

// Address is the URL of the rows in another format.
func (p rowsPage) Address(suffix string) string {
	return "/matviews/" + url.PathEscape(p.Name) + suffix
}

// IsCut means that there are more rows than the page shows.
func (p rowsPage) IsCut() bool { return p.Count > shownRows }

// Summary says how many rows there are, and how many of them are shown.
func (p rowsPage) Summary() string {
	if p.IsCut() {
		return fmt.Sprintf("The first %s of %s rows", group(shownRows), group(p.Count))
	}
	if p.Count == 1 {
		return "1 row"
	}
	return group(p.Count) + " rows"
}

// group formats a number with a comma between groups of three digits.
func group(number int64) string {
	text := strconv.FormatInt(number, 10)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
