package upload_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lib/pq"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// propertyFiles is how many files are generated, shortFiles how many of them in a short run. One in
// propertyStaged of them is also imported by psql.
const (
	shortFiles     = 500
	propertyStaged = 25 // one in so many
)

// A cell is a value of a generated file; nil is NULL.
type cell = *string

// A generated file: its values, and how they are written.
type generated struct {
	header  []string
	rows    [][]cell
	text    []byte
	request upload.Request
	isPlain bool // encoding/csv can read it
}

// kinds generate the values of a column.
var kinds = []func(*rand.Rand) string{
	func(r *rand.Rand) string { return strconv.Itoa(r.IntN(2000) - 1000) },
	func(r *rand.Rand) string { return strconv.FormatInt(r.Int64()-r.Int64(), 10) },
	func(r *rand.Rand) string { return fmt.Sprintf("%d.%02d", r.IntN(100000), r.IntN(100)) },
	func(r *rand.Rand) string { return strconv.FormatFloat(r.NormFloat64()*1e-7, 'e', -1, 64) },
	func(r *rand.Rand) string { return []string{"true", "false"}[r.IntN(2)] },
	func(r *rand.Rand) string { return []string{"True", "False"}[r.IntN(2)] },
	func(r *rand.Rand) string { return []string{"TRUE", "false"}[r.IntN(2)] },
	func(r *rand.Rand) string { return moment(r).Format("2006-01-02") },
	func(r *rand.Rand) string { return moment(r).Format("2006-01-02 15:04:05") },
	func(r *rand.Rand) string { return moment(r).Format("2006-01-02T15:04:05.000Z") },
	func(r *rand.Rand) string { return moment(r).Format("2006-01-02T15:04:05.000000") },
	func(r *rand.Rand) string { return moment(r).Format("2006-01-02 15:04:05.999-07:00") },
	func(r *rand.Rand) string { return moment(r).Format("15:04:05.999") },
	func(r *rand.Rand) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", r.Uint32(), r.Uint32()) },
	func(r *rand.Rand) string {
		return []string{"007", "+15551234567", " 5", "1e3", "-0", "yes", `\N`, `\.`, "", "NaN", "2024-02-30", "24:00:00",
			"2147483648", "-2147483648", "9223372036854775808", "0.10", "1900-02-29", "x'y", "n/a", "NULL", "'"}[r.IntN(21)]
	},
	func(r *rand.Rand) string {
		pieces := []string{"a", "é", "€", " ", ",", ";", "\t", "|", `"`, `'`, `\`, "\n", "\r\n", "0", "-", ", ", `\"`, `""`, "\r\r\n", "||", "¦"}
		var b strings.Builder
		for range r.IntN(9) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return b.String()
	},
}

func moment(r *rand.Rand) time.Time {
	return time.Date(1990+r.IntN(60), time.Month(1+r.IntN(12)), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60),
		r.IntN(1_000_000)*1000, time.FixedZone("", 3600*(r.IntN(5)-2)))
}

func generate(r *rand.Rand) generated {
	var g generated
	width := 1 + r.IntN(6)
	columns := make([]func(*rand.Rand) string, width)
	all := slices.Concat(kinds, formKinds)
	for i := range columns {
		columns[i] = all[r.IntN(len(all))]
		g.header = append(g.header, fmt.Sprintf("c%d", i))
	}
	for range r.IntN(40) {
		row := make([]cell, width)
		for i := range row {
			kind := columns[i]
			if r.IntN(60) == 0 {
				kind = all[r.IntN(len(all))] // a surprise
			}
			if value := kind(r); r.IntN(12) > 0 {
				row[i] = &value
			}
		}
		g.rows = append(g.rows, row)
	}
	if last := len(g.rows) - 1; last >= 0 && width == 1 && g.rows[last][0] == nil {
		value := columns[0](r) // a blank line at the end is no row
		g.rows[last][0] = &value
	}
	g.write(r)
	g.request.Source = "t.csv"
	g.request = g.request.WithSizes(1+r.IntN(400), 1+r.IntN(200))
	return g
}

