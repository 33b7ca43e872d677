package upload_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// An excel is a workbook in the making.
type excel struct {
	*excelize.File
	t *testing.T
}

func newExcel(t *testing.T) excel {
	t.Helper()
	book := excelize.NewFile()
	t.Cleanup(func() { book.Close() })
	return excel{book, t}
}

// set sets a row of a sheet, which is created where it is not there. A time is written with a format of dates.
func (e excel) set(sheet, place string, values ...any) excel {
	e.t.Helper()
	_, err := e.NewSheet(sheet)
	if err == nil {
		err = e.SetSheetRow(sheet, place, &values)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return e
}

func (e excel) style(sheet, place, format string) excel {
	e.t.Helper()
	style, err := e.NewStyle(&excelize.Style{CustomNumFmt: &format})
	if err == nil {
		err = e.SetCellStyle(sheet, place, place, style)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return e
}

func (e excel) text() string {
	e.t.Helper()
	var file bytes.Buffer
	if err := e.Write(&file); err != nil {
		e.t.Fatal(err)
	}
	return file.String()
}

func TestLoadWorkbook(t *testing.T) {
	day := time.Date(2024, 1, 31, 0, 0, 0, 0, time.UTC)
	plain := newExcel(t).set("Sheet1", "A1", "id", "day", "price", "share", "note", "ok").
		set("Sheet1", "A2", 1, day, 1.5, 0.25, "007", true).set("Sheet1", "A3", 2, day.AddDate(0, 0, 1), 1.1, 1, nil, false).
		style("Sheet1", "B2", "d.m.yyyy").style("Sheet1", "B3", "d.m.yyyy").style("Sheet1", "D2", "0%").text()
	title := newExcel(t).set("Sheet1", "B2", "Orders of 2024").set("Sheet1", "C5", "id", "name", "paid").
		set("Sheet1", "C6", 1, "a", day).set("Sheet1", "C7", 2, "b", nil).style("Sheet1", "E6", "yyyy-mm-dd hh:mm").text()
	several := newExcel(t).set("Sheet1", "A1", "Please read.").set("Orders", "A1", "a", "b").set("Orders", "A2", 1, 2).
		set("Prices", "A1", "p", "q").set("Prices", "A2", 3, 4).text()
	for _, test := range []struct{ name, file, text, options, columns, want string }{
		{"types and formats", "a.xlsx", plain, "", "id integer, day date, price numeric, share numeric, note text, ok boolean",
			`[{"id": 1, "ok": true, "day": "2024-01-31", "note": "007", "price": 1.5, "share": 0.25}, ` +
				`{"id": 2, "ok": false, "day": "2024-02-01", "note": null, "price": 1.1, "share": 1}]`},
		{"a title above the table", "a.xlsx", title, "", "id integer, name text, paid timestamp without time zone",
			`[{"id": 1, "name": "a", "paid": "2024-01-31T00:00:00"}, {"id": 2, "name": "b", "paid": null}]`},
		{"lines to skip", "a.xlsx", title, "skip=4", "id integer, name text, paid timestamp without time zone",
			`[{"id": 1, "name": "a", "paid": "2024-01-31T00:00:00"}, {"id": 2, "name": "b", "paid": null}]`},
		{"no header", "a.xlsx", plain, "skip=1&header=no&skip_end=1&columns=a,b,c,d,e,f", "a integer, b date, c numeric, d numeric, e text, f boolean",
			`[{"a": 1, "b": "2024-01-31", "c": 1.5, "d": 0.25, "e": "007", "f": true}]`},
		{"the first sheet with a table", "a.xlsx", several, "", "a integer, b integer", `[{"a": 1, "b": 2}]`},
		{"a chosen sheet", "a.xlsx", several, "sheet=prices", "p integer, q integer", `[{"p": 3, "q": 4}]`},
		{"a given type and null", "a.xlsx", plain, "type=id%3Dtext&null=007", "id text, day date, price numeric, share numeric, note text, ok boolean",
			`[{"id": "1", "ok": true, "day": "2024-01-31", "note": null, "price": 1.5, "share": 0.25}, ` +
				`{"id": "2", "ok": false, "day": "2024-02-01", "note": null, "price": 1.1, "share": 1}]`},
		{"one column", "a.xlsx", newExcel(t).set("Sheet1", "A1", "n").set("Sheet1", "A2", 1).set("Sheet1", "A4", 2).text(), "", "n integer", `[{"n": 1}, {"n": 2}]`},
		{"a column without a name", "a.xlsx", newExcel(t).set("Sheet1", "A1", "n").set("Sheet1", "A2", 1, "x").set("Sheet1", "A3", 2, "y").text(), "header=yes",
			"n integer, column_2 text", `[{"n": 1, "column_2": "x"}, {"n": 2, "column_2": "y"}]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			columns, got, err := loadFile(t, test.file, test.text, test.options)
			if err != nil || columns != test.columns || got != test.want {
				t.Errorf("got\n%s\n%s\n%v\nwant\n%s\n%s", columns, got, db.Explain(err), test.columns, test.want)
			}
		})
	}
}

// The preview lists the sheets, and says which it shows.
func TestPreviewListsSheets(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	book := newExcel(t).set("Sheet1", "A1", "a", "b").set("Sheet1", "A2", 1, 2).set("Old", "A1", "x", "y")
	if err := book.SetSheetVisible("Old", false); err != nil {
		t.Fatal(err)
	}
	plan, err := upload.Preview(t.Context(), pool, strings.NewReader(book.text()), upload.Request{Source: "orders.xlsx"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := plan.Notices[0], `this is the sheet "Sheet1"; choose another with --sheet: Sheet1, Old (hidden)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := plan.Dialect.String(), "workbook, sheet Sheet1, with a header"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An error in a cell is NULL, and is listed among the problems of the import with its place.
func TestErrorsInCellsAreNoted(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	file, err := os.ReadFile("testdata/errors.xlsx")
	if err != nil {
		t.Fatal(err)
	}
	done, err := loadMore(t, pool, "t.xlsx", string(file), "")
	if err != nil {
		t.Fatal(db.Explain(err))
	}
	var problems string
	if err := pool.QueryRow("select string_agg(line || ' ' || reason || ' ' || is_rejected, '; ' order by line) from tinydevcrm.import_problems where import_id = $1",
		done.ID).Scan(&problems); err != nil {
		t.Fatal(err)
	}
	if want := "3 #DIV/0! in B3 false; 4 #N/A in B4, #NAME? in C4 false"; problems != want {
		t.Errorf("got %s, want %s", problems, want)
	}
	if got, want := rows(t, pool, "t"), `[{"a": 5, "b": "x", "id": 1}, {"a": null, "b": "y", "id": 2}, {"a": null, "b": null, "id": 3}]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRefuseWorkbook(t *testing.T) {
	whole := newExcel(t).set("Sheet1", "A1", "a", "b").set("Sheet1", "A2", 1, 2).set("Sheet1", "A3", 1, 2, 3).set("Other", "A1", "x").text()
	wide := newExcel(t)
	for row := range 1100 {
		wide.set("Sheet1", fmt.Sprintf("B%d", row+1), "x", row)
	}
	wide.set("Sheet1", "A1101", "left", "x", 1)
	for _, test := range []struct{ name, file, text, options, want string }{
		{"cut off", "a.xlsx", whole[:len(whole)-30], "", "the workbook cannot be read"},
		{"a sheet that is not there", "a.xlsx", whole, "sheet=Prices", "Its sheets are Sheet1, Other."},
		{"an option for CSV", "a.xlsx", whole, "delimiter=%3B", "delimiter is no option for an Excel workbook"},
		{"a sheet of a CSV file", "a.csv", "a\n1\n", "sheet=x", "sheet is no option for CSV"},
		{"a value that does not fit", "a.xlsx", whole, "type=a%3Ddate", "line 2, column a"},
		{"nothing in it", "a.xlsx", newExcel(t).text(), "", "none of its sheets has values"},
		{"a value to the left", "a.xlsx", wide.text(), "", "a value to the left of the table, in A1101"},
		{"another format", "a.csv", "a\n1\n", "format=xlsx", "the workbook cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got, err := loadFile(t, test.file, test.text, test.options); err == nil || !strings.Contains(db.Explain(err).String(), test.want) {
				t.Errorf("got %s, %v, want %q", got, db.Explain(err), test.want)
			}
		})
	}
}

// What a workbook unpacks to is limited, as that of other files.
func TestLimitWhatAWorkbookUnpacksTo(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	book := newExcel(t)
	for row := range 3000 {
		book.set("Sheet1", fmt.Sprintf("A%d", row+1), 1000000+row, strings.Repeat("x", 300))
	}
	text := book.text()
	_, err := upload.Load(t.Context(), pool, strings.NewReader(text), upload.Request{Source: "t.xlsx", MaxBytes: 100 << 10})
	if err == nil || !strings.Contains(db.Explain(err).String(), "more than 102400 bytes") {
		t.Errorf("a file of %d bytes: %v", len(text), err)
	}
}

// For any generated workbook, the import keeps the value of every cell.
func TestPropertyEveryCellOfAWorkbookComesBack(t *testing.T) {
	t.Parallel()
	pool, _ := dbtest.Schema(t)
	files := propertyFiles
	if testing.Short() {
		files = shortFiles / 5
	}
	kinds := []func(*rand.Rand) (any, string){
		func(r *rand.Rand) (any, string) { n := r.IntN(1e9); return n, fmt.Sprint(n) },
		func(r *rand.Rand) (any, string) { n := float64(1+r.IntN(1e6)) / 4; return n, fmt.Sprint(n) },
		func(r *rand.Rand) (any, string) { ok := r.IntN(2) == 0; return ok, fmt.Sprint(ok) },
		func(r *rand.Rand) (any, string) {
			at := time.Date(2000+r.IntN(50), 1, 1+r.IntN(365), 0, 0, 0, 0, time.UTC)
			return at, at.Format("2006-01-02")
		},
		func(r *rand.Rand) (any, string) {
			text := []string{"007", "a,b", "é\n\"x\"", "-", "1e3", " x "}[r.IntN(6)]
			return text, text
		},
	}
	for number := range files {
		r := rand.New(rand.NewPCG(25, uint64(number)))
		book := newExcel(t)
		width, height := 2+r.IntN(4), 1+r.IntN(20)
		header := []any{}
		for i := range width {
			header = append(header, fmt.Sprintf("c%d", i))
		}
		book.set("Sheet1", "A1", header...)
		cells := make([][]cell, height)
		for i := range cells {
			values := []any{}
			for j := range width {
				value, text := kinds[(number+j)%len(kinds)](r)
				if j > 0 && r.IntN(6) == 0 {
					values, cells[i] = append(values, nil), append(cells[i], nil)
					continue
				}
				values, cells[i] = append(values, value), append(cells[i], &text)
			}
			book.set("Sheet1", fmt.Sprintf("A%d", i+2), values...)
		}
		yes := true
		request := upload.Request{Source: "t.xlsx", Table: fmt.Sprintf("x%d", number), HasHeader: &yes, Skip: new(int)}.WithSizes(1+r.IntN(400), 1+r.IntN(200))
		done, err := upload.Load(t.Context(), pool, strings.NewReader(book.text()), request)
		if err != nil {
			t.Fatalf("file %d: %v", number, db.Explain(err))
		}
		back, err := readBack(t.Context(), pool, request.Table, width)
		if err != nil || len(back) != height {
			t.Fatalf("file %d: %d rows, %v", number, len(back), err)
		}
		for i := range cells {
			for j, value := range cells[i] {
				if !isSame(done.Columns[j], value, back[i][j]) {
					t.Fatalf("file %d: row %d, column %d, %+v: %s came back as %s", number, i, j, done.Columns[j], show(value), show(back[i][j]))
				}
			}
		}
		dbtest.Exec(t, pool, "drop table "+request.Table)
	}
}
