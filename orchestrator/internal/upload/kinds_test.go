package upload_test

import (
	"database/sql"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

func must(text string, err error) string {
	if err != nil {
		panic(err)
	}
	return text
}

// loadWith imports text with the options of a URL.
func loadWith(t *testing.T, options, text string) (upload.Import, string, error) {
	t.Helper()
	pool, _ := dbtest.Schema(t)
	values, err := url.ParseQuery(options)
	if err != nil {
		t.Fatal(err)
	}
	request, err := upload.NewRequest("t.csv", values)
	if err != nil {
		return upload.Import{}, "", err
	}
	done, err := upload.Load(t.Context(), pool, strings.NewReader(text), request)
	if err != nil {
		return upload.Import{}, "", err
	}
	return done, rows(t, pool, "t"), nil
}

// What people export: the rows that come in, as JSON.
func TestLoadWhatPeopleHave(t *testing.T) {
	preamble := "some title\nversion,1.1\npos,52.2,-174.2\nDate,North,East\n2007-05-10,3.0,1.5\n2007-05-11,3.1,1.6\n"
	for _, test := range []struct{ name, options, text, want string }{
		{"records of other widths above the table", "", preamble,
			`[{"Date": "2007-05-10", "East": 1.5, "North": 3.0}, {"Date": "2007-05-11", "East": 1.6, "North": 3.1}]`},
		{"comments above two lines", "", "# a\n# b\n# c\n# d\nx,y\n1,2\n", `[{"x": 1, "y": 2}]`},
		{"comments within", "comment=%23", "x,y\n1,2\n# z\n3,4\n", `[{"x": 1, "y": 2}, {"x": 3, "y": 4}]`},
		{"two carriage returns before a line feed", "", "a,b\r\r\n1,2\r\r\n", `[{"a": 1, "b": 2}]`},
		{"line ends of two kinds", "", "a\r1\r2\n3\r4\r", `[{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]`},
		{"one cell in apostrophes", "", "id,title\n1,Changes\n2,'Heroes'\n", `[{"id": 1, "title": "Changes"}, {"id": 2, "title": "'Heroes'"}]`},
		{"quotes that are none", "", "0\t\"\n0\t!\n0\t\"\n",
			`[{"column_1": 0, "column_2": "\""}, {"column_1": 0, "column_2": "!"}, {"column_1": 0, "column_2": "\""}]`},
		{"no quote, as an option", "quote=none", "a,b\n\"x,y\"\n", `[{"a": "\"x", "b": "y\""}]`},
		{"a line feed in a name below a title", "", "Sales\n\"Day\n(UTC)\",n,m\n2024-01-31,1,2\n2024-02-01,3,4\n",
			`[{"m": 2, "n": 1, "Day\n(UTC)": "2024-01-31"}, {"m": 4, "n": 3, "Day\n(UTC)": "2024-02-01"}]`},
		{"two byte order marks", "", "\ufeff\ufeffa\n1\n", `[{"a": 1}]`},
		{"blank lines at the end of one column", "", "a\n1\n2\n\n\n", `[{"a": 1}, {"a": 2}]`},
		{"and within it", "", "a\n1\n\n2\n\n", `[{"a": 1}, {"a": null}, {"a": 2}, {"a": null}]`},
		{"a line of blanks", "", "a,b\n1,2\n  \n3,4\n", `[{"a": 1, "b": 2}, {"a": 3, "b": 4}]`},
		{"units below the header", "skip_after_header=1", "a,b\nkg,m\n1,2\n", `[{"a": 1, "b": 2}]`},
		{"totals at the end", "skip_end=1", "a,b\n1,2\n\nTotal: 3\n\n", `[{"a": 1, "b": 2}]`},
		{"a header of two lines", "header=2", "2024,,2025\nQ1,Q2,Q1\n1,2,3\n", `[{"Q2": 2, "2024 Q1": 1, "2025 Q1": 3}]`},
		{"names for a file without a header", "columns=a,b", "1,x\n2,y\n", `[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]`},
		{"other names", "columns=x,y&header=yes", "a,b\n1,2\n", `[{"x": 1, "y": 2}]`},
		{"several texts that mean NULL", "null=NA,-", "a,b\nNA,1\n-,\"NA\"\n", `[{"a": null, "b": "1"}, {"a": null, "b": "NA"}]`},
		{"an empty text in quotes that means NULL", "quoted_empty=null", "a,b\n\"\",1\n", `[{"a": null, "b": 1}]`},
		{"blanks around values", "trim=yes", "a,b\n 1 ,\" x \"\n", `[{"a": 1, "b": " x "}]`},
		{"blanks before quotes", "", "a,b\n1, \"x, y\"\n2,z\n", `[{"a": 1, "b": "x, y"}, {"a": 2, "b": "z"}]`},
		{"a long delimiter", "", "a|~|b\n1|~|x\n2|~|y, z\n", `[{"a": 1, "b": "x"}, {"a": 2, "b": "y, z"}]`},
		{"broken bars", "", "a¦b\n1¦x\n2¦y\n", `[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]`},
		{"a name of combined characters", "", "Cafe\u0301,b\n1,2\n", `[{"b": 2, "Café": 1}]`},
		{"text after a quote in the header", "ragged=pad", "\"URL\"Comments,b\n1,2\n", `[{"b": 2, "URLComments": 1}]`},
		{"Windows-1251", "", must(charmap.Windows1251.NewEncoder().String("имя,b\nИван,1\n")), `[{"b": 1, "имя": "Иван"}]`},
		{"Mac Roman", "", must(charmap.Macintosh.NewEncoder().String("a,b\nMüller,Köln\n")), `[{"a": "Müller", "b": "Köln"}]`},
		{"Shift JIS", "", must(japanese.ShiftJIS.NewEncoder().String("名前,b\n太郎,さくら\n")), `[{"b": "さくら", "名前": "太郎"}]`},
		{"UTF-16 without a mark", "", strings.TrimPrefix(utf16("a,b\ncafé,1\n"), "\xff\xfe"), `[{"a": "café", "b": 1}]`},
		{"lines that do not fit are left out", "ragged=reject", "a,b\n1,2\n3\n4,5,6\n7,8\n", `[{"a": 1, "b": 2}, {"a": 7, "b": 8}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, got, err := loadWith(t, test.options, test.text)
			if err != nil {
				t.Fatal(db.Explain(err))
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// A line is repaired only if it is wrong, and a delimiter at its end makes no column.
func TestLoadPadsOnlyWhatIsWrong(t *testing.T) {
	done, got, err := loadWith(t, "ragged=pad", "a,b\n1,2\n3,4,x\n5,6\n7,8,\n9\n")
	want := `[{"a": 1, "b": 2, "column_3": null}, {"a": 3, "b": 4, "column_3": "x"}, {"a": 5, "b": 6, "column_3": null}, ` +
		`{"a": 7, "b": 8, "column_3": null}, {"a": 9, "b": null, "column_3": null}]`
	if err != nil || got != want || done.ProblemCount != 2 {
		t.Errorf("got %s with %d problems, %v", got, done.ProblemCount, err)
	}
	if _, got, err = loadWith(t, "ragged=pad", "a,b\n1,2,\n3,4,\n"); got != `[{"a": 1, "b": 2}, {"a": 3, "b": 4}]` {
		t.Errorf("delimiters at the ends of lines: got %s, %v", got, err)
	}
}

func TestLoadWarns(t *testing.T) {
	for text, want := range map[string]string{
		"note\na, b\nc, d\n":  "the file has one column",
		"a\r1\r2\n3\r4\r":     "some lines end in CR and some in LF",
		"a,b\nx\xe8\xf2,1\n":  "the encoding is a guess",
		"a,b\n1,2\n":          "",
		"note\nx\ny\n":        "",
		"a,b\nM\xfcller,1\n1": "",
	} {
		done, _, err := loadWith(t, "ragged=pad", text)
		found := slices.ContainsFunc(done.Notices, func(notice string) bool { return strings.HasPrefix(notice, want) })
		if err != nil || found != (want != "") || want == "" && len(done.Notices) > 0 {
			t.Errorf("%q: got the notices %q, %v, want %q", text, done.Notices, err, want)
		}
	}
}

// Each refusal names the option that gets the file in.
func TestRefusalsNameTheOption(t *testing.T) {
	lines := strings.Repeat("1,2\n", 50)
	for _, test := range []struct{ name, options, text, hint string }{
		{"a total", "", "a,b\n" + lines + "Total\n", "--skip-end 1"},
		{"short lines at the end", "", "a,b\n" + lines + "1\n1,2,3\n", "--ragged pad"},
		{"another table", "", "a,b\n" + lines + "x,y,z\n1,2,3\n4,5,6\n", "--skip-end 3"},
		{"nothing else", "delimiter=,", "a,b\n1\n", "--ragged pad"},
		{"comments", "", "a,b\n" + lines + "# x\n" + lines, "--comment '#'"},
		{"bad bytes", "encoding=UTF8", "a,b\n" + lines + "\xff,1\n" + lines, "--encoding"},
		{"text after a quote", "", "a,b\n" + lines + "\"x\"y,2\n" + lines, "--quote none"},
		{"an open quote", "", "a,b\n" + lines + "\"x,2\n", "--quote none"},
		{"short lines", "", "a,b\n" + lines + "1\n" + lines, "--ragged reject"},
		{"too many short lines", "ragged=reject&reject_limit=2&delimiter=,", "a,b\n" + lines + "1\n2\n3\n" + lines, "--reject-limit"},
		{"names for fewer columns", "columns=a,b", "1,2,3\n", "--columns"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := loadWith(t, test.options, test.text)
			if problem := db.Explain(err); err == nil || !strings.Contains(problem.Hint, test.hint) {
				t.Errorf("got %v, %+v, want a hint with %s", err, problem, test.hint)
			}
		})
	}
}

func TestLoadRejects(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	request := upload.Request{Source: "t.csv", Ragged: "reject"}.WithSizes(1, 1)
	done, err := upload.Load(t.Context(), pool, strings.NewReader("a,b\n1,2\n3\n\"x\"y,1\n4,5\n"), request)
	if err != nil || done.RejectCount != 2 || done.ProblemCount != 2 || done.RowCount != 2 {
		t.Fatalf("got %+v, %v", done, err)
	}
	want := `[[3, "1 field instead of 2", "3", true], [4, "text after a closing quote", "\"x\"y,1", true]]`
	if got := dbtest.Value[string](t, pool, `
		select jsonb_agg(jsonb_build_array(line, reason, line_text, is_rejected) order by id)::text
		  from tinydevcrm.import_problems
		 where import_id = $1`, done.ID); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Files of other kinds say what they are.
func TestLoadSaysWhatAFileIs(t *testing.T) {
	for text, want := range map[string]string{
		zipOf([2]string{"[Content_Types].xml"}, [2]string{"word/document.xml"}): "a Word document",
		"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more":                             "an old Excel workbook",
		"\ufeff\n<!DOCTYPE html>\n<html><body>a,b</body></html>":                "HTML",
		"%PDF-1.7\n":               "a PDF",
		packed("<table><tr><td>1"): "HTML",
	} {
		_, _, err := loadWith(t, "", text)
		if problem := db.Explain(err); err == nil || problem.Code != "TD005" || problem.Message != "this is no CSV file; it is "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Values that do not fit are left out on request, and noted with their lines.
func TestLoadRejectsValues(t *testing.T) {
	const text = "id,d,n,j\n1,2026-01-31,5,{}\n2,x,6,{}\n3,2026-02-01,y,{\n\n4,2026-02-30,7,{}\n5,2026-02-01,8,[]\n"
	problems := func(t *testing.T, pool *sql.DB, done upload.Import) string {
		return dbtest.Value[string](t, pool, `
			select string_agg(line || ' ' || reason || ' ' || line_text, e'\n' order by id)
			  from tinydevcrm.import_problems
			 where import_id = $1 and is_rejected`, done.ID)
	}
	for _, test := range []struct{ name, table, types string }{
		{"given types", "", "d=date;n=integer;j=json"},
		{"types of the table", "create table t (id integer, d date, n integer, j json)", ""},
		{"a given form", "create table t (id integer, d date, n integer, j json)", "d=date Y/M/D"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pool, _ := dbtest.Schema(t)
			if test.table != "" {
				dbtest.Exec(t, pool, test.table)
			}
			request, err := upload.NewRequest("t.csv", url.Values{"bad": {"reject"}, "type": {test.types}, "mode": {"append"}})
			if err != nil {
				t.Fatal(err)
			}
			done, err := upload.Load(t.Context(), pool, strings.NewReader(text), request.WithSizes(1, 1))
			if err != nil {
				t.Fatal(db.Explain(err))
			}
			want := "3 column d: date cannot be read from 'x' 2,x,6,{}\n" +
				"4 column n: integer cannot be read from 'y'; column j: json cannot be read from '{' 3,2026-02-01,y,{\n" +
				"6 column d: date cannot be read from '2026-02-30' 4,2026-02-30,7,{}"
			if got := problems(t, pool, done); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			kept := dbtest.Value[string](t, pool, "select string_agg(id || ' ' || d || ' ' || n || ' ' || j, ', ' order by id) from t")
			if kept != "1 2026-01-31 5 {}, 5 2026-02-01 8 []" || done.RowCount != 2 || done.RejectCount != 3 {
				t.Errorf("kept %s, %+v", kept, done)
			}
			request.RejectLimit = 2
			request.Mode = "append"
			_, err = upload.Load(t.Context(), pool, strings.NewReader(text), request)
			if problem := db.Explain(err); problem.Code != "TD005" || !strings.Contains(problem.Hint, "--reject-limit") {
				t.Errorf("beyond the limit: %+v", problem)
			}
		})
	}
}

// Most values decide how a column is read.
func TestLoadRejectsValuesOfOtherForms(t *testing.T) {
	for options, want := range map[string]string{
		"bad=reject&type=n%3Dnumeric": `[{"n": 1234.5}, {"n": 2.5}]`,
		"bad=reject&type=n%3Dtext":    `[{"n": "1.234,5"}, {"n": "x"}, {"n": "2,5"}, {"n": "007"}]`,
	} {
		if _, got, err := loadWith(t, options, "n;\n1.234,5;\nx;\n2,5;\n007;\n"); !strings.Contains(strings.ReplaceAll(got, `, "column_2": null`, ""), want) {
			t.Errorf("%s: got %s, %v", options, got, err)
		}
	}
}
