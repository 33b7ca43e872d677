package upload_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/text/encoding/unicode"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

func load(t *testing.T, pool *sql.DB, name, text string) (upload.Import, error) {
	t.Helper()
	return upload.Load(t.Context(), pool, strings.NewReader(text), upload.Request{Source: name})
}

func TestLoadSample(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	file, err := os.Open(dbtest.Sample(t))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	done, err := upload.Load(t.Context(), pool, file, upload.Request{Source: "sample.csv"})
	if err != nil {
		t.Fatal(err)
	}
	if done.TableName != "sample" || done.RowCount != 10 || len(done.Columns) != 1 ||
		!reflect.DeepEqual(done.Columns[0], upload.Column{Name: "AColumnOfNumbers", Type: "integer", Header: "AColumnOfNumbers"}) {
		t.Errorf("imported %+v", done)
	}
	if sum := dbtest.Value[int](t, pool, `select sum("AColumnOfNumbers") from sample`); sum != 45 {
		t.Errorf("the sum is %d, want 45", sum)
	}
	if logged := dbtest.Value[int64](t, pool, "select byte_count from tinydevcrm.imports where id = $1", done.ID); logged != done.ByteCount {
		t.Errorf("logged %d bytes, want %d", logged, done.ByteCount)
	}
}

// rows is a table as JSON.
func rows(t *testing.T, pool *sql.DB, table string) string {
	t.Helper()
	return dbtest.Value[string](t, pool, "select coalesce(jsonb_agg(to_jsonb(t))::text, '') from "+table+" as t")
}

// cr writes a text with carriage returns instead of line feeds, utf16 in another encoding.
func cr(text string) string { return strings.ReplaceAll(text, "\n", "\r") }

func utf16(text string) string {
	encoded, err := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewEncoder().String(text)
	if err != nil {
		panic(err)
	}
	return encoded
}

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

func corrupted(text string) string { return text[:12] + "\xff\xff\xff" + text[15:] }

