package parquet_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/parquet"
	readable "github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/parquet"
)

// printed are values as Postgres prints them, by type; the last two columns are what they are read as, if that differs.
var printed = []struct {
	typeName string
	values   []string
	readType string
	read     []string
}{
	{"boolean", []string{"true", "false"}, "", nil},
	{"smallint", []string{"-32768", "7"}, "integer", nil},
	{"integer", []string{"-2147483648", "0"}, "", nil},
	{"bigint", []string{"9223372036854775807", "-1"}, "", nil},
	{"real", []string{"1.1", "NaN", "-Infinity", "1e+06"}, "", nil},
	{"double precision", []string{"0.30000000000000004", "Infinity", "1e+22", "-5e-324"}, "", nil},
	{"numeric(6,2)", []string{"9999.99", "-0.01", "0.00"}, "", nil},
	{"numeric(18,0)", []string{"-999999999999999999", "5"}, "", nil},
	{"numeric(38,10)", []string{"-9999999999999999999999999999.9999999999", "0.0000000001"}, "", nil},
	{"numeric(39,10)", []string{"1.0000000000"}, "text", nil},
	{"numeric", []string{"12345678901234567890.10", "NaN"}, "text", nil},
	{"date", []string{"2024-02-29", "0044-03-15 BC", "0001-01-01", "5874897-12-31"}, "", nil},
	{"time without time zone", []string{"23:59:59.999999", "00:00:00"}, "", nil},
	{"time(3) without time zone", []string{"10:00:00.5"}, "time without time zone", nil},
	{"timestamp without time zone", []string{"1969-12-31 23:59:59.5", "0001-12-31 00:00:00 BC", "290000-01-01 00:00:00"}, "", nil},
	{"timestamp(0) without time zone", []string{"2024-01-31 10:00:00"}, "timestamp without time zone", nil},
	{"timestamp with time zone", []string{"2024-01-31 10:00:00+05:30", "2024-01-31 10:00:00.25-03", "1900-01-01 00:00:00+00:19:32"},
		"", []string{"2024-01-31 04:30:00+00", "2024-01-31 13:00:00.25+00", "1899-12-31 23:40:28+00"}},
	{"uuid", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, "", nil},
	{"bytea", []string{`\x`, `\x00ff`}, "", nil},
	{"jsonb", []string{`{"a": [1, null]}`}, "", nil},
	{"text", []string{"", "007", "é\n\"x\"", "NULL"}, "", nil},
	{"character varying(20)", []string{"a"}, "text", nil},
	{"integer[]", []string{"{1,NULL}"}, "text", nil},
	{"tstzrange", []string{"empty"}, "text", nil},
	{"public.\"My Type\"(3)", []string{"x"}, "text", nil},
}

func open(file []byte) (*readable.Reader, error) {
	return readable.Open(bytes.NewReader(file), int64(len(file)), nil)
}

// readAll returns the texts of all cells; nil is NULL.
func readAll(reader *readable.Reader) (cells [][]*string, err error) {
	defer reader.Close()
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return cells, nil
		}
		if err != nil {
			return cells, err
		}
		var line []*string
		for _, field := range record.Fields {
			var cell *string
			if text := string(field.Text); text != "" || field.IsQuoted {
				cell = &text
			}
			line = append(line, cell)
		}
		cells = append(cells, line)
	}
}

func shown(cells any) string {
	text, _ := json.Marshal(cells)
	return string(text)
}

