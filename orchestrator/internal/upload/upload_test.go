package upload_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

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
		done.Columns[0] != (upload.Column{Name: "AColumnOfNumbers", Type: "integer", Header: "AColumnOfNumbers"}) {
		t.Errorf("imported %+v", done)
	}
	if sum := dbtest.Value[int](t, pool, `select sum("AColumnOfNumbers") from sample`); sum != 45 {
		t.Errorf("the sum is %d, want 45", sum)
	}
	if logged := dbtest.Value[int64](t, pool, "select byte_count from tinydevcrm.imports where id = $1", done.ID); logged != done.ByteCount {
		t.Errorf("logged %d bytes, want %d", logged, done.ByteCount)
	}
}

func TestLoadText(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	tests := []struct {
		name, text string
		want       string // the rows as JSON
	}{
		{"no last line feed", "a,b\n1,x", `[{"a": 1, "b": "x"}]`},
		{"CRLF", "a,b\r\n1,x\r\n2,y\r\n", `[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]`},
		{"line feed in quotes", "a\n\"x\ny\"\n", `[{"a": "x\ny"}]`},
		{"doubled quotes", "a\n\"say \"\"hi\"\"\"\n", `[{"a": "say \"hi\""}]`},
		{"NULL and empty text", "a,b\n,\"\"\n", `[{"a": null, "b": ""}]`},
		{"header only", "a,b\n", ``},
		{"semicolons", "a;b\n1;2,5\n", `[{"a": 1, "b": "2,5"}]`},
		{"byte order mark", "\ufeffa\n1\n", `[{"a": 1}]`},
		{"Windows-1252", "a\ncaf\xe9\n", `[{"a": "café"}]`},
		{"quotes in a name", "\"Height 5\"\"\",\"a\nb\"\n1,2\n", `[{"a\nb": 2, "Height 5\"": 1}]`},
		{"backslashes", "a\n\\N\n\\.x\nx\\.\n", `[{"a": "\\N"}, {"a": "\\.x"}, {"a": "x\\."}]`},
		{"a type that fails late", "a\n" + strings.Repeat("1\n", 100_000) + "007\n", "late"},
		{"a line longer than a chunk", "a,b\n1," + long + "\n", `[{"a": 1, "b": "` + long + `"}]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			if _, err := load(t, pool, "t.csv", test.text); err != nil {
				t.Fatal(err)
			}
			if test.want == "late" {
				if kept := dbtest.Value[int](t, pool, `select count(*) from t where a = '007'`); kept != 1 {
					t.Errorf("007 is there %d times", kept)
				}
				return
			}
			got := dbtest.Value[string](t, pool, "select coalesce(jsonb_agg(to_jsonb(t))::text, '') from t")
			if got != test.want {
				t.Errorf("got %.200s, want %.200s", got, test.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name, text, code, message string
	}{
		{"empty", "", "TD005", "the file is empty"},
		{"blank", " \n\n", "TD005", "the file is empty"},
		{"binary", "\x89PNG\r\n\x1a\n\x00\x00", "TD005", "not text"},
		{"UTF-16", "\xff\xfea\x00\n\x00", "TD005", "UTF-16"},
		{"a short row", "a,b\n1,2\n3\n", "22P04", `missing data for column "b"`},
		{"a long row", "a,b\n1,2,3\n", "22P04", "extra data after last expected column"},
		{"an open quote", "a\n\"x\n", "22P04", "unterminated CSV quoted field"},
		{"an end marker", "a\n1\n\\.\n2\n", "", `\.`},
		{"an end marker far in", "a\n" + strings.Repeat("1\n", 300_000) + "\\.\n2\n", "", `\.`},
		{"an end marker at the end", "a\n1\n\\.", "", `\.`},
		{"a NUL far in", "a\n" + strings.Repeat("x\n", 300_000) + "\x00\n", "22021", "invalid byte sequence"},
		{"a blank first line", "\na,b\n1,2\n", "TD005", "the first line is blank"},
		{"a blank first line after a mark", "\ufeff\r\na,b\r\n1,2\r\n", "TD005", "the first line is blank"},
		{"an open quote in the header", "Height 5\",Width\n1,2\n", "TD005", "a quote in the header"},
		{"too many columns", strings.Repeat("a,", 1600) + "a\n", "54011", "at most 1600 columns"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			_, err := load(t, pool, "t.csv", test.text)
			problem := db.Explain(err)
			if err == nil || problem.Code != test.code || !strings.Contains(problem.Message, test.message) {
				t.Fatalf("got %v (%+v), want %s %s", err, problem, test.code, test.message)
			}
			if problem.Status < 400 || problem.Status >= 500 {
				t.Errorf("status is %d, want one that blames the request", problem.Status)
			}
			assertNothingLeft(t, pool)
		})
	}
}

// drip gives a long line in small pieces, as a request does.
type drip struct{ left int }

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), d.left, 4096)
	for i := range p[:n] {
		p[i] = 'x'
	}
	d.left -= n
	return n, nil
}

func TestLoadRefusesALineWithoutEnd(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	ctx, cancel := context.WithTimeout(t.Context(), dbtest.Deadline)
	defer cancel()
	_, err := upload.Load(ctx, pool, io.MultiReader(strings.NewReader("a\n"), &drip{1 << 40}), upload.Request{Source: "t.csv"})
	if problem := db.Explain(err); problem.Status != 422 || !strings.Contains(problem.Message, "a line of more than") {
		t.Fatalf("got %v (%+v)", err, problem)
	}
	assertNothingLeft(t, pool)
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

// brokenReader gives some of a file, then fails as a client does that goes away.
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
				 where query like 'copy pg_temp.%' and pid <> pg_backend_pid()`)
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
