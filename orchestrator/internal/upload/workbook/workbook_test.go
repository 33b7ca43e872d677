package workbook_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/workbook"
)

// generatedFiles is how many files the property tests generate, and shortFiles in a short run.
const generatedFiles, shortFiles = 2000, 200

func unlimited(r io.Reader) io.Reader { return r }

func open(file []byte) (*workbook.Workbook, error) {
	return workbook.Open(bytes.NewReader(file), int64(len(file)), unlimited)
}

// A line is a row as it is read: its number, its texts (nil is NULL), and what is wrong with it.
type line struct {
	Row   int64
	Cells []*string
	Fault string
}

func readAll(file []byte, sheet string) (lines []line, err error) {
	book, err := open(file)
	if err != nil {
		return nil, err
	}
	found, err := book.Find(sheet)
	if err != nil {
		return nil, err
	}
	rows, err := book.Rows(found)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for {
		record, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		next := line{Row: record.Line, Fault: record.Fault}
		for _, field := range record.Fields {
			var cell *string
			if text := string(field.Text); text != "" {
				cell = &text
			}
			next.Cells = append(next.Cells, cell)
		}
		lines = append(lines, next)
	}
}

func shown(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

// A kind of cells: a value that is written with a number format, and the text that must be read.
type kind struct {
	format string
	value  func(*rand.Rand) (any, string)
}

func moment(r *rand.Rand) time.Time {
	return time.Date(1900+r.IntN(300), time.March, 2+r.IntN(300), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1000)*1e6, time.UTC)
}

// serial is the number of days of the system of 1900.
func serial(at time.Time) float64 {
	return float64(at.Unix()-time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC).Unix())/86400 + float64(at.Nanosecond())/86400e9
}

func kinds() []kind {
	fraction := func(at time.Time) string { return strings.TrimRight(strings.TrimRight(at.Format(".000"), "0"), ".") }
	return []kind{
		{"General", func(r *rand.Rand) (any, string) {
			value := r.Int64N(1e15) - 5e14
			return value, strconv.FormatInt(value, 10)
		}},
		{"0.00", func(r *rand.Rand) (any, string) {
			value := math.Round(r.NormFloat64()*1e6) / 100
			if value == 0 {
				value = 0.01
			}
			return value, strconv.FormatFloat(value, 'f', -1, 64)
		}},
		{"0.00E+00", func(r *rand.Rand) (any, string) {
			// excelize writes 15 digits.
			text := strconv.FormatFloat((1+r.Float64())*math.Pow(10, float64(r.IntN(30)-12)), 'e', 14, 64)
			value, _ := strconv.ParseFloat(text, 64)
			return value, strconv.FormatFloat(value, 'f', -1, 64)
		}},
		{"0%", func(r *rand.Rand) (any, string) {
			value := float64(1+r.IntN(99)) / 100
			return value, strconv.FormatFloat(value, 'f', -1, 64)
		}},
		{`[$-409]d\-mmm\-yyyy;@`, func(r *rand.Rand) (any, string) {
			at := moment(r).Truncate(24 * time.Hour)
			return serial(at), at.Format("2006-01-02")
		}},
		{`"am" dd/mm/yy`, func(r *rand.Rand) (any, string) {
			at := moment(r)
			if at.Equal(at.Truncate(24 * time.Hour)) {
				return serial(at), at.Format("2006-01-02")
			}
			return serial(at), at.Format("2006-01-02 15:04:05") + fraction(at)
		}},
		{"yyyy-mm-dd hh:mm:ss", func(r *rand.Rand) (any, string) {
			at := moment(r)
			return serial(at), at.Format("2006-01-02 15:04:05") + fraction(at)
		}},
		{"[h]:mm", func(r *rand.Rand) (any, string) {
			at := moment(r)
			return serial(at) - math.Floor(serial(at)), at.Format("15:04:05") + fraction(at)
		}},
		{`#,##0.00 "days"`, func(r *rand.Rand) (any, string) {
			value := 1 + r.IntN(1e6)
			return value, strconv.Itoa(value)
		}},
		{`[Red]-0" h"`, func(r *rand.Rand) (any, string) {
			value := 1 + r.IntN(1e6)
			return value, strconv.Itoa(value)
		}},
		{"General", func(r *rand.Rand) (any, string) {
			value := r.IntN(2) == 0
			return value, strconv.FormatBool(value)
		}},
		{"@", func(r *rand.Rand) (any, string) {
			text := []string{"007", " a ", "é€", "<&>\"'", "a_x", "a\nb", "1e3", "-", "]]>"}[r.IntN(9)]
			return text, text
		}},
	}
}

