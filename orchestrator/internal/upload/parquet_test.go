package upload_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	lib "github.com/parquet-go/parquet-go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/parquet"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// writeParquet writes a file of columns such as "a integer" and rows in which NULL is NULL.
func writeParquet(t *testing.T, columns []string, rows ...[]string) string {
	t.Helper()
	var described []parquet.Column
	for _, column := range columns {
		name, typeName, _ := strings.Cut(column, " ")
		described = append(described, parquet.Column{Name: name, Type: typeName})
	}
	var file bytes.Buffer
	writer := parquet.NewWriter(&file, described)
	for _, row := range rows {
		var values []sql.NullString
		for _, value := range row {
			values = append(values, sql.NullString{String: value, Valid: value != "NULL"})
		}
		if err := writer.Write(values); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

func TestLoadParquet(t *testing.T) {
	all := []string{"b boolean", "i integer", "g bigint", "n numeric(8,2)", "r real", "d double precision", "da date",
		"ts timestamp without time zone", "tz timestamp with time zone", "ti time without time zone", "u uuid", "by bytea", "j jsonb", "x text"}
	type test struct{ name, file, text, options, columns, want string }
	for _, test := range []test{
		{"each type", "a.parquet", writeParquet(t, all,
			[]string{"true", "1", "1", "1.50", "1.5", "0.1", "2024-01-31", "2024-01-31 10:00:00.5", "2024-01-31 10:00:00+02", "10:00:00",
				"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", `\x00`, `{"a":1}`, "25/04/2026"},
			[]string{"NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", ""}), "",
			"b boolean, i integer, g bigint, n numeric(8,2), r real, d double precision, da date, ts timestamp without time zone, " +
				"tz timestamp with time zone, ti time without time zone, u uuid, by bytea, j jsonb, x text",
			`[{"b": true, "d": 0.1, "g": 1, "i": 1, "j": {"a": 1}, "n": 1.50, "r": 1.5, "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "x": "25/04/2026", ` +
				`"by": "\\x00", "da": "2024-01-31", "ti": "10:00:00", "ts": "2024-01-31T10:00:00.5", "tz": "2024-01-31T08:00:00+00:00"}, ` +
				`{"b": null, "d": null, "g": null, "i": null, "j": null, "n": null, "r": null, "u": null, "x": "", "by": null, "da": null, "ti": null, "ts": null, "tz": null}]`},
		{"numbers that are texts", "a.parquet", writeParquet(t, []string{"x text"}, []string{"007"}, []string{"12"}), "", "x text", `[{"x": "007"}, {"x": "12"}]`},
		{"what is no number", "a.parquet", writeParquet(t, []string{"d double precision", "r real"}, []string{"NaN", "Infinity"}, []string{"1", "NaN"}), "",
			"d double precision, r real", `[{"d": "NaN", "r": "Infinity"}, {"d": 1, "r": "NaN"}]`},
		{"only NULL", "a.parquet", writeParquet(t, []string{"g bigint", "d date"}, []string{"NULL", "NULL"}), "", "g bigint, d date", `[{"d": null, "g": null}]`},
		{"no rows", "a.parquet", writeParquet(t, []string{"g bigint", "d double precision"}), "", "g bigint, d double precision", ""},
		{"a given type", "a.parquet", writeParquet(t, []string{"g bigint", "d date"}, []string{"5", "2024-01-31"}), "type=g%3Dtext", "g text, d date", `[{"d": "2024-01-31", "g": "5"}]`},
		{"a day that the ladder does not know", "a.parquet", writeParquet(t, []string{"d date"}, []string{"0044-03-15 BC"}), "", "d text", `[{"d": "0044-03-15 BC"}]`},
		{"a name longer than a column's", "a.parquet", writeParquet(t, []string{strings.Repeat("n", 70) + " jsonb"}, []string{"[1]"}), "",
			strings.Repeat("n", 63) + " text", `[{"` + strings.Repeat("n", 63) + `": "[1]"}]`},
		{"by the option alone", "a", writeParquet(t, []string{"a integer"}, []string{"1"}), "format=parquet", "a integer", `[{"a": 1}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			columns, got, err := loadFile(t, test.file, test.text, test.options)
			if err != nil || columns != test.columns || got != test.want {
				t.Errorf("got\n%s\n%s\n%v\nwant\n%s\n%s", columns, got, err, test.columns, test.want)
			}
		})
	}
}

// A table that exists keeps its types; a column that has become wider is widened where that is asked for.
func TestAppendParquet(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "create table t (id integer unique, at timestamptz, price numeric, note text, data jsonb)")
	columns := []string{"id bigint", "at timestamp with time zone", "price numeric(8,2)", "note text", "data jsonb"}
	for _, test := range []struct{ options, id, want string }{
		{"mode=append", "1", ""},
		{"mode=upsert&key=id", "1", ""},
		{"mode=append", "3000000000", "3000000000"},
		{"mode=append&widen=yes", "3000000000", ""},
	} {
		text := writeParquet(t, columns, []string{test.id, "2024-01-31 10:00:00+00", "1.50", "x", "{}"})
		if _, err := loadMore(t, pool, "t.parquet", text, test.options); (err == nil) != (test.want == "") || err != nil &&
			!strings.Contains(db.Explain(err).String(), test.want) {
			t.Errorf("%s: %v", test.options, db.Explain(err))
		}
	}
	want := `[{"at": "2024-01-31T10:00:00+00:00", "id": 1, "data": {}, "note": "x", "price": 1.50}, ` +
		`{"at": "2024-01-31T10:00:00+00:00", "id": 3000000000, "data": {}, "note": "x", "price": 1.50}]`
	if got := rows(t, pool, "t"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func loadMore(t *testing.T, pool *sql.DB, name, text, options string) (upload.Import, error) {
	t.Helper()
	request, err := upload.NewRequest(name, parsed(t, options))
	if err != nil {
		t.Fatal(err)
	}
	return upload.Load(t.Context(), pool, strings.NewReader(text), request)
}

func TestRefuseParquet(t *testing.T) {
	whole := writeParquet(t, []string{"a integer"}, []string{"1"})
	var encrypted, zeros bytes.Buffer
	encrypted.WriteString("PARE" + whole[4:])
	if err := lib.Write(&zeros, []struct{ T string }{{"a\x00"}}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, text, options, want string }{
		{"cut off", whole[:len(whole)-5], "", "it is not complete: its end is missing"},
		{"encrypted", encrypted.String(), "", "it is encrypted"},
		{"only its beginning", "PAR1", "", "it is too short"},
		{"an option for CSV", whole, "delimiter=%3B", "delimiter is no option for Parquet"},
		{"an option for workbooks", whole, "sheet=x", "sheet is no option for Parquet"},
		{"a value that does not fit", whole, "type=a%3Ddate", "line 1, column a"},
		{"a zero byte in a text", zeros.String(), "", "bytes that are not text"},
		{"another format", "a\n1\n123456789\n", "format=parquet", "it does not begin with PAR1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got, err := loadFile(t, "a.parquet", test.text, test.options); err == nil || !strings.Contains(db.Explain(err).String(), test.want) {
				t.Errorf("got %s, %v, want %q", got, db.Explain(err), test.want)
			}
		})
	}
}

// A small file may have many rows: all values of a column in a few bytes.
func TestLimitWhatAParquetFileHolds(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	row := []string{strings.Repeat("x", 1000)}
	var all [][]string
	for range 5000 {
		all = append(all, row)
	}
	text := writeParquet(t, []string{"t text"}, all...)
	if len(text) > 1<<20 {
		t.Fatalf("a file of %d bytes", len(text))
	}
	_, err := upload.Load(t.Context(), pool, strings.NewReader(text), upload.Request{Source: "t.parquet", MaxBytes: 1 << 20})
	if err == nil || !strings.Contains(db.Explain(err).String(), "more than 1048576 bytes") {
		t.Errorf("got %v", err)
	}
}

// parquetTypes are those of generated files, each with values.
var parquetTypes = []struct {
	name   string
	values []string
}{
	{"boolean", []string{"true", "false"}},
	{"integer", []string{"0", "-2147483648", "7"}},
	{"bigint", []string{"9223372036854775807", "1"}},
	{"numeric(8,2)", []string{"-0.50", "123456.78"}},
	{"double precision", []string{"0.1", "NaN", "1e+300", "-0.000123"}},
	{"real", []string{"0.1", "1e+10"}},
	{"date", []string{"2024-02-29", "1000-01-01"}},
	{"timestamp without time zone", []string{"2024-01-31 10:00:00.123456", "1970-01-01 00:00:00"}},
	{"timestamp with time zone", []string{"2024-01-31 10:00:00.5+00"}},
	{"time without time zone", []string{"10:00:00.25"}},
	{"uuid", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}},
	{"bytea", []string{`\x00ff`}},
	{"jsonb", []string{`{"a": [1, "x"]}`}},
	{"text", []string{"", "007", "25/04/2026", "1.234,56", "a\nb", `\N`, "€"}},
}

// For any generated file, the import keeps the type of every column and the value of every cell.
func TestPropertyEveryCellOfParquetComesBack(t *testing.T) {
	t.Parallel()
	pool, _ := dbtest.Schema(t)
	files := propertyFiles
	if testing.Short() {
		files = shortFiles / 5
	}
	dbtest.Exec(t, pool, "set timezone = 'UTC'")
	for number := range files {
		r := rand.New(rand.NewPCG(25, uint64(number)))
		var columns []string
		var kinds []int
		for i := range 1 + r.IntN(5) {
			kinds = append(kinds, r.IntN(len(parquetTypes)))
			columns = append(columns, fmt.Sprintf("c%d %s", i, parquetTypes[kinds[i]].name))
		}
		var cells [][]string
		for range 1 + r.IntN(30) {
			var row []string
			for _, kind := range kinds {
				values := parquetTypes[kind].values
				value := values[r.IntN(len(values))]
				if r.IntN(6) == 0 {
					value = "NULL"
				}
				row = append(row, value)
			}
			cells = append(cells, row)
		}
		request := upload.Request{Source: "t.parquet", Table: fmt.Sprintf("p%d", number)}.WithSizes(1+r.IntN(400), 1+r.IntN(200))
		done, err := upload.Load(t.Context(), pool, strings.NewReader(writeParquet(t, columns, cells...)), request)
		if err != nil {
			t.Fatalf("file %d: %v", number, db.Explain(err))
		}
		for i, column := range done.Columns {
			if column.Type != parquetTypes[kinds[i]].name {
				t.Fatalf("file %d: column %d is %s, want %s", number, i, column.Type, parquetTypes[kinds[i]].name)
			}
		}
		back, err := readBack(t.Context(), pool, request.Table, len(kinds))
		if err != nil || len(back) != len(cells) {
			t.Fatalf("file %d: %d rows, %v", number, len(back), err)
		}
		for i, row := range cells {
			for j, value := range row {
				written := &value
				if value == "NULL" {
					written = nil
				}
				if !isSame(done.Columns[j], written, back[i][j]) && !(done.Columns[j].Type == "double precision" && value == "NaN" && *back[i][j] == "NaN") {
					t.Fatalf("file %d: row %d, column %d, %+v: %s came back as %s", number, i, j, done.Columns[j], value, show(back[i][j]))
				}
			}
		}
		dbtest.Exec(t, pool, "drop table "+request.Table)
	}
}

// Values that are handed over as the file has them become those of an import by text: in the same columns, of the same types.
func TestParquetByTextIsTheSame(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	dbtest.Exec(t, pool, "set timezone = 'UTC'")
	odd := map[string][]string{
		"date":                        {"0044-03-15 BC", "0999-12-31", "10000-01-01", "9999-12-31"},
		"timestamp without time zone": {"0999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999", "10000-01-01 00:00:00"},
		"timestamp with time zone":    {"0044-03-15 10:00:00+00 BC", "294000-01-01 00:00:00+00"},
		"numeric(8,2)":                {"-999999.99", "0.00"},
		"double precision":            {"-Infinity", "5e-324", "0"},
	}
	texts := map[string]bool{}
	for number := range 60 {
		r := rand.New(rand.NewPCG(26, uint64(number)))
		var columns []string
		var rows [][]string
		kinds := r.Perm(len(parquetTypes))[:1+r.IntN(6)]
		for i, kind := range kinds {
			columns = append(columns, fmt.Sprintf("c%d %s", i, parquetTypes[kind].name))
		}
		for range 40 {
			var row []string
			for _, kind := range kinds {
				values := parquetTypes[kind].values
				if others := odd[parquetTypes[kind].name]; others != nil && r.IntN(50) == 0 {
					values = others
				}
				row = append(row, values[r.IntN(len(values))])
				if r.IntN(6) == 0 {
					row[len(row)-1] = "NULL"
				}
			}
			rows = append(rows, row)
		}
		file := writeParquet(t, columns, rows...)
		var read []string
		for _, request := range []upload.Request{{}, upload.Request{}.ByText()} {
			request.Source, request.Table = "t.parquet", fmt.Sprintf("p%d", number)
			request = request.WithSizes(1+r.IntN(300), 1+r.IntN(200))
			done, err := upload.Load(t.Context(), pool, strings.NewReader(file), request)
			if err != nil {
				t.Fatalf("file %d: %v", number, db.Explain(err))
			}
			for i, column := range done.Columns {
				texts[parquetTypes[kinds[i]].name] = texts[parquetTypes[kinds[i]].name] || column.Type == "text"
			}
			read = append(read, fmt.Sprint(done.Columns, rowsInOrder(t, pool, request.Table)))
			dbtest.Exec(t, pool, "drop table "+request.Table)
		}
		if read[0] != read[1] {
			t.Fatalf("file %d: %s\nby text\n%s", number, read[0], read[1])
		}
	}
	if !texts["date"] || !texts["timestamp with time zone"] || texts["integer"] {
		t.Errorf("columns have become text: %v", texts)
	}
}

func rowsInOrder(t *testing.T, pool *sql.DB, table string) string {
	t.Helper()
	return dbtest.Value[string](t, pool, "select array_agg(r::text order by ctid)::text from "+table+" as r")
}

func parsed(t *testing.T, options string) url.Values {
	t.Helper()
	values, err := url.ParseQuery(options)
	if err != nil {
		t.Fatal(err)
	}
	return values
}
