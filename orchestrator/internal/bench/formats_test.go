//go:build bench

package bench

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/xuri/excelize/v2"
)

// formats are the files of other formats, by the names of their files, and the imports of CSV that they are compared
// with.
func (b *bench) formats() []loading {
	load := func(name string) func() {
		return func() { b.orchestrator("upload", b.path(name), "--table", "format") }
	}
	return []loading{
		{"rows.jsonl", "upload of JSON lines", "upload", load("rows.jsonl")},
		{"rows.parquet", "upload of Parquet", "upload", load("rows.parquet")},
		{"fifth.csv", "upload of a fifth of the CSV", "fifth.csv", load("fifth.csv")},
		{"fifth.xlsx", "upload of a workbook with that fifth", "fifth.csv", load("fifth.xlsx")},
	}
}

// writeFormats writes the rows of plain.csv as JSON lines and Parquet, and a fifth of them as CSV and a workbook.
func (b *bench) writeFormats(rows int, page string) {
	b.t.Helper()
	b.copyInto("typed_plain", "plain.csv")
	// CSV with a quote and a delimiter that no value has is the text itself.
	b.run("psql", b.url, "-XAtqc", fmt.Sprintf(
		`\copy (select row_to_json(r) from typed_plain as r) to '%s' (format csv, quote e'\x01', delimiter e'\x02')`, b.path("rows.jsonl")))
	b.run("curl", "-sf", "-o", b.path("rows.parquet"), page+"/tables/typed_plain.parquet")
	b.generate(max(rows/5, 1), "fifth.csv")
	b.writeWorkbook("fifth.csv", "fifth.xlsx")
}

// writeWorkbook writes a file as a workbook, with numbers, booleans, dates and timestamps as such.
func (b *bench) writeWorkbook(from, to string) {
	b.t.Helper()
	file, err := os.Open(b.path(from))
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	book := excelize.NewFile()
	defer book.Close()
	sheet, err := book.NewStreamWriter("Sheet1")
	if err != nil {
		b.t.Fatal(err)
	}
	day, err := book.NewStyle(&excelize.Style{NumFmt: 14})
	if err != nil {
		b.t.Fatal(err)
	}
	moment, err := book.NewStyle(&excelize.Style{NumFmt: 22})
	if err != nil {
		b.t.Fatal(err)
	}
	records := csv.NewReader(file)
	for line := 1; ; line++ {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.t.Fatal(err)
		}
		cells := make([]any, len(record))
		for i, text := range record {
			cells[i] = cellOf(text, day, moment)
		}
		if err := sheet.SetRow("A"+strconv.Itoa(line), cells); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := sheet.Flush(); err != nil {
		b.t.Fatal(err)
	}
	if err := book.SaveAs(b.path(to)); err != nil {
		b.t.Fatal(err)
	}
}

func cellOf(text string, day, moment int) any {
	if number, err := strconv.ParseFloat(text, 64); err == nil {
		return number
	}
	if value, err := strconv.ParseBool(text); err == nil {
		return value
	}
	if at, err := time.Parse(time.DateOnly, text); err == nil {
		return excelize.Cell{StyleID: day, Value: at}
	}
	if at, err := time.Parse(time.DateTime, text); err == nil {
		return excelize.Cell{StyleID: moment, Value: at}
	}
	return text
}