// generate makes a workbook of random cells, some of them merged or hidden, and what must be read of it.
func generate(r *rand.Rand) (file []byte, want []line) {
	book := excelize.NewFile()
	defer book.Close()
	styles := make(map[string]int)
	all := kinds()
	width := 1 + r.IntN(6)
	for range r.IntN(25) {
		row := line{Row: int64(len(want) + 1)}
		if len(want) > 0 {
			row.Row = want[len(want)-1].Row + 1 + int64(r.IntN(2))
		}
		last := 0
		for column := range width {
			place, _ := excelize.CoordinatesToCellName(column+1, int(row.Row))
			chosen := all[r.IntN(len(all))]
			if styles[chosen.format] == 0 {
				styles[chosen.format], _ = book.NewStyle(&excelize.Style{CustomNumFmt: &chosen.format})
			}
			must(book.SetCellStyle("Sheet1", place, place, styles[chosen.format]))
			if r.IntN(5) == 0 {
				row.Cells = append(row.Cells, nil)
				continue
			}
			value, text := chosen.value(r)
			must(book.SetCellValue("Sheet1", place, value))
			row.Cells = append(row.Cells, &text)
			last = column + 1
		}
		if row.Cells = row.Cells[:last]; last > 0 {
			want = append(want, row)
		}
	}
	if len(want) == 0 {
		must(book.SetCellValue("Sheet1", "A1", "x"))
		want = []line{{Row: 1, Cells: []*string{new("x")}}}
	}
	must(book.SetRowVisible("Sheet1", 1+r.IntN(5), false))
	must(book.SetColVisible("Sheet1", "B", false))
	var written bytes.Buffer
	must(book.Write(&written))
	return written.Bytes(), want
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func TestEveryCellOfASheetIsReadAsItIs(t *testing.T) {
	t.Parallel()
	count := generatedFiles
	if testing.Short() {
		count = shortFiles
	}
	for seed := range uint64(count) {
		file, want := generate(rand.New(rand.NewPCG(25, seed)))
		got, err := readAll(file, "")
		if err != nil {
			t.Fatalf("file %d: %v", seed, err)
		}
		if !reflect.DeepEqual(got, want) {
			for i := range min(len(got), len(want)) {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Fatalf("file %d: %s, want %s", seed, shown(got[i]), shown(want[i]))
				}
			}
			t.Fatalf("file %d: %d rows, want %d", seed, len(got), len(want))
		}
	}
}

// A sheet of raw XML in a workbook without anything else.
func sheetOf(t *testing.T, cells, styles string) []byte {
	t.Helper()
	const office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
	return zipOf(t, map[string]string{
		"_rels/.rels": `<Relationships><Relationship Id="a" Type="` + office + `officeDocument" Target="/xl/workbook.xml"/></Relationships>`,
		"xl/workbook.xml": `<workbook><workbookPr date1904="` + strconv.FormatBool(strings.Contains(styles, "1904")) +
			`"/><sheets><sheet name="S" sheetId="1" r:id="s" xmlns:r="x"/></sheets></workbook>`,
		"xl/_rels/workbook.xml.rels": `<Relationships><Relationship Id="s" Type="` + office + `worksheet" Target="worksheets/a.xml"/>` +
			`<Relationship Id="y" Type="` + office + `styles" Target="styles.xml"/></Relationships>`,
		"xl/worksheets/a.xml": cells,
		"xl/styles.xml": `<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/><xf numFmtId="46"/>` +
			`</cellXfs></styleSheet>` + `<!--` + styles + `-->`,
	})
}

