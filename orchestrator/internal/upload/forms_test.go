package upload_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

func TestLoadForms(t *testing.T) {
	for _, test := range []struct{ name, types, text, want string }{
		{"day first", "", "d\n31/12/2024\n01/02/2024\n", `[{"d": "2024-12-31"}, {"d": "2024-02-01"}]`},
		{"a given type", "d=date", "d\n03.04.2026\n", `[{"d": "2026-04-03"}]`},
		{"a given form", "d=date D/M/Y", "d\n03/04/2026\n", `[{"d": "2026-04-03"}]`},
		{"two readings", "", "d\n03/04/2026\n", `[{"d": "03/04/2026"}]`},
		{"numbers", "", "n;m;p\n1.234,56;1 234,5;5 %\n-5;7;1,5 %\n", `[{"m": 1234.5, "n": 1234.56, "p": 5}, {"m": 7, "n": -5, "p": 1.5}]`},
		{"currencies", "", "n\n€5\n$6\n", `[{"n": 5, "n_currency": "€"}, {"n": 6, "n_currency": "$"}]`},
		{"moments", "", "x,y\n12/31/2024 9:05 PM,2024-12-31 09:05 +0100\n1/2/2024 10:00 AM,2024-01-01 10:00:00 UTC\n",
			`[{"x": "2024-12-31T21:05:00", "y": "2024-12-31T08:05:00+00:00"}, {"x": "2024-01-02T10:00:00", "y": "2024-01-01T10:00:00+00:00"}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, got, err := loadWith(t, url.Values{"type": {test.types}}.Encode(), test.text)
			if err != nil {
				t.Fatal(db.Explain(err))
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// A form that a later value excludes is not chosen, however many rows are loaded by then.
func TestLoadLateForms(t *testing.T) {
	lines := strings.Repeat("1234\n", 60_000)
	for late, want := range map[string]string{"\"1,234.5\"\n": "numeric", "\"1,234\"\n": "text", "x\n": "text"} {
		done, _, err := loadWith(t, "", "n\n"+lines+late)
		if err != nil || done.Columns[0].Type != want {
			t.Errorf("%q: got %+v, %v, want %s", late, done.Columns, err, want)
		}
	}
}

// Errors about values name the line of the file.
func TestErrorsNameTheLine(t *testing.T) {
	text := "a,d\n\"two\nlines\",2026-01-01\n\nx,2026-01-02\ny,%s\n"
	for _, test := range []struct{ name, options, value, detail string }{
		{"a given type", "type=d%3Ddate", "2026-02-30", "line 6, column d: '2026-02-30'"},
		{"a given type that COPY reads", "type=d%3Djson", "{", "line 2, column d: '2026-01-01'"},
		{"a given form", "type=d%3Ddate%20D/M/Y", "1/2/2026", "line 2, column d: '2026-01-01'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := loadWith(t, test.options, fmt.Sprintf(text, test.value))
			if problem := db.Explain(err); problem.Status != 422 || problem.Detail != test.detail {
				t.Errorf("got %v, %+v, want %s", err, problem, test.detail)
			}
		})
	}

	t.Run("append", func(t *testing.T) {
		pool, _ := dbtest.Schema(t)
		dbtest.Exec(t, pool, "create table t (a text, d date)")
		_, err := upload.Load(t.Context(), pool, strings.NewReader(fmt.Sprintf(text, "03/04/2026")),
			upload.Request{Source: "t.csv", Mode: "append"})
		if problem := db.Explain(err); problem.Detail != "line 6, column d: date cannot be read from '03/04/2026'" {
			t.Errorf("got %+v", problem)
		}
	})
}

// A preview shows the form, and what a column could be.
func TestPreviewForms(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	plan, err := upload.Preview(t.Context(), pool, strings.NewReader("d,e\n31/12/2024,03/04/2024\n"), upload.Request{Source: "t.csv"})
	if err != nil || plan.Columns[0].SampleText() != "31/12/2024" || plan.Columns[0].Type != "date" || plan.Columns[0].Form != "date D/M/Y" || len(plan.Notices) != 1 ||
		!strings.Contains(plan.Notices[0], "column e could be date D/M/Y or date M/D/Y") {
		t.Errorf("got %+v, %v", plan, err)
	}
	assertNothingLeft(t, pool)
}
