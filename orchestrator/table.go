package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

const (
	// narrowest is the width below which a column of a list cannot be read: each row is then printed on its own.
	narrowest = 12
	between   = "  "
)

// A listing is a table for a terminal, which it fits into, or for a program, which gets one line for each row.
type listing struct {
	to    io.Writer
	width int
	painter
	head []string
	rows [][]string
	// none is printed instead of a table without rows.
	none string
}

func (p *program) newTable() *listing {
	return &listing{to: p.stdout, width: widthOf(p.stdout), painter: p.painterOf(p.stdout)}
}

// newList has a head, and a sentence for when it has no rows: what is missing, and the command that makes one.
func (p *program) newList(none string, head ...string) *listing {
	l := p.newTable()
	l.none, l.head = none, head
	return l
}

// A coloured is a cell in a colour.
type coloured struct{ colour, text string }

// alarming is the cell of a state: red when it needs attention.
func alarming(state string, isTroubled bool) coloured {
	if isTroubled {
		return coloured{red, state}
	}
	return coloured{text: state}
}

// row adds a row of printable cells.
func (l *listing) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		if c, isColoured := cell.(coloured); isColoured {
			texts[i] = l.paint(c.colour, printable(c.text))
			continue
		}
		texts[i] = printable(fmt.Sprint(cell))
	}
	l.rows = append(l.rows, texts)
}

// Flush prints the table. On a terminal it leaves out columns that say nothing, and wraps what is too wide.
func (l *listing) Flush() error {
	if len(l.rows) == 0 {
		if l.none != "" {
			_, err := fmt.Fprintln(l.to, l.none)
			return err
		}
		return nil
	}
	if l.width == 0 {
		return l.print(l.head, l.rows, nil)
	}
	l.leaveOutEmpty()
	widths, fits := l.fit()
	if !fits && l.head != nil {
		return l.printApart()
	}
	return l.print(l.head, l.rows, widths)
}

// leaveOutEmpty leaves out the columns that have no value in any row.
func (l *listing) leaveOutEmpty() {
	if l.head == nil {
		return
	}
	var kept []int
	for i := range l.head {
		for _, row := range l.rows {
			if row[i] != "-" && row[i] != "" {
				kept = append(kept, i)
				break
			}
		}
	}
	pick := func(row []string) []string {
		picked := make([]string, len(kept))
		for i, at := range kept {
			picked[i] = row[at]
		}
		return picked
	}
	l.head = pick(l.head)
	for i, row := range l.rows {
		l.rows[i] = pick(row)
	}
}

// fit returns how wide each column may be. It takes the room from the widest ones, and says no when that leaves one
// that cannot be read.
func (l *listing) fit() (widths []int, fits bool) {
	for _, row := range append([][]string{l.head}, l.rows...) {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(cell))
		}
	}
	surplus := len(between)*(len(widths)-1) - l.width
	for _, width := range widths {
		surplus += width
	}
	for ; surplus > 0; surplus-- {
		widest := 0
		for i, width := range widths {
			if width > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= narrowest {
			return widths, false
		}
		widths[widest]--
	}
	return widths, true
}

// printApart prints each row as lines of name and value, as psql does with \x auto.
func (l *listing) printApart() error {
	for i, row := range l.rows {
		if i > 0 {
			fmt.Fprintln(l.to)
		}
		one := &listing{to: l.to, width: l.width}
		for at, cell := range row {
			one.rows = append(one.rows, []string{l.head[at], cell})
		}
		widths, _ := one.fit()
		if err := one.print(nil, one.rows, widths); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) print(head []string, rows [][]string, widths []int) error {
	writer := table.NewWriter()
	writer.SetStyle(table.Style{Box: table.BoxStyle{PaddingRight: between}})
	writer.SuppressTrailingSpaces()
	if head != nil {
		writer.AppendHeader(cellsOf(head))
	}
	for _, row := range rows {
		writer.AppendRow(cellsOf(row))
	}
	var columns []table.ColumnConfig
	for i, width := range widths {
		columns = append(columns, table.ColumnConfig{Number: i + 1, WidthMax: width, WidthMaxEnforcer: text.WrapSoft})
	}
	writer.SetColumnConfigs(columns)
	_, err := fmt.Fprintln(l.to, writer.Render())
	return err
}

func cellsOf(texts []string) table.Row {
	row := make(table.Row, len(texts))
	for i, text := range texts {
		row[i] = text
	}
	return row
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