// The edge cases of CSV: what is loaded, and with which types.
func TestLoadText(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	tests := []struct {
		name, text string
		want       string // the rows as JSON
	}{
		{"no last line feed", "a,b\n1,x", `[{"a": 1, "b": "x"}]`},
		{"no last line feed after a quote", "a,b\n1,\"x\"", `[{"a": 1, "b": "x"}]`},
		{"CRLF", "a,b\r\n1,x\r\n2,\"y\"\r\n", `[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]`},
		{"CR only", cr("a,b\n1,x\n2,\"y\"\n"), `[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]`},
		{"embedded line feed", "a\n\"x\ny\"\n", `[{"a": "x\ny"}]`},
		{"embedded CRLF", "a,b\r\n1,\"x\r\ny\"\r\n", `[{"a": 1, "b": "x\r\ny"}]`},
		{"doubled quotes", "a\n\"say \"\"hi\"\"\"\n", `[{"a": "say \"hi\""}]`},
		{"quotes in odd places", "a,b\n5\" pipe,x\"y\"z\n", `[{"a": "5\" pipe", "b": "x\"y\"z"}]`},
		{"quotes in a name", "\"Height 5\"\"\",\"a\nb\"\n1,2\n", `[{"a\nb": 2, "Height 5\"": 1}]`},
		{"an odd quote in a name", "Height 5\",Width\n1,2\n", `[{"Width": 2, "Height 5\"": 1}]`},
		{"NULL and empty text", "a,b\n,\"\"\n", `[{"a": null, "b": ""}]`},
		{"blank lines", "\na,b\n\n1,2\n\n3,4\n\n", `[{"a": 1, "b": 2}, {"a": 3, "b": 4}]`},
		{"blank lines of one column", "a\n1\n\n2\n", `[{"a": 1}, {"a": null}, {"a": 2}]`},
		{"header only", "a,b\n", ``},
		{"one column", "a\nx y\nz,w\n", `[{"a": "x y"}, {"a": "z,w"}]`},
		{"no header", "1,x\n2,y\n3,z\n", `[{"column_1": 1, "column_2": "x"}, {"column_1": 2, "column_2": "y"}, {"column_1": 3, "column_2": "z"}]`},
		{"semicolons", "a;b\n1;2,5\n", `[{"a": 1, "b": 2.5}]`},
		{"a comma and a blank", "a, b\n1, x\n2, \"y, z\"\n", `[{"a": 1, "b": "x"}, {"a": 2, "b": "y, z"}]`},
		{"byte order mark", "\ufeffa\n1\n", `[{"a": 1}]`},
		{"byte order mark before a quote", "\ufeff\"a\",b\n1,2\n", `[{"a": 1, "b": 2}]`},
		{"Windows-1252", "a\ncaf\xe9 \x80\n", `[{"a": "café €"}]`},
		{"UTF-16", utf16("a,b\ncafé,1\n"), `[{"a": "café", "b": 1}]`},
		{"packed by gzip", packed("a\n1\n"), `[{"a": 1}]`},
		{"an end marker", "a\n1\n\\.\n2\n", `[{"a": "1"}, {"a": "\\."}, {"a": "2"}]`},
		{"backslashes", "a\n\\N\n\\.x\nx\\.\nx\\\n", `[{"a": "\\N"}, {"a": "\\.x"}, {"a": "x\\."}, {"a": "x\\"}]`},
		{"tabs in values", "a,b\nx\ty,1\n", `[{"a": "x\ty", "b": 1}]`},
		{"a line longer than a chunk", "a,b\n1," + long + "\n", `[{"a": 1, "b": "` + long + `"}]`},
		{"names", "a,,a,xmin,é,order\n1,2,3,4,5,6\n",
			`[{"a": 1, "é": 5, "a_2": 3, "order": 6, "xmin_2": 4, "column_2": 2}]`},
		{"a name of 200 bytes", strings.Repeat("n", 200) + ",b\n1,2\n", `[{"b": 2, "` + strings.Repeat("n", 63) + `": 1}]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			if _, err := load(t, pool, "t.csv", test.text); err != nil {
				t.Fatal(err)
			}
			if got := rows(t, pool, "t"); got != test.want {
				t.Errorf("got %.300s, want %.300s", got, test.want)
			}
		})
	}
}

// A late value may not fit the types that were chosen by then. No earlier value is lost.
func TestLoadLateSurprises(t *testing.T) {
	tests := []struct {
		name   string
		line   func(int) string
		late   string
		column string // its type, and its values in the first lines and in the last one
		first  string
	}{
		{"007 among integers", strconv.Itoa, "007", "text", "1"},
		{"n/a among integers", strconv.Itoa, "n/a", "text", "1"},
		{"a larger number", strconv.Itoa, "3000000000", "bigint", "1"},
		{"a fraction", strconv.Itoa, "1.50", "numeric", "1"},
		{"trailing zeros before text", func(i int) string { return fmt.Sprintf("%d.50", i) }, "x", "text", "1.50"},
		{"an exponent", func(i int) string { return fmt.Sprintf("%d.5", i) }, "1e-07", "double precision", "1.5"},
		{"a moment among days", func(int) string { return "2024-01-31" }, "2024-01-31 10:00:00", "text", "2024-01-31"},
		{"text among moments", func(i int) string { return fmt.Sprintf("2024-01-31T10:00:%02d.%03dZ", i%60, i%1000) }, "x", "text", "2024-01-31T10:00:01.001Z"},
		{"another zone", func(int) string { return "2024-01-31 10:00:00+00" }, "2024-01-31 10:00:00+05:30", "timestamp with time zone", "2024-01-31 10:00:00+00"},
		{"text among zones", func(int) string { return "2024-01-31 10:00:00+05:30" }, "x", "text", "2024-01-31 10:00:00+05:30"},
		{"true in capitals", func(int) string { return "TRUE" }, "maybe", "text", "TRUE"},
		{"a uuid in capitals", func(int) string { return "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11" }, "-", "text", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
		{"an empty text among integers", strconv.Itoa, `""`, "text", "1"},
		{"nothing but NULL before", func(int) string { return "" }, "7", "integer", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			var text strings.Builder
			text.WriteString("n,v\n")
			for i := 1; i <= 50_000; i++ {
				fmt.Fprintf(&text, "%d,%s\n", i, test.line(i))
			}
			fmt.Fprintf(&text, "0,%s\n", test.late)
			done, err := load(t, pool, "t.csv", text.String())
			if err != nil {
				t.Fatal(err)
			}
			if done.RowCount != 50_001 || done.Columns[1].Type != test.column {
				t.Errorf("got %d rows and type %q, want 50001 and %q", done.RowCount, done.Columns[1].Type, test.column)
			}
			first := dbtest.Value[string](t, pool, "select coalesce(v::text, '') from t, "+inUTC+" where n = 1")
			if first != test.first {
				t.Errorf("the first value is %q, want %q", first, test.first)
			}
			late := dbtest.Value[bool](t, pool, "select v::text = $1 or v = $2::"+test.column+" from t where n = 0",
				test.late, strings.Trim(test.late, `"`))
			if !late {
				t.Error("the last value is another")
			}
		})
	}
}

