package dialect

import (
	"errors"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// A line is a record of the sample: the number of lines before it, and its cells; a blank line has none.
type line struct {
	before int
	cells  []string
}

func (l line) isBlank() bool {
	return !slices.ContainsFunc(l.cells, func(cell string) bool { return strings.TrimSpace(cell) != "" })
}

// isEmpty reports whether it is a blank line, and not one of empty cells.
func (l line) isEmpty() bool { return len(l.cells) < 2 && l.isBlank() }

func (l line) isComment() bool {
	return len(l.cells) > 0 && strings.HasPrefix(strings.TrimLeft(l.cells[0], " \t"), "#")
}

// cut reads the records of a text as an import does. The last one may have been cut by the end of the text.
func cut(text string, how records.Dialect) []line {
	reader := records.NewReader(strings.NewReader(text), how, false)
	var lines []line
	for before := 0; ; {
		record, err := reader.Next()
		if err != nil {
			var open *records.OpenQuoteError
			var wide *records.WideError
			if errors.As(err, &open) || errors.As(err, &wide) {
				lines = append(lines, line{before, cellsOf(reader.Unfinished())})
			}
			return lines
		}
		found := line{before: before}
		if !record.IsBlank() {
			found.cells = cellsOf(record.Fields)
		}
		lines = append(lines, found)
		before = int(record.Line) + strings.Count(string(record.Raw), "\n")
	}
}

func cellsOf(fields []records.Field) []string {
	cells := make([]string, len(fields))
	for i, field := range fields {
		cells[i] = string(field.Text)
	}
	return cells
}

// complete are the records without a last one that the end of the text or an open quote has cut.
func complete(lines []line, text string) []line {
	last := len(lines) - 1
	if last < 1 {
		return lines
	}
	cells := lines[last].cells
	hasBreak := slices.ContainsFunc(cells, func(cell string) bool { return strings.Contains(cell, "\n") })
	switch {
	case strings.HasSuffix(text, "\n") && !hasBreak:
		return lines
	case len(cells) < len(lines[last-1].cells):
		return lines[:last]
	case last > 1 && len(cells) > 0:
		cells = slices.Clone(cells)
		cells[len(cells)-1] = ""
		return append(lines[:last:last], line{lines[last].before, cells})
	}
	return lines
}

// tableOf are the cells of the records that are not blank lines.
func tableOf(lines []line) table {
	var t table
	for _, line := range lines {
		if !line.isEmpty() {
			t = append(t, line.cells)
		}
	}
	return t
}

// firstRecord is the index of the first record below the blank lines; 0 when all are blank.
func firstRecord(lines []line) int {
	return max(0, slices.IndexFunc(lines, func(l line) bool { return !l.isEmpty() }))
}

// usualWidth is the number of cells of most records in the lower half, where titles are rare.
func usualWidth(lines []line) (width int, isTable bool) {
	var widths, all []int
	for _, line := range lines {
		if line.isEmpty() {
			continue
		}
		all = append(all, len(line.cells))
		if !line.isComment() {
			widths = append(widths, len(line.cells))
		}
	}
	if widths == nil {
		widths = all
	}
	counts := make(map[int]int)
	for _, width := range widths[len(widths)/2:] {
		counts[width]++
	}
	width = 1
	for candidate, count := range counts {
		if count > counts[width] || count == counts[width] && candidate > width {
			width = candidate
		}
	}
	narrow := 0
	for _, width := range widths {
		if width == 1 {
			narrow++
		}
	}
	return width, width != 1 && 2*narrow <= len(widths)
}

// isHeader reports whether a record can only be the header of what is below it.
func (r *cellReader) isHeader(lines []line, start, width int) bool {
	var t table
	for _, line := range lines[start:min(len(lines), start+50)] {
		if !line.isBlank() {
			t = append(t, line.cells)
		}
	}
	if len(t) < 2 {
		return false
	}
	forIt, against := r.headerVotes(t)
	return forIt > against && len(t[0]) == width && len(t[1]) == width
}

// isTitle reports whether a record has fewer cells than the table. Two cells are a name and its value. A title may contain
// the delimiter of the table, and a spreadsheet fills it up with empty cells.
func (l line) isTitle(width int) bool {
	isFilled := func(from int) bool { return !(line{cells: l.cells[from:]}).isBlank() }
	return len(l.cells) == 1 ||
		width > 2 && (len(l.cells) < width || !isFilled(1) || width > 3 && !isFilled(2))
}

// tableStart is the index of the first record below the blank lines, comments and titles.
func (r *cellReader) tableStart(lines []line, delimiter string) int {
	first := firstRecord(lines)
	width, isTable := usualWidth(lines)
	if !isTable {
		return first
	}
	isData := func(l line) bool { return !l.isBlank() && !l.isComment() }

	blank, start := -1, 0
	var titles []int
rows:
	for ; start < len(lines); start++ {
		switch l := lines[start]; {
		case l.isBlank():
			blank = start
		case l.isComment():
			next := slices.IndexFunc(lines[start:], isData)
			if len(l.cells) == width && !(next >= 0 && r.isHeader(lines, start+next, width)) {
				if !l.isTitle(width) {
					break rows
				}
				titles = append(titles, start)
			}
		case l.isTitle(width):
			titles = append(titles, start)
		default:
			break rows
		}
	}
	if start == len(lines) {
		return first
	}
	return r.belowTitles(lines, titles, start, blank, width, delimiter)
}

// belowTitles is the start of the table, or a title above it that can be its header. start is the index of the first
// record as wide as the table, blank that of the last blank line above it.
func (r *cellReader) belowTitles(lines []line, titles []int, start, blank, width int, delimiter string) int {
	// When the delimiter is a comma and a blank, or a blank, sentences contain it. Then even one cell above many can be the
	// header: that of one column.
	hasSentences := delimiter == " " || delimiter == ", "
	// A title may also have as many cells as the table, by chance.
	if len(titles) > 0 && !hasSentences {
		for near := start; near < min(start+20, len(lines)); near++ {
			if r.isHeader(lines, near, width) {
				return near
			}
		}
	}
	// A row directly above the table is a title only when it cannot be the header.
	rows := 0
	for _, line := range lines[start:] {
		if len(line.cells) > 0 {
			if len(line.cells) != width || rows == 3 {
				break
			}
			rows++
		}
	}
	for _, title := range titles {
		isAlone := len(lines[title].cells) == 1 && width > 2 && !hasSentences
		if rows < 3 || title > blank && !isAlone {
			return title
		}
	}
	return start
}