func zipOf(t *testing.T, parts map[string]string) []byte {
	t.Helper()
	var file bytes.Buffer
	archive := zip.NewWriter(&file)
	for name, text := range parts {
		part, err := archive.Create(name)
		if err == nil {
			_, err = io.WriteString(part, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestCellsAsProgramsWriteThem(t *testing.T) {
	t.Parallel()
	const begin, end = `<x:worksheet><x:sheetData><x:row r="7">`, `</x:row></x:sheetData></x:worksheet>`
	for name, c := range map[string]struct{ cells, book, text, fault string }{
		"long digits of a double":    {`<c><v>1.1000000000000001</v></c>`, "", "1.1", ""},
		"digits of a long integer":   {`<c><v>12345678901234567890</v></c>`, "", "12345678901234567890", ""},
		"an exponent":                {`<c><v>1.5E-3</v></c>`, "", "0.0015", ""},
		"minus zero":                 {`<c><v>-0</v></c>`, "", "0", ""},
		"a text within":              {`<c t="inlineStr"><is><r><t>a</t></r><r><t xml:space="preserve"> b</t></r><rPh><t>no</t></rPh></is></c>`, "", "a b", ""},
		"a formula's text":           {`<c t="str"><f>A1&amp;"x"</f><v>a_x000D_b</v></c>`, "", "a\rb", ""},
		"a formula's error":          {`<c r="C7" t="e"><f>1/0</f><v>#DIV/0!</v></c>`, "", "", "#DIV/0! in C7"},
		"a formula without a value":  {`<c r="AB7"><f>A1</f></c>`, "", "", "a formula without a value in AB7"},
		"an empty formula":           {`<c t="str"><f>""</f><v></v></c><c><v>1</v></c>`, "", " 1", ""},
		"CDATA and entities":         {`<c t="str"><v><![CDATA[<a>]]>&#x20AC;&lt;</v></c>`, "", "<a>€<", ""},
		"a comment and a space":      {`<c t="b" ><!-- > --><v>1</v ></c >`, "", "true", ""},
		"an ISO date":                {`<c t="d"><v>2024-01-31T10:00:00</v></c>`, "", "2024-01-31T10:00:00", ""},
		"the first day of 1900":      {`<c s="1"><v>1</v></c>`, "", "1900-01-01", ""},
		"the day before the leap":    {`<c s="1"><v>59</v></c>`, "", "1900-02-28", ""},
		"the day that never was":     {`<c s="1"><v>60</v></c>`, "", "1900-02-29", ""},
		"the day after it":           {`<c s="1"><v>61</v></c>`, "", "1900-03-01", ""},
		"the last day":               {`<c s="1"><v>2958465</v></c>`, "", "9999-12-31", ""},
		"a day after the last":       {`<c s="1"><v>2958466</v></c>`, "", "2958466", ""},
		"a day before the first":     {`<c s="1"><v>-1</v></c>`, "", "-1", ""},
		"a time with a day's format": {`<c s="1"><v>0.5</v></c>`, "", "12:00:00", ""},
		"midnight of a moment":       {`<c s="2"><v>45322</v></c>`, "", "2024-01-31 00:00:00", ""},
		"thousandths":                {`<c s="2"><v>45322.000005787</v></c>`, "", "2024-01-31 00:00:00.5", ""},
		"1904":                       {`<c s="1"><v>0</v></c><c s="1"><v>43860</v></c>`, "1904", "1904-01-01 2024-01-31", ""},
		"more than a day":            {`<c s="3"><v>1.5</v></c>`, "", "1900-01-01 12:00:00", ""},
		"an unknown style":           {`<c s="99"><v>5</v></c>`, "", "5", ""},
		"cells out of order":         {`<c r="B7"><v>2</v></c><c r="A7"><v>1</v></c>`, "", "1 2", ""},
	} {
		lines, err := readAll(sheetOf(t, begin+c.cells+end, c.book), "s")
		if err != nil || len(lines) != 1 || lines[0].Row != 7 {
			t.Errorf("%s: %s, %v", name, shown(lines), err)
			continue
		}
		var texts []string
		for _, cell := range lines[0].Cells {
			if cell == nil {
				cell = new("")
			}
			texts = append(texts, *cell)
		}
		if got := strings.Join(texts, " "); got != c.text || lines[0].Fault != c.fault {
			t.Errorf("%s: %q, %q, want %q, %q", name, got, lines[0].Fault, c.text, c.fault)
		}
	}
}

func TestASheetIsChosen(t *testing.T) {
	t.Parallel()
	book := excelize.NewFile()
	defer book.Close()
	for _, name := range []string{"Secret", "Notes", "Orders", "Empty"} {
		if _, err := book.NewSheet(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, sheet := range []string{"Secret", "Orders"} {
		for row := range 5 {
			must(book.SetSheetRow(sheet, fmt.Sprintf("B%d", row+4), &[]any{sheet, row}))
		}
	}
	must(book.SetCellValue("Notes", "A1", "Please read this."))
	must(book.SetCellValue("Notes", "A2", "And this."))
	must(book.SetSheetVisible("Secret", false))
	must(book.MergeCell("Orders", "B8", "C8"))
	var file bytes.Buffer
	must(book.Write(&file))
	for asked, want := range map[string]string{"": "Orders", "secret": "Secret", "Notes": "Please read this."} {
		lines, err := readAll(file.Bytes(), asked)
		if err != nil || !strings.Contains(shown(lines[0]), want) {
			t.Errorf("%q: %s, %v", asked, shown(lines), err)
		}
	}
	if _, err := readAll(file.Bytes(), "Prices"); !errors.Is(err, workbook.ErrSheet) {
		t.Errorf("a sheet that is not there: %v", err)
	}
	// A merged cell has its value once.
	lines, err := readAll(file.Bytes(), "Orders")
	if got := shown(lines[4].Cells); err != nil || got != `[null,"Orders"]` {
		t.Errorf("merged: %s, %v", got, err)
	}
}

func TestADamagedWorkbookIsRefused(t *testing.T) {
	t.Parallel()
	file, _ := generate(rand.New(rand.NewPCG(25, 5)))
	r := rand.New(rand.NewPCG(25, 6))
	for i := range 400 {
		damaged := slices.Clone(file)
		if i%4 == 0 {
			damaged = damaged[:r.IntN(len(damaged))]
		} else {
			damaged[r.IntN(len(damaged))] = byte(r.Uint32())
		}
		_, err := readAll(damaged, "")
		if err != nil && !errors.Is(err, workbook.ErrFile) {
			t.Fatalf("try %d: %v", i, err)
		}
		if i%4 == 0 && err == nil {
			t.Fatalf("try %d: a part of a file is read as a whole", i)
		}
	}
	const begin, end = `<worksheet><sheetData><row r="1">`, `</row></sheetData></worksheet>`
	for _, cells := range []string{
		`<!DOCTYPE x [<!ENTITY a "b">]>`, `<c><v>&a;</v></c>`, `<c t="s"><v>5</v></c>`, `<c r="7"><v>1</v></c>`, `<c r="ZZZZ1"><v>1</v></c>`,
		`<c><v>1`, `<c r="XFD1"><v>1</v></c>`,
	} {
		closing := end
		if !strings.HasSuffix(cells, "/c>") {
			closing = ""
		}
		if lines, err := readAll(sheetOf(t, begin+cells+closing, ""), "S"); !errors.Is(err, workbook.ErrFile) {
			t.Errorf("%s: %s, %v", cells, shown(lines), err)
		}
	}
}

var errLimit = errors.New("too much")

// A bomb is a small file that unpacks to a large one: what is unpacked is counted before it is read.
func TestWhatIsUnpackedIsLimited(t *testing.T) {
	t.Parallel()
	bomb := sheetOf(t, `<worksheet><sheetData><row><c t="str"><v>`+strings.Repeat(" ", 40<<20)+`</v></c></row></sheetData></worksheet>`, "")
	limit := func(r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, 1<<20), &failing{})
	}
	book, err := workbook.Open(bytes.NewReader(bomb), int64(len(bomb)), limit)
	if err == nil {
		_, err = book.Find("")
	}
	if !errors.Is(err, errLimit) {
		t.Errorf("a limit of 1 MB: %v", err)
	}
	if _, err := readAll(bomb, ""); !errors.Is(err, workbook.ErrFile) {
		t.Errorf("a text of 40 MB in a cell: %v", err)
	}
}

// What is repeated in a description costs no more than it has bytes.
func TestAWorkbookOfManySmallThingsIsRefused(t *testing.T) {
	t.Parallel()
	const office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
	empty := "<worksheet>" + strings.Repeat(" ", 1<<20) + "<sheetData></sheetData></worksheet>"
	for _, test := range []struct {
		name, want    string
		sheets, links int
		styles, cells string
	}{
		{"sheets times links", "it has more than 1000 sheets", 100_000, 100_000, "<styleSheet/>", "<worksheet/>"},
		{"a long format", "none of its sheets has values", 1, 1,
			`<styleSheet><numFmts><numFmt numFmtId="200" formatCode="` + strings.Repeat("[$a", 300_000) + `"/></numFmts></styleSheet>`, "<worksheet/>"},
		{"sheets without values", errLimit.Error(), 900, 1, "<styleSheet/>", empty},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := zipOf(t, map[string]string{
				"_rels/.rels":     `<Relationships><Relationship Id="a" Type="` + office + `officeDocument" Target="/xl/workbook.xml"/></Relationships>`,
				"xl/workbook.xml": "<workbook><sheets>" + strings.Repeat(`<sheet id="s"/>`, test.sheets) + "</sheets></workbook>",
				"xl/_rels/workbook.xml.rels": "<Relationships>" + strings.Repeat(`<Relationship Id="s" Type="/worksheet" Target="a.xml"/>`, test.links) +
					`<Relationship Id="y" Type="/styles" Target="styles.xml"/></Relationships>`,
				"xl/a.xml":      test.cells,
				"xl/styles.xml": test.styles,
			})
			done := make(chan error, 1)
			go func() {
				book, err := workbook.Open(bytes.NewReader(file), int64(len(file)), func(r io.Reader) io.Reader { return &limited{r, 20 << 20} })
				if err == nil {
					_, err = book.Find("")
				}
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("the error is %v, want %s", err, test.want)
				}
			case <-time.After(time.Minute):
				t.Error("it takes over a minute")
			}
		})
	}
}

// A limited reader fails beyond so many bytes.
type limited struct {
	io.Reader
	left int
}

func (r *limited) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.left -= n; r.left < 0 {
		return 0, errLimit
	}
	return n, err
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errLimit }