// Each row has a value of each type, or NULL; there are several row groups.
func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(25, 3))
	var columns []parquet.Column
	for i, kind := range printed {
		// Names that are not in the order of the alphabet.
		columns = append(columns, parquet.Column{Name: fmt.Sprintf("%c %d", 'z'-i, i), Type: kind.typeName})
	}
	var file bytes.Buffer
	writer := parquet.NewWriter(&file, columns)
	var want [][]*string
	for range 300_000 / len(printed) {
		var row []sql.NullString
		var line []*string
		for _, kind := range printed {
			if r.IntN(6) == 0 {
				row, line = append(row, sql.NullString{}), append(line, nil)
				continue
			}
			i := r.IntN(len(kind.values))
			text := kind.values[i]
			row = append(row, sql.NullString{String: text, Valid: true})
			if kind.read != nil {
				text = kind.read[i]
			}
			line = append(line, &text)
		}
		if err := writer.Write(row); err != nil {
			t.Fatal(err)
		}
		want = append(want, line)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := open(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for i, column := range reader.Columns() {
		kind := printed[i]
		if kind.readType == "" {
			kind.readType = kind.typeName
		}
		if column.Name != columns[i].Name || column.Type != kind.readType {
			t.Errorf("%v, want %s %s", column, columns[i].Name, kind.readType)
		}
	}
	got, err := readAll(reader)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("row %d: %s, want %s", i, shown(got[i:i+1]), shown(want[i:i+1]))
		}
	}
}

func TestAFileWithoutRowsHasItsColumns(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	if err := parquet.NewWriter(&file, []parquet.Column{{Name: "a", Type: "date"}}).Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := open(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(reader); len(got) != 0 || err != nil || reader.Columns()[0].Type != "date" {
		t.Errorf("%v, %v, %v", got, err, reader.Columns())
	}
}

// A value without a place in its type breaks the file off; a wrong value would be worse.
func TestAValueWithoutAPlaceIsNamed(t *testing.T) {
	t.Parallel()
	for typeName, value := range map[string]string{
		"date":                        "infinity",
		"timestamp with time zone":    "-infinity",
		"timestamp without time zone": "294276-12-31 00:00:00",
		"time without time zone":      "24:00:00",
		"numeric(5,2)":                "NaN",
		"bytea":                       "abc",
	} {
		writer := parquet.NewWriter(io.Discard, []parquet.Column{{Name: "a", Type: typeName}})
		err := writer.Write([]sql.NullString{{String: value, Valid: true}})
		if want := `row 1, column a: "` + value + `"`; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", typeName, err, want)
		}
	}
}

// memoryBound is for the writer or the reader of a file of any length.
const memoryBound = 64 << 20

// The heap beyond what there was stays below the bound, for a file that is several times as large.
func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	rows := 1_000_000
	if testing.Short() {
		rows = 200_000
	}
	before := heap()
	peak := uint64(0)
	look := func(i int) {
		if i%20_000 == 0 {
			peak = max(peak, heap())
		}
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var columns []parquet.Column
	for i, typeName := range []string{"bigint", "text", "double precision", "timestamp with time zone", "numeric(12,2)", "text", "date", "boolean"} {
		columns = append(columns, parquet.Column{Name: fmt.Sprint("c", i), Type: typeName})
	}
	writer := parquet.NewWriter(file, columns)
	r := rand.New(rand.NewPCG(25, 4))
	for i := range rows {
		row := make([]sql.NullString, len(columns))
		for j, text := range []string{fmt.Sprint(r.Int64()), fmt.Sprintf("%032x", r.Uint64()), fmt.Sprint(r.Float64()),
			"2024-01-31 10:00:00+00", fmt.Sprintf("%d.%02d", r.IntN(1e6), r.IntN(100)), strings.Repeat("x", r.IntN(60)), "2024-01-31", "true"} {
			row[j] = sql.NullString{String: text, Valid: true}
		}
		if err := writer.Write(row); err != nil {
			t.Fatal(err)
		}
		look(i)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if peak > before+memoryBound {
		t.Errorf("writing takes %d MB", (peak-before)>>20)
	}
	peak = 0
	info, _ := file.Stat()
	reader, err := readable.Open(file, info.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for i := 0; ; i++ {
		if _, err := reader.Next(); err == io.EOF {
			if i != rows {
				t.Errorf("%d rows", i)
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
		look(i)
	}
	if peak > before+memoryBound {
		t.Errorf("reading takes %d MB", (peak-before)>>20)
	}
}

// heap is what is in use, after a collection.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse
}
