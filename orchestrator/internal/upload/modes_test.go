package upload_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// Options by the names that flags, forms and URLs use.
func TestLoadOptions(t *testing.T) {
	tests := []struct {
		name, options, text string
		want                string // the rows as JSON
	}{
		{"table", "table=t", "a\n1\n", `[{"a": 1}]`},
		{"type", "type=a%3Dtext%3Bb%3Dnumeric(6,2)", "a,b\n1,2\n", `[{"a": "1", "b": 2.00}]`},
		{"type, again", "type=a%3Dtext&type=b%3Dtext", "a,b\n1,2\n", `[{"a": "1", "b": "2"}]`},
		{"null", "null=NA", "a\n1\nNA\n\"NA\"\n", `[{"a": "1"}, {"a": null}, {"a": "NA"}]`},
		{"header", "header=yes", "1\n2\n3\n", `[{"1": 2}, {"1": 3}]`},
		{"no header", "header=no", "a,b\nc,d\n", `[{"column_1": "a", "column_2": "b"}, {"column_1": "c", "column_2": "d"}]`},
		{"delimiter", "delimiter=:", "a:b\n1:2\n", `[{"a": 1, "b": 2}]`},
		{"delimiter by name", "delimiter=tab", "a\tb\n1\t2\n", `[{"a": 1, "b": 2}]`},
		{"quote", "quote='", "a,b\n'x,y',\"z\n", `[{"a": "x,y", "b": "\"z"}]`},
		{"escape", "escape=%5C", "a,b\n\"x\\\"y\",1\n", `[{"a": "x\"y", "b": 1}]`},
		{"another escape", "escape=^", "a,b\n\"x ^\"y^^\",1\n", `[{"a": "x \"y^", "b": 1}]`},
		{"encoding", "encoding=LATIN1", "a\ncaf\xe9\n", `[{"a": "café"}]`},
		{"skip", "skip=2", "x\ny,z\na,b\n1,2\n", `[{"a": 1, "b": 2}]`},
		{"empty ones", "table=&mode=&type=&skip=&header=", "a\n1\n", `[{"a": 1}]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			values, err := url.ParseQuery(test.options)
			if err != nil {
				t.Fatal(err)
			}
			request, err := upload.NewRequest("t.csv", values)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := upload.Load(t.Context(), pool, strings.NewReader(test.text), request); err != nil {
				t.Fatal(db.Explain(err))
			}
			if got := rows(t, pool, "t"); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestNewRequestRefuses(t *testing.T) {
	for _, options := range []string{"delimeter=x", "skip=-1", "skip=one", "header=maybe", "type=a", "type=%3Dtext"} {
		values, err := url.ParseQuery(options)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := upload.NewRequest("t.csv", values); db.Explain(err).Code != "TD007" {
			t.Errorf("%s: %v", options, err)
		}
	}
}

func TestLoadModes(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	steps := []struct {
		name, options, text string
		code                string
		want                string
	}{
		{"a new table", "", "id,name\n1,a\n2,b\n", "", `[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]`},
		{"create refuses it", "", "id,name\n3,c\n", "TD004", `[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]`},
		{"replace", "mode=replace", "id,name\n3,c\n", "", `[{"id": 3, "name": "c"}]`},
		{"append in another order", "mode=append", "name,id\nd,4\n", "", `[{"id": 3, "name": "c"}, {"id": 4, "name": "d"}]`},
		{"append of another column", "mode=append", "id,name,x\n5,e,1\n", "TD006", `[{"id": 3, "name": "c"}, {"id": 4, "name": "d"}]`},
		{"append of a value that does not fit", "mode=append", "id,name\n5,e\nfive,e\n", "TD006", `[{"id": 3, "name": "c"}, {"id": 4, "name": "d"}]`},
		{"append of numbers to text", "mode=append", "id,name\n5,1.50\n", "", `[{"id": 3, "name": "c"}, {"id": 4, "name": "d"}, {"id": 5, "name": "1.50"}]`},
		{"upsert without an index", "mode=upsert&key=id", "id,name\n5,e\n", "TD009", `[{"id": 3, "name": "c"}, {"id": 4, "name": "d"}, {"id": 5, "name": "1.50"}]`},
		{"replace by other columns", "mode=replace", "id,at\n1,2024-01-31T10:00:00.120Z\n", "", `[{"at": "2024-01-31T10:00:00.12+00:00", "id": 1}]`},
	}
	for _, step := range steps {
		values, err := url.ParseQuery(step.options)
		if err != nil {
			t.Fatal(err)
		}
		request, err := upload.NewRequest("t.csv", values)
		if err != nil {
			t.Fatal(err)
		}
		_, err = upload.Load(t.Context(), pool, strings.NewReader(step.text), request)
		if err == nil && step.code != "" || err != nil && db.Explain(err).Code != step.code {
			t.Errorf("%s: got %v, want code %q", step.name, err, step.code)
		}
		if got := dbtest.Value[string](t, pool, "select jsonb_agg(to_jsonb(t))::text from t, "+inUTC); got != step.want {
			t.Errorf("%s: got %s, want %s", step.name, got, step.want)
		}
	}
}

func TestLoadPads(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	request := upload.Request{Source: "t.csv", Ragged: "pad"}.WithSizes(1, 1)
	text := "a,b\n1,x\n2\n3,y,extra\n\"4\"z,w\n5,v,more,most\n"
	done, err := upload.Load(t.Context(), pool, strings.NewReader(text), request)
	if err != nil {
		t.Fatal(db.Explain(err))
	}
	want := `[["1", "x", null, null], ["2", null, null, null], ["3", "y", "extra", null], ["4z", "w", null, null], ["5", "v", "more", "most"]]`
	if got := dbtest.Value[string](t, pool, `
		select jsonb_agg(jsonb_build_array(a, b, column_3, column_4) order by ctid)::text from t`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	wantProblems := `[[3, "1 field instead of 2", "2"], [4, "3 fields instead of 2", "3,y,extra"], ` +
		`[5, "text after a closing quote", "\"4\"z,w"], [6, "4 fields instead of 2", "5,v,more,most"]]`
	if got := dbtest.Value[string](t, pool, `
		select jsonb_agg(jsonb_build_array(line, reason, line_text) order by id)::text
		  from tinydevcrm.import_problems
		 where import_id = $1`, done.ID); got != wantProblems {
		t.Errorf("got %s, want %s", got, wantProblems)
	}
	if done.ProblemCount != 4 || done.RowCount != 5 || done.Columns[2].Type != "text" {
		t.Errorf("imported %+v", done)
	}
}

// Many repairs are written as they occur, not kept in memory.
func TestLoadPadsManyLines(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	text := strings.Repeat("1,2\n", 100) + strings.Repeat("1\n", 5000) + strings.Repeat("1,2,3\n", 5000)
	request := upload.Request{Source: "t.csv", Ragged: "pad", Delimiter: ","}
	done, err := upload.Load(t.Context(), pool, strings.NewReader(text), request)
	if err != nil {
		t.Fatal(db.Explain(err))
	}
	if done.RowCount != 10_100 || done.ProblemCount != 10_000 {
		t.Errorf("%d rows and %d problems, want 10100 and 10000", done.RowCount, done.ProblemCount)
	}
}

// A line that cannot be repaired makes the file refused, however much of it could be repaired.
func TestLoadPadsNoBadBytes(t *testing.T) {
	for name, text := range map[string]string{
		"short lines after it": "a,b,c\n1,2,\xff\xff\n" + strings.Repeat(strings.Repeat("x", 400)+",2\n", 900),
		"many short lines":     "a,b,c\n1,2,\xff\n" + strings.Repeat("x,2\n", 1200),
	} {
		t.Run(name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			request := upload.Request{Source: "t.csv", Ragged: "pad", Encoding: "UTF8", Delimiter: ","}
			_, err := upload.Load(t.Context(), pool, strings.NewReader(text), request)
			if problem := db.Explain(err); problem.Code != "TD005" || !strings.Contains(problem.Detail, "line 2: bytes that are not text") {
				t.Fatalf("got %+v", problem)
			}
			assertNothingLeft(t, pool)
		})
	}
}

func TestPreview(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	text := "a;b\n1;2024-01-31 10:00:00+02:00\n"
	plan, err := upload.Preview(t.Context(), pool, strings.NewReader(text), upload.Request{Source: "t.csv"})
	if err != nil {
		t.Fatal(db.Explain(err))
	}
	if plan.Dialect.Delimiter != ";" || !plan.IsWhole || len(plan.Columns) != 2 ||
		plan.Columns[1].Type != "timestamp with time zone" ||
		!strings.HasPrefix(plan.Statements[0], "create table ") || !strings.HasPrefix(plan.Statements[1], "copy ") {
		t.Errorf("planned %+v", plan)
	}
	assertNothingLeft(t, pool)

	long := "n\n" + strings.Repeat("1\n", 500_000)
	if plan, err = upload.Preview(t.Context(), pool, strings.NewReader(long), upload.Request{Source: "t.csv"}); err != nil || plan.IsWhole {
		t.Errorf("got %+v, %v; want a plan of the beginning", plan, err)
	}
}

// The limit applies to the text, however well it is compressed.
func TestLoadBoundsTheText(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	bomb := packed("a\n" + strings.Repeat("1\n", 1_000_000))
	_, err := upload.Load(t.Context(), pool, strings.NewReader(bomb), upload.Request{Source: "t.csv", MaxBytes: 1_000_000})
	if problem := db.Explain(err); problem.Status != 413 {
		t.Errorf("got %+v, want status 413", problem)
	}
	assertNothingLeft(t, pool)
}

func TestLoadReportsProgress(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	text := "a\n" + strings.Repeat("1\n", 500_000)
	var last upload.Progress
	request := upload.Request{Source: "t.csv", Progress: func(now upload.Progress) {
		if now.Bytes < last.Bytes || now.Rows < last.Rows {
			t.Errorf("%+v after %+v", now, last)
		}
		last = now
	}}
	if _, err := upload.Load(t.Context(), pool, strings.NewReader(text), request); err != nil {
		t.Fatal(err)
	}
	if last != (upload.Progress{Bytes: int64(len(text)), Rows: 500_000}) {
		t.Errorf("the last one is %+v", last)
	}
}