// write writes the cells in some dialect, which the request gives.
func (g *generated) write(r *rand.Rand) {
	yes, none := true, 0
	delimiter := []string{",", ";", "\t", "|", " ", ", ", "||", "|~|", "¦", "\x01"}[r.IntN(10)]
	quote := []string{`"`, `'`}[r.IntN(2)]
	escape := []string{quote, `\`}[r.IntN(2)]
	lineEnd := []string{"\n", "\r\n", "\r"}[r.IntN(3)]
	encoding := []string{"UTF8", "UTF8", "UTF8", "WIN1252", "UTF16LE"}[r.IntN(5)]
	g.isPlain = len(delimiter) == 1 && quote == `"` && escape == quote && lineEnd != "\r"
	g.request.Delimiter, g.request.Quote, g.request.Escape = delimiter, quote, escape
	g.request.HasHeader, g.request.Skip, g.request.Encoding = &yes, &none, encoding

	field := func(value cell) string {
		if value == nil {
			return ""
		}
		odd := *value == "" || strings.ContainsAny(*value, delimiter+"\"'\\\r\n") || strings.TrimSpace(*value) != *value
		if !odd && r.IntN(4) > 0 {
			return *value
		}
		escaped := *value
		if escape != quote {
			escaped = strings.ReplaceAll(escaped, escape, escape+escape)
		}
		return quote + strings.ReplaceAll(escaped, quote, escape+quote) + quote
	}
	var lines []string
	lines = append(lines, strings.Join(g.header, delimiter))
	for _, row := range g.rows {
		fields := make([]string, len(row))
		for i, value := range row {
			fields[i] = field(value)
		}
		if len(row) > 1 && r.IntN(20) == 0 {
			lines = append(lines, "") // blank lines mean nothing in more than one column
		}
		lines = append(lines, strings.Join(fields, delimiter))
	}
	text := strings.Join(lines, lineEnd)
	if r.IntN(3) > 0 {
		text += lineEnd
	}
	g.text = encode(r, encoding, text)
}

func encode(r *rand.Rand, encoding, text string) []byte {
	var encoded []byte
	var err error
	switch encoding {
	case "WIN1252":
		encoded, err = charmap.Windows1252.NewEncoder().Bytes([]byte(text))
	case "UTF16LE":
		encoded, err = unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewEncoder().Bytes([]byte(text))
	default:
		encoded = []byte(text)
		if r.IntN(4) == 0 {
			encoded = append([]byte("\ufeff"), encoded...)
		}
	}
	if err != nil {
		panic(err)
	}
	if r.IntN(10) > 0 {
		return encoded
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write(encoded)
	w.Close()
	return packed.Bytes()
}

// For any generated file, the import keeps the value of every cell.
func TestPropertyEveryCellComesBack(t *testing.T) {
	t.Parallel()
	pool, _ := dbtest.Schema(t)
	files := propertyFiles
	if testing.Short() {
		files = shortFiles
		t.Logf("not run: %s with more than %d files of %d", t.Name(), files, propertyFiles)
	}
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for number := worker; number < files && !t.Failed(); number += 2 {
				g := generate(rand.New(rand.NewPCG(1, uint64(number))))
				g.request.Table = fmt.Sprintf("t%d", number)
				if err := checkFile(t.Context(), pool, g, number%propertyStaged == 0); err != nil {
					t.Errorf("file %d: %v\n%q\n%q", number, err, g.request.Delimiter+g.request.Quote+g.request.Escape, g.text)
				}
			}
		})
	}
	group.Wait()
}

