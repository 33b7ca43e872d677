package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// A table aligns its columns on a terminal.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// row adds a row of printable cells.
func (t table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = printable(fmt.Sprint(cell))
	}
	fmt.Fprintln(t, strings.Join(texts, "\t"))
}

// printable escapes what would move the cursor, change colours or begin a line: users choose names and messages, and
// administrators read them.
func printable(text string) string {
	var escaped strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			escaped.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		escaped.WriteString(quoted[1 : len(quoted)-1])
	}
	return escaped.String()
}

// printableLines is printable, but keeps the lines of a problem, which are indented.
func printableLines(text string) string {
	const indented = "\n  "
	lines := strings.Split(text, indented)
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, indented)
}
