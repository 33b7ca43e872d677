package upload_test

import (
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// series are files by name and text.
type series struct {
	io.Reader
	rest [][2]string
}

func (s *series) NextFile() (string, error) {
	if len(s.rest) == 0 {
		return "", io.EOF
	}
	next := s.rest[0]
	s.Reader, s.rest = strings.NewReader(next[1]), s.rest[1:]
	return next[0], nil
}

func TestLoadSeries(t *testing.T) {
	const first = "id,a\n1,x\n2,y\n"
	for _, test := range []struct {
		name, options string
		files         [][2]string
		want          string // the rows as JSON, or the error
	}{
		{"the same columns", "", [][2]string{{"b.csv", "id,a\n3,z\n"}}, `[{"a": "x", "id": 1}, {"a": "y", "id": 2}, {"a": "z", "id": 3}]`},
		{"in another order and dialect", "file_column=file", [][2]string{{"b.csv", "a;id\r\nz;1,5\r\n"}, {"c.csv.gz", packed("id,a\n4,w\n")}},
			`[{"a": "x", "id": 1, "file": "t.csv"}, {"a": "y", "id": 2, "file": "t.csv"}, ` +
				`{"a": "z", "id": 1.5, "file": "b.csv"}, {"a": "w", "id": 4, "file": "c.csv.gz"}]`},
		{"other columns", "", [][2]string{{"b.csv", "id,b\n3,z\n"}},
			"b.csv has other columns than the files before it|\"b\": not in the files before it\n\"a\": only in the files before it"},
		{"other columns, when asked", "new_columns=ignore&missing_columns=null", [][2]string{{"b.csv", "id,b\n3,z\n"}},
			`[{"a": "x", "id": 1}, {"a": "y", "id": 2}, {"a": null, "id": 3}]`},
		{"a line that does not fit", "", [][2]string{{"b.csv", "id,a\n3,z\n4\n5,w\n"}},
			"1 line of the file cannot be read; nothing was imported|line 3: b.csv: 1 field instead of 2: 4"},
		{"lines that are repaired", "ragged=pad", [][2]string{{"b.csv", "a,id\nz,3,w\n"}},
			`[{"a": "x", "id": 1, "column_3": null}, {"a": "y", "id": 2, "column_3": null}, {"a": "z", "id": 3, "column_3": "w"}]`},
		{"a value that does not fit", "type=id%3Dinteger", [][2]string{{"b.csv", "id,a\n3,z\nx,y\n"}},
			"a value of column id cannot be read as integer|b.csv, line 3, column id: 'x'"},
		{"an empty file", "", [][2]string{{"b.csv", ""}}, "b.csv: the file is empty|"},
		{"a name in use", "file_column=a", nil, `file_column cannot be "a"|`},
	} {
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
			var got string
			done, err := upload.Load(t.Context(), pool, &series{strings.NewReader(first), test.files}, request.WithSizes(1, 1))
			if err != nil {
				problem := db.Explain(err)
				got = problem.Message + "|" + problem.Detail
				assertNothingLeft(t, pool)
			} else {
				got = rows(t, pool, "t")
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if err == nil && done.RowCount != int64(strings.Count(got, `"id"`)) {
				t.Errorf("%d rows", done.RowCount)
			}
		})
	}
}

// A file that cannot be read makes all of them fail.
func TestLoadSeriesThatBreaksOff(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	gone := errors.New("gone")
	_, err := upload.Load(t.Context(), pool, &brokenSeries{strings.NewReader("a\n1\n"), gone}, upload.Request{Source: "t.csv"})
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	assertNothingLeft(t, pool)
}

type brokenSeries struct {
	io.Reader
	err error
}

func (s *brokenSeries) NextFile() (string, error) { return "", s.err }