func TestLoadManyColumns(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	line := func(width int) string { return strings.TrimSuffix(strings.Repeat("1,", width), ",") + "\n" }
	done, err := load(t, pool, "t.csv", strings.Repeat("a,", 1599)+"a\n"+line(1600))
	if err != nil || len(done.Columns) != 1600 {
		t.Fatalf("1,600 columns: got %d, %v", len(done.Columns), err)
	}
	if _, err := load(t, pool, "u.csv", strings.Repeat("a,", 1600)+"a\n"+line(1601)); db.Explain(err).Code != "TD005" {
		t.Fatalf("1,601 columns: %v", err)
	}
}

func TestLoadAFieldOf100MB(t *testing.T) {
	dbtest.Long(t)
	pool, _ := dbtest.Schema(t)
	const size = 100 << 20
	file := io.MultiReader(strings.NewReader("a,b\n1,\""), io.LimitReader(endless{'x'}, size), strings.NewReader("\"\n"))
	if _, err := upload.Load(t.Context(), pool, file, upload.Request{Source: "t.csv"}); err != nil {
		t.Fatal(err)
	}
	if got := dbtest.Value[int](t, pool, "select length(b) from t"); got != size {
		t.Errorf("it has %d characters, want %d", got, size)
	}
}

// The import of a file that unpacks without end stops before the disk is full.
func TestLoadRefusesWhatUnpacksToTooMuch(t *testing.T) {
	const maxBytes = 30 << 20
	lines := func(size int) string { return "n\n" + strings.Repeat("1234567\n", size/8) }
	for _, test := range []struct {
		name, text string
		maxRatio   int64
		says       string
	}{
		{"a little of it", packed(lines(2 << 20)), 100, ""},
		{"more than its share", packed(lines(20 << 20)), 100, "--max-unpack-ratio"},
		{"where any is taken", packed(lines(20 << 20)), 0, ""},
		{"more than is taken of any file", packed(lines(maxBytes)), 0, "--max-upload"},
		{"and not packed", lines(maxBytes), 100, "--max-upload"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			_, err := upload.Load(t.Context(), pool, strings.NewReader(test.text),
				upload.Request{Source: "t.csv", MaxBytes: maxBytes, MaxRatio: test.maxRatio})
			problem := db.Explain(err)
			if test.says == "" && err != nil || test.says != "" && (problem.Status != 413 || problem.Code != "TD005" || !strings.Contains(problem.Hint, test.says)) {
				t.Errorf("got %v: %+v", err, problem)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name, text, code, message, detail string
	}{
		{"empty", "", "TD005", "the file is empty", ""},
		{"blank", " \n\n", "TD005", "the file is empty", ""},
		{"binary", "\x89PNG\r\n\x1a\n\x00\x00", "TD005", "not text", ""},
		{"a short row", "a,b\n1,2\n3\n", "TD005", "1 line", "line 3: 1 field instead of 2: 3"},
		{"a long row", "a,b\n1,2\n1,2,3\n", "TD005", "1 line", "line 3: 3 fields instead of 2: 1,2,3"},
		{"text after a quote", "a,b\n1,2\n\"x\"y,2\n", "TD005", "1 line", `line 3: text after a closing quote: "x"y,2`},
		{"an open quote", "a\n1\n\"x\n2\n", "TD005", "the quote on line 3 does not close", ""},
		{"an open quote far in", "a\n" + strings.Repeat("1\n", 300_000) + "\"x\n2\n", "TD005", "the quote on line 300002 does not close", ""},
		{"a NUL far in", "a\n" + strings.Repeat("x\n", 300_000) + "\x00\n", "TD005", "1 line", "line 300002: bytes that are not text"},
		{"bytes that are not UTF-8 far in", "a\n" + strings.Repeat("é\n", 200_000) + "caf\xe9\n", "TD005", "1 line", "line 200002: bytes that are not text"},
		{"many problems", strings.Repeat("a,b\n", 2000) + strings.Repeat("1\n", 100_000), "TD005", "100000 lines", "and 99980 more"},
		{"an archive that is corrupt in the middle", corrupted(packed("a\n" + strings.Repeat("1,x\n", 10_000))), "TD005", "cannot be unpacked", ""},
		{"commas and nothing else", strings.Repeat(",", 10<<20), "TD005", "line 1 has more than 1600 fields", ""},
		{"a broken archive", packed("a\n1\n")[:20], "TD005", "cannot be unpacked", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			_, err := load(t, pool, "t.csv", test.text)
			problem := db.Explain(err)
			if err == nil || problem.Code != test.code || !strings.Contains(problem.Message, test.message) ||
				!strings.Contains(problem.Detail, test.detail) {
				t.Fatalf("got %v (%+v), want %s %s: %s", err, problem, test.code, test.message, test.detail)
			}
			if problem.Status < 400 || problem.Status >= 500 {
				t.Errorf("status is %d, want one that blames the request", problem.Status)
			}
			assertNothingLeft(t, pool)
		})
	}
}

// endless returns one byte over and over, in small pieces as a request does.
type endless struct{ b byte }

func (e endless) Read(p []byte) (int, error) {
	n := min(len(p), 16<<10)
	for i := range p[:n] {
		p[i] = e.b
	}
	return n, nil
}

func TestLoadDoesNotSwallowTheFile(t *testing.T) {
	dbtest.Long(t)
	for name, test := range map[string]struct{ start, message string }{
		"a line without end":          {"a\n", "a line is longer than"},
		"a quote that does not close": {"a,b\n1,2\n3,\"", "the quote on line 3 does not close within"},
	} {
		t.Run(name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			ctx, cancel := context.WithTimeout(t.Context(), dbtest.Deadline)
			defer cancel()
			file := io.MultiReader(strings.NewReader(test.start), endless{'x'})
			_, err := upload.Load(ctx, pool, file, upload.Request{Source: "t.csv"})
			if problem := db.Explain(err); problem.Status != 422 || !strings.Contains(problem.Message, test.message) {
				t.Fatalf("got %v (%+v)", err, problem)
			}
			assertNothingLeft(t, pool)
		})
	}
}

