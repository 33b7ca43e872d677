package binary_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/binary"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// types are those that can be written, with the functions that show each bit of a value.
var types = map[string]string{
	"text":                        "textsend",
	"boolean":                     "boolsend",
	"integer":                     "int4send",
	"bigint":                      "int8send",
	"numeric":                     "numeric_send",
	"date":                        "date_send",
	"timestamp without time zone": "timestamp_send",
	"timestamp with time zone":    "timestamptz_send",
	"time without time zone":      "time_send",
	"uuid":                        "uuid_send",
	"double precision":            "float8send",
	"real":                        "float4send",
	"bytea":                       "byteasend",
}

// edges are values at the ends of the types, and what looks like them. Those that are not written go by text.
var edges = []string{
	"", " ", "é", "x\ty\nz\\.", "0", "-0", "1", "-1", "007", "+1", " 1", "1 ", "1e3", "1_000", "0x1f",
	"2147483647", "2147483648", "-2147483648", "-2147483649",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551616",
	"0.0", "-0.0", "-0.00", "0.1", "0.10", "0.0001", "0.00010", "0.00001", "1.", ".5", "1.5.5", "1..5", "-", "-.", "--1", "1-", ".",
	"9999", "10000", "99999999", "100000000", "10000.0001", "12345.6789", "123456789.123456789", "100000000000000000000000",
	"-123.4500000000000000000000", "0." + strings.Repeat("0", 990) + "1", strings.Repeat("9", 1000), "1" + strings.Repeat("0", 999),
	"0." + strings.Repeat("1", 998), "-" + strings.Repeat("12345", 100) + "." + strings.Repeat("67890", 90), strings.Repeat("9", 1001),
	"1.5e-07", "1E+5", "-2.5e10", "1e308", "1.7976931348623157e308", "1e309", "1e-300", "1e-310", "4.9e-324", "1e-400", "0e5", "0.000",
	"3.4028235e38", "3.5e38", "1e-37", "1e-38", "1e-45", "16777217", "0.30000000000000004", "5e-324", "e", "1e", "1e+", "+1.5", "1.5e3.5",
	`\x`, `\x00ff`, `\xFFee`, `\x0`, `\xzz`, `\x00 ff`, `x00`, `\000`, `\\x`,
	"NaN", "nan", "Infinity", "-Infinity", "infinity", "inf",
	"true", "TRUE", "True", "tRuE", "false", "FALSE", "t", "f", "yes", "on", "off", "truе", "tru", "fals", "null",
	"1000-01-01", "0999-12-31", "0001-01-01", "1582-10-15", "1899-12-31", "1900-02-28", "1900-02-29", "2000-01-01", "2000-02-29",
	"1999-12-31", "2023-02-29", "2024-02-29", "2024-02-30", "2024-04-31", "2024-12-31", "2024-13-01", "2024-00-10", "2024-01-00",
	"2100-02-28", "2100-03-01", "9999-12-31", "10000-01-01", "5874897-12-31", "4713-01-01 BC", "4714-11-24 BC", "-infinity",
	"2024-1-1", "2024/01/31", "20240131", "epoch", "today", "2024-01-31x",
	"00:00:00", "23:59:59", "23:59:59.999999", "23:59:60", "24:00:00", "24:00:01", "10:00:00.", "10:00:00.1", "10:00:00.123456",
	"10:00:00.1234567", "10:00:00.9999999", "10:00", "10:00:00+02", "1:00:00", "10:60:00", "10:00:00.1x",
	"2024-01-31 10:00:00", "2024-01-31T10:00:00", "2024-01-31t10:00:00", "2024-01-31  10:00:00", "1000-01-01 00:00:00.000001",
	"9999-12-31 23:59:59.999999", "1999-12-31 23:59:59.999999", "2024-01-31 24:00:00", "2024-01-31 23:59:60", "294276-12-31 23:59:59",
	"2024-01-31 10:00:00.", "2024-01-31T10:00:00.5", "2024-01-31 10:00:00 UTC", "2024-01-31 10:00:00Z", "2024-01-31 10:00:00z",
	"2024-01-31T10:00:00.120+00", "2024-01-31T10:00:00.120000+00:00", "2024-01-31 10:00:00+05:30", "2024-01-31 10:00:00-0330",
	"2024-01-31 10:00:00+14:59", "2024-01-31 10:00:00-14", "2024-01-31 10:00:00+15", "2024-01-31 10:00:00+1", "2024-01-31 10:00:00+05:60",
	"1000-01-01 00:00:00+14", "9999-12-31 23:59:59-14", "2024-01-31 10:00:00+05:", "2024-01-31 10:00:00+05:30:15", "2024-03-31 02:30:00+00",
	"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0EEbc99-9c0b-4ef8-bb6d-6BB9BD380A11",
	"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
	"00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1-", "a0eebc99-9c0b-4ef8-bb6d--bb9bd380a11",
}

