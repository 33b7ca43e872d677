package parquet_test

import (
	"os"
	"strings"
	"testing"
)

// Files by Apache's own library for Go: see testdata/README.md.
func TestFilesOfAnotherProgram(t *testing.T) {
	t.Parallel()
	const columns = "id integer, small integer, big bigint, unsigned numeric, ratio double precision, single real, price numeric(9,2), wide numeric(26,6), " +
		"ok boolean, day date, at timestamp with time zone, local timestamp without time zone, exact , clock time without time zone, " +
		"name text, code text, tags jsonb, home jsonb, scores jsonb, kind text"
	want := []string{
		`["1","-5","9223372036854775807","18446744073709551615","0.1","1.5","1234.50","-99999999999999999999.000001","true","2024-02-29",` +
			`"2024-01-31 10:30:00.123456+00","1969-12-31 23:59:59.5","2024-01-31 10:30:00.123456","09:15:00.25","Ash \u0026 Söhne","007",` +
			`"[\"a\",null,\"b\"]","{\"street\":\"Elm\",\"number\":7}","{\"x\":1,\"y\":null}","red"]`,
		`["2",` + strings.Repeat("null,", 13) + `"",null,"[]","{\"street\":null,\"number\":null}","{}","red"]`,
		`["3",` + strings.Repeat("null,", 18) + `"blue"]`,
	}
	for _, name := range []string{"arrow-v1-snappy.parquet", "arrow-v2-zstd.parquet"} {
		file, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := open(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var types []string
		for _, column := range reader.Columns() {
			types = append(types, column.Name+" "+column.Type)
		}
		if got := strings.Join(types, ", "); got != columns {
			t.Errorf("%s: columns %s, want %s", name, got, columns)
		}
		cells, err := readAll(reader)
		if err != nil || len(cells) != len(want) {
			t.Fatalf("%s: %d rows, %v", name, len(cells), err)
		}
		for i := range want {
			if got := shown(cells[i]); got != want[i] {
				t.Errorf("%s: row %d: %s, want %s", name, i, got, want[i])
			}
		}
	}
}