// assertNothingLeft checks that there is no table, no log row and no open transaction.
func assertNothingLeft(t *testing.T, pool *sql.DB) {
	t.Helper()
	dbtest.Eventually(t, dbtest.Deadline, "nothing is left", func() bool {
		return dbtest.Value[int](t, pool, `
			select (select count(*) from pg_class where relnamespace = current_schema()::regnamespace)
			     + (select count(*) from pg_class where relname like '\_import\_%')
			     + (select count(*) from tinydevcrm.imports where schema_name = current_schema())
			     + (select count(*) from pg_stat_activity where state like 'idle in transaction%')`) == 0
	})
}

func TestLoadTwiceIsRefused(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	for _, want := range []string{"", "TD004"} {
		_, err := load(t, pool, "t.csv", "a\n1\n")
		if got := db.Explain(err).Code; err != nil && got != want || err == nil && want != "" {
			t.Errorf("got %v, want code %q", err, want)
		}
	}
}

// brokenReader returns some of a file, then fails like a request whose client has left.
type brokenReader struct {
	text io.Reader
	err  error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	n, err := r.text.Read(p)
	if errors.Is(err, io.EOF) {
		return n, r.err
	}
	return n, err
}

func TestLoadThatBreaksOffLeavesNothing(t *testing.T) {
	gone := errors.New("the client is gone")
	text := "a\n" + strings.Repeat("1\n", 500_000)

	t.Run("reader fails", func(t *testing.T) {
		pool, _ := dbtest.Schema(t)
		_, err := upload.Load(t.Context(), pool, &brokenReader{strings.NewReader(text), gone}, upload.Request{Source: "t.csv"})
		if !errors.Is(err, gone) {
			t.Fatalf("got %v, want %v", err, gone)
		}
		assertNothingLeft(t, pool)
	})

	t.Run("context ends", func(t *testing.T) {
		pool, _ := dbtest.Schema(t)
		ctx, cancel := context.WithCancel(t.Context())
		reader, writer := io.Pipe()
		go func() {
			fmt.Fprint(writer, text)
			cancel()
			writer.CloseWithError(context.Canceled)
		}()
		if _, err := upload.Load(ctx, pool, reader, upload.Request{Source: "t.csv"}); err == nil {
			t.Fatal("it succeeded")
		}
		assertNothingLeft(t, pool)
	})

	t.Run("server ends the connection", func(t *testing.T) {
		pool, _ := dbtest.Schema(t)
		reader, writer := io.Pipe()
		go func() {
			fmt.Fprint(writer, text)
			_, err := pool.Exec(`
				select pg_terminate_backend(pid)
				  from pg_stat_activity
				 where query like 'copy %' and pid <> pg_backend_pid()`)
			if err != nil {
				writer.CloseWithError(err)
				return
			}
			for err == nil {
				_, err = fmt.Fprint(writer, "1\n")
			}
		}()
		_, err := upload.Load(t.Context(), pool, reader, upload.Request{Source: "t.csv"})
		reader.Close()
		if err == nil {
			t.Fatal("it succeeded")
		}
		assertNothingLeft(t, pool)
	})
}

// inUTC is a table of one row whose query shows times in UTC.
const inUTC = "(select set_config('timezone', 'UTC', false) offset 0) as zone"