// memoryBound is for a sheet of any length, beside its shared texts.
const memoryBound = 64 << 20

func TestMemoryDoesNotGrowWithTheSheet(t *testing.T) {
	rows := 200_000
	if testing.Short() {
		rows = 40_000
	}
	name := t.TempDir() + "/large.xlsx"
	writeLarge(t, name, rows)
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, _ := file.Stat()
	before, peak := heap(), uint64(0)
	book, err := workbook.Open(file, info.Size(), unlimited)
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := book.Find("")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := book.Rows(sheet)
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	for i := 0; ; i++ {
		if _, err := lines.Next(); errors.Is(err, io.EOF) {
			if i != rows {
				t.Errorf("%d rows", i)
			}
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if i%10_000 == 0 {
			peak = max(peak, heap())
		}
	}
	if peak > before+memoryBound {
		t.Errorf("reading takes %d MB", (peak-before)>>20)
	}
}

// writeLarge writes a sheet of so many rows with eight columns.
func writeLarge(t *testing.T, name string, rows int) {
	book := excelize.NewFile()
	defer book.Close()
	sheet, err := book.NewStreamWriter("Sheet1")
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		must(sheet.SetRow(fmt.Sprintf("A%d", i+1), []any{i, fmt.Sprint("text ", i), 1.5, "x", true, i * 7, "a longer text of some words", 0.25}))
	}
	must(sheet.Flush())
	must(book.SaveAs(name))
}

// heap is what is in use, after a collection.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse
}

// What is in a sheet is its first row, and where the program says that its cells are.
func TestOutline(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"libreoffice.xlsx": "A1:I6", "openpyxl.xlsx": "A1:I6"} {
		file, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		book, err := open(file)
		if err != nil {
			t.Fatal(err)
		}
		first, area, err := book.Outline(book.Sheets()[0])
		if err != nil || area != want || len(first) != 1 || first[0] != "Orders of January" {
			t.Errorf("%s: %q in %s, %v", name, first, area, err)
		}
	}
}