// random values are in ways that the ladder accepts.
func random(r *rand.Rand) []string {
	digits := func(count int) string {
		var b strings.Builder
		for range count {
			b.WriteByte("0001234567899"[r.IntN(13)])
		}
		return b.String()
	}
	sign := []string{"", "-"}[r.IntN(2)]
	zone := []string{"Z", "+00", "+00:00", "-03:30", "+0545", "+14"}[r.IntN(6)]
	moment := time.Unix(r.Int64N(284_000_000_000)-30_600_000_000, r.Int64N(1e9)).UTC()
	return []string{
		sign + fmt.Sprint(r.Int64()>>r.IntN(63)), sign + "1" + digits(r.IntN(40)),
		sign + "1" + digits(r.IntN(20)) + "." + digits(1+r.IntN(20)), sign + "0." + digits(r.IntN(12)) + "1",
		moment.Format("2006-01-02"), moment.Format("2006-01-02 15:04:05"), moment.Format("2006-01-02T15:04:05.000"),
		moment.Format("2006-01-02 15:04:05.999999"), moment.Format("2006-01-02 15:04:05.999999") + zone,
		moment.Format("15:04:05.000000"), moment.Format("15:04:05.99999"),
		fmt.Sprint(r.NormFloat64()), fmt.Sprint(float32(r.NormFloat64())), fmt.Sprint(math.Float64frombits(r.Uint64())),
		fmt.Sprintf("%08x-%04X-4000-8000-%012x", r.Uint32(), r.IntN(1<<16), r.Uint32()),
	}
}

// Each value that is written is, to the bit, what the server's own input makes of the text.
func TestValuesAreThoseOfTheServer(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	values := edges
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		values = append(values, random(r)...)
	}
	for name := range types {
		t.Run(name, func(t *testing.T) {
			written, err := check(t.Context(), pool, name, values)
			if err != nil {
				t.Error(err)
			}
			if written < 3 {
				t.Errorf("%d values were written", written)
			}
		})
	}
}

// What the ladder accepts of a type that it can restore is written, in every zone.
func TestTheLadderIsWritten(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	type rung struct{ name, example string }
	rungs, err := db.Collect(t.Context(), pool, "read csv_types", func(r *rung) []any { return []any{&r.name, &r.example} }, `
		select type_name, example
		  from tinydevcrm.csv_types
		 where restores is not null`)
	if err != nil || len(rungs) < 30 {
		t.Fatalf("%d rungs, %v", len(rungs), err)
	}
	for _, r := range rungs {
		if _, isWritten := binary.KindOf(r.name).Append(nil, []byte(r.example)); !isWritten {
			t.Errorf("%s: %s is not written", r.name, r.example)
		}
	}
}

func FuzzValues(f *testing.F) {
	for _, value := range edges {
		f.Add([]byte(value))
	}
	pool, _ := dbtest.Schema(f)
	pool.SetMaxOpenConns(1)
	f.Fuzz(func(t *testing.T, value []byte) {
		text := strings.ReplaceAll(strings.ToValidUTF8(string(value), "?"), "\x00", "?")
		for name := range types {
			if _, err := check(t.Context(), pool, name, []string{text}); err != nil {
				t.Error(err)
			}
		}
	})
}

// check sends the values of a type that can be written, and returns how many these are.
func check(ctx context.Context, pool *sql.DB, name string, values []string) (written int, err error) {
	rows := []byte(binary.Header)
	var texts bytes.Buffer
	kind := binary.KindOf(name)
	for _, value := range values {
		row, isWritten := kind.Append(binary.AppendRow(nil, 1), []byte(value))
		if !isWritten {
			continue
		}
		written++
		rows = append(rows, row...)
		texts.WriteString(strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`).Replace(value) + "\n")
	}
	if written == 0 {
		return 0, nil
	}
	rows = append(rows, binary.Trailer...)

	conn, err := pool.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, fmt.Sprintf(`
		create temporary table if not exists texts (number integer generated always as identity, value text);
		create temporary table if not exists server (number integer generated always as identity, value %[1]s);
		create temporary table if not exists ours (number integer generated always as identity, value %[1]s);
		set timezone = 'America/St_Johns'`, name)); err != nil {
		return 0, err
	}
	defer conn.ExecContext(ctx, "drop table texts, server, ours")
	for table, text := range map[string][]byte{"texts": texts.Bytes(), "server": texts.Bytes(), "ours": rows} {
		format := "text"
		if table == "ours" {
			format = "binary"
		}
		statement := fmt.Sprintf("copy %s (value) from stdin (format %s)", table, format)
		if _, err := db.CopyFrom(ctx, conn, statement, bytes.NewReader(text)); err != nil {
			return 0, fmt.Errorf("%s by %s: %s %w", name, format, db.Explain(err), err)
		}
	}
	var others sql.NullString
	err = conn.QueryRowContext(ctx, fmt.Sprintf(`
		select string_agg(format('%%L as %%s: %%L by text, %%L by us', texts.value, '%[2]s', server.value, ours.value), e'\n')
		  from texts
		  full join server using (number)
		  full join ours using (number)
		 where %[1]s(server.value) is distinct from %[1]s(ours.value)`, types[name], name)).Scan(&others)
	if err == nil && others.Valid {
		err = fmt.Errorf("%s", others.String)
	}
	return written, err
}