func checkFile(ctx context.Context, pool *sql.DB, g generated, isStaged bool) error {
	if g.isPlain && g.request.Encoding == "UTF8" && g.text[0] != 0x1f {
		if err := g.checkPlain(); err != nil {
			return err
		}
	}
	done, err := upload.Load(ctx, pool, bytes.NewReader(g.text), g.request)
	if err != nil {
		return errors.New(db.Explain(err).String())
	}
	back, err := readBack(ctx, pool, g.request.Table, len(g.header))
	if err != nil {
		return err
	}
	if len(back) != len(g.rows) {
		return fmt.Errorf("%d rows came of %d", len(back), len(g.rows))
	}
	for i, row := range g.rows {
		for j, value := range row {
			if !isSame(done.Columns[j], value, back[i][j]) {
				return fmt.Errorf("row %d, column %d, %+v: %s came back as %s", i, j, done.Columns[j], show(value), show(back[i][j]))
			}
		}
	}
	if err := g.checkByText(ctx, pool, done, back); err != nil {
		return err
	}
	if isStaged {
		if err := g.checkStaged(ctx, pool, done, back); err != nil {
			return err
		}
	}
	_, err = pool.ExecContext(ctx, "drop table "+g.request.Table)
	return err
}

// checkPlain reads the file with the standard library.
func (g generated) checkPlain() error {
	reader := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(g.text, []byte("\ufeff"))))
	reader.Comma = rune(g.request.Delimiter[0])
	rows, err := reader.ReadAll()
	if err != nil {
		return fmt.Errorf("encoding/csv: %w", err)
	}
	at := 1
	for _, row := range g.rows {
		if len(row) == 1 && row[0] == nil {
			continue // a blank line, which it skips
		}
		for i, value := range row {
			want := ""
			if value != nil {
				want = strings.ReplaceAll(*value, "\r\n", "\n")
			}
			if rows[at][i] != want {
				return fmt.Errorf("encoding/csv reads %q, written was %q", rows[at][i], want)
			}
		}
		at++
	}
	return nil
}

// readBack reads a table as Postgres prints it, in the order in which it was loaded.
func readBack(ctx context.Context, pool *sql.DB, table string, width int) ([][]cell, error) {
	rows, err := pool.QueryContext(ctx, "select array["+castColumns(width)+"] from "+table+" order by ctid")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var back [][]cell
	for rows.Next() {
		var row []sql.NullString
		if err := rows.Scan(pq.Array(&row)); err != nil {
			return nil, err
		}
		cells := make([]cell, len(row))
		for i := range row {
			if row[i].Valid {
				cells[i] = &row[i].String
			}
		}
		back = append(back, cells)
	}
	return back, rows.Err()
}

func castColumns(width int) string {
	columns := make([]string, width)
	for i := range columns {
		columns[i] = fmt.Sprintf("c%d::text", i)
	}
	return strings.Join(columns, ", ")
}

func show(value cell) string {
	if value == nil {
		return "NULL"
	}
	return strconv.Quote(*value)
}

// isSame reports whether what Postgres prints is the value that was written, as Go computes it.
func isSame(column upload.Column, written, printed cell) bool {
	if written == nil || printed == nil {
		return written == nil && printed == nil
	}
	w, p := *written, *printed
	if column.Form != "" {
		read, err := readForm(column.Form, w)
		if err != nil {
			return false
		}
		w = read
	}
	switch column.Type {
	case "boolean":
		return strings.ToLower(w) == p
	case "uuid":
		return strings.ToLower(w) == p
	case "double precision":
		wrote, err1 := strconv.ParseFloat(w, 64)
		read, err2 := strconv.ParseFloat(p, 64)
		return err1 == nil && err2 == nil && wrote == read
	case "timestamp without time zone", "timestamp with time zone", "time without time zone":
		wrote, err1 := parseTime(w)
		read, err2 := parseTime(p)
		return err1 == nil && err2 == nil && wrote.Equal(read)
	}
	return w == p
}

func parseTime(text string) (time.Time, error) {
	text = strings.Replace(text, "T", " ", 1)
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05-07", "15:04:05"} {
		if parsed, err := time.Parse(layout, text); err == nil {
			return parsed, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", text)
}
