package web_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// Columns of each type, two values in SQL, the type that comes back, and how values are compared, if not by their text.
var exactColumns = []struct{ name, declared, one, other, comesBackAs, compared string }{
	{"yes", "boolean", "true", "false", "boolean", "%"},
	{"tiny", "smallint", "-32768", "7", "integer", "%"},
	{"n", "integer", "2147483647", "-1", "integer", "%"},
	{"big", "bigint", "9223372036854775807", "-9223372036854775808", "bigint", "%"},
	{"half", "real", "0.1", "'NaN'", "real", "%"},
	{"float", "double precision", "0.30000000000000004", "'-Infinity'", "double precision", "%"},
	{"price", "numeric(10, 2)", "99999999.99", "-0.01", "numeric(10,2)", "%"},
	{"wide", "numeric(38, 10)", "-9999999999999999999999999999.9999999999", "0", "numeric(38,10)", "%"},
	{"free", "numeric", "1.25", "-12345678901234.10", "numeric(18,2)", "round(%, 5)"},
	{"huge", "numeric", "1e50", "0.5", "text", "%"},
	{"nan", "numeric(5, 1)", "'NaN'", "1", "text", "%"},
	{"day", "date", "'2024-02-29'", "'9999-12-31'", "date", "%"},
	{"end", "date", "'infinity'", "'2024-01-01'", "text", "%"},
	{"at", "timestamptz", "'2024-01-31 10:00:00.123456+05:30'", "'1999-12-31 23:59:59-08'", "timestamp with time zone", "%"},
	{"here", "timestamp(3)", "'2024-01-31 10:00:00.25'", "'1969-12-31 23:59:59.999'", "timestamp without time zone", "%"},
	{"clock", "time", "'23:59:59.999999'", "'00:00'", "time without time zone", "%"},
	{"midnight", "time", "'24:00'", "'12:00'", "text", "%"},
	{"id", "uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'", "uuid", "%"},
	{"data", "bytea", `'\x00ff'`, `'\x'`, "bytea", "%"},
	{"json", "jsonb", `'{"a": [1, null, "\u00e9"]}'`, `'"x"'`, "jsonb", "%"},
	{"written", "json", `'{"a" :  1.0}'`, `'[]'`, "jsonb", "%::jsonb"},
	{"words", "text", `''`, `e'007\n"\\'`, "text", "%"},
	{"short", "varchar(20)", "'a'", "' 5'", "text", "%"},
	{"list", "integer[]", "'{1,NULL}'", "'{}'", "text", "%"},
	{"span", "interval", "'1 mon 2 days'", "'00:00:01'", "text", "%"},
	{"mood", "mood", "'fine'", "'bad'", "text", "%"},
	{"amount", "amount", "1.50", "2", "numeric(10,2)", "%"},
}

// What goes out as Parquet comes in again: each cell with its value, whatever the settings of the reader.
func TestRowsGoRoundAsParquet(t *testing.T) {
	f := newFixture(t)
	odd, err := db.Open(t.Context(), dbtest.WithSearchPath(t, dbtest.URL(t), f.schema)+
		"&bytea_output=escape&extra_float_digits=0&timezone=Asia/Kolkata", db.MaxConns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { odd.Close() })
	config := f.config()
	config.Pool = odd
	usual, reader := f.server, httptest.NewServer(web.Handler(config))
	t.Cleanup(reader.Close)

	f.exec("create type mood as enum ('fine', 'bad')")
	f.exec("create domain amount as numeric(10, 2)")
	var declared, one, other []string
	for _, column := range exactColumns {
		declared = append(declared, fmt.Sprintf("%q %s", column.name, column.declared))
		one, other = append(one, column.one), append(other, column.other)
	}
	f.exec(fmt.Sprintf("create table first (%s)", strings.Join(declared, ", ")))
	f.exec(fmt.Sprintf("insert into first values (%s), (%s), (%s)", strings.Join(one, ", "), strings.Join(other, ", "),
		strings.TrimSuffix(strings.Repeat("null, ", len(one)), ", ")))
	f.watch("copied", "select * from first")
	for _, path := range []string{"/matviews/copied.parquet", "/tables/first.parquet"} {
		f.server = reader
		file := f.send(get(path))
		f.server = usual
		if name := file.header.Get("Content-Disposition"); file.status != 200 || !strings.HasSuffix(name, ".parquet") {
			t.Fatalf("%s: %d, %s: %s", path, file.status, name, file.body)
		}
		sent := form("POST", "/upload-file?table=back&mode=replace", field{name: "file", file: "x.parquet", value: file.body})
		if got := f.send(sent); got.status != 201 {
			t.Fatalf("upload: %d %s", got.status, got.body)
		}
		for _, column := range exactColumns {
			values := func(table string) string {
				expression := strings.ReplaceAll(column.compared, "%", `"`+column.name+`"`)
				return f.text("select array_agg((" + expression + ")::text)::text from " + table)
			}
			typeName := f.text("select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'back'::regclass and attname = $1", column.name)
			if wrote, read := values("first"), values("back"); wrote != read || typeName != column.comesBackAs {
				t.Errorf("%s: %s %s came back as %s %s", path, column.name, wrote, typeName, read)
			}
		}
		if count := f.number("select count(*) from back"); count != 3 {
			t.Errorf("%d rows", count)
		}
	}
}
