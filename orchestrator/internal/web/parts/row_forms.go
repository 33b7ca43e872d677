package parts

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/parquet"
)

// A rowForm is one of the formats in which rows are returned.
type rowForm struct {
	mediaType, suffix, contentType string
	isJSON, isFile, isPage         bool
	// isExact means that the types of the columns are those that have all values: see tinydevcrm._choose_exact_types().
	isExact bool
	write   func(w io.Writer, rows *download) error
}

// rowForms begin with the default format.
func rowForms() []rowForm {
	return []rowForm{
		{
			mediaType: "application/json", suffix: ".json", contentType: "application/json; charset=utf-8",
			isJSON: true,
			write:  writeJSONRows,
		},
		{mediaType: "text/html", suffix: ".html", isPage: true},
		{
			mediaType: "text/csv", suffix: ".csv", contentType: "text/csv; charset=utf-8; header=present",
			isFile: true,
			write:  writeCSVRows,
		},
		{
			mediaType: "application/vnd.apache.parquet", suffix: ".parquet", contentType: "application/vnd.apache.parquet",
			isFile: true, isExact: true,
			write: writeParquetRows,
		},
	}
}

// endsLikeAForm reports whether an address may name a format.
func endsLikeAForm(name string) bool {
	return slices.ContainsFunc(rowForms(), func(form rowForm) bool { return strings.HasSuffix(name, form.suffix) })
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
func writeJSONRows(w io.Writer, rows *download) error {
	keys := make([]string, len(rows.columns))
	for i, column := range rows.columns {
		var key bytes.Buffer
		encoder := json.NewEncoder(&key)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(column); err != nil {
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
func writeCSVRows(w io.Writer, rows *download) error {
	header := make([]sql.NullString, len(rows.columns))
	for i, column := range rows.columns {
		header[i] = sql.NullString{String: column, Valid: true}
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

// writeParquetRows writes each column in its type.
func writeParquetRows(w io.Writer, rows *download) error {
	columns := make([]parquet.Column, len(rows.columns))
	for i, name := range rows.columns {
		columns[i] = parquet.Column{Name: name, Type: rows.types[i]}
	}
	file := parquet.NewWriter(w, columns)
	for values, err := range rows.all() {
		if err != nil {
			return err
		}
		if err := file.Write(values); err != nil {
			return fmt.Errorf("write Parquet: %w", err)
		}
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}
