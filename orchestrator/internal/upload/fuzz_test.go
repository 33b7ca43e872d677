package upload_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// FuzzRecords has the server's own COPY as the oracle: what COPY accepts as CSV, the reader reads in the same
// way. They differ on purpose where a quote is within a field or text follows one, and on a line \., which COPY
// takes for the end before PostgreSQL 18.
func FuzzRecords(f *testing.F) {
	for _, text := range []string{
		"a,b\n1,2\n", "\"a\",\"b,\"\"c\"\n", "a\r\nb\r\n", "\"x\ny\",\n,\n", "a", "\n", "a\n\nb\n", "\"\"\n", "é,\\N\n",
		"a,\"b\r\n\"\r\n1,2\r\n", "a,b\n\"1,2\n", "\"a\"b\n", "a\"b\n", "\\.\n", " \"a\"\n",
	} {
		f.Add([]byte(text))
	}
	pool, _ := dbtest.Schema(f)
	pool.SetMaxOpenConns(1)
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte(`\.`)) || len(text) == 0 {
			return // no case in which they must agree
		}
		ours, width, isOdd, err := readRecords(text)
		if isOdd || width == 0 || width > 1600 {
			return
		}
		theirs, copyErr := copyCSV(t.Context(), pool, width, text)
		if copyErr != nil {
			return // it is stricter in some ways: line ends of two kinds, say
		}
		if err != nil {
			t.Fatalf("COPY takes %q, the reader says %v", text, err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%q\nCOPY reads   %v\nthe reader %v", text, theirs, ours)
		}
	})
}

// readRecords reads as the import does. isOdd means that there are quotes on which the two differ.
func readRecords(text []byte) (rows [][]sql.NullString, width int, isOdd bool, err error) {
	reader := records.NewReader(bytes.NewReader(text), records.Dialect{Delimiter: ",", Quote: '"'}, false)
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return rows, width, isOdd, nil
		}
		if err != nil {
			return rows, max(width, 1), isOdd, err
		}
		if width == 0 {
			width = len(record.Fields)
		}
		isOdd = isOdd || record.AfterQuote || record.IsBad
		row := make([]sql.NullString, len(record.Fields))
		for i, field := range record.Fields {
			isOdd = isOdd || !field.IsQuoted && bytes.IndexByte(field.Text, '"') >= 0
			row[i] = sql.NullString{String: string(field.Text), Valid: field.IsQuoted || len(field.Text) > 0}
		}
		rows = append(rows, row)
	}
}

// copyCSV lets the server read text.
func copyCSV(ctx context.Context, pool *sql.DB, width int, text []byte) (rows [][]sql.NullString, err error) {
	columns := make([]string, width)
	for i := range columns {
		columns[i] = fmt.Sprintf("c%d text", i)
	}
	err = upload.InTransaction(ctx, pool, func(conn *sql.Conn) error {
		if _, err := conn.ExecContext(ctx, "create temporary table read ("+strings.Join(columns, ", ")+")"); err != nil {
			return err
		}
		if err := upload.Copy(ctx, conn, "copy read from stdin (format csv)", bytes.TrimSuffix(text, []byte("\n"))); err != nil {
			return err
		}
		found, err := conn.QueryContext(ctx, "select array["+castColumns(width)+"] from read order by ctid")
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			var row []sql.NullString
			if err := found.Scan(pq.Array(&row)); err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return found.Err()
	})
	return rows, err
}
