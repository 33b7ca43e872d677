package dialect

import (
	"regexp"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// closing is the position after the quote that closes the one at text[at]. When none does, it is that after the first of
// the last two quotes in a row; -1 without such.
func closing(text string, at int, quote, escape byte) (end int, isClosed bool) {
	doubled := -1
	for i := at + 1; i < len(text); i++ {
		switch {
		case escape != quote && text[i] == escape:
			i++
		case text[i] != quote:
		case escape == quote && i+1 < len(text) && text[i+1] == quote:
			i++
			doubled = i
		default:
			return i + 1, true
		}
	}
	return doubled, false
}

// quotedCells are the texts within the quotes of cells, each followed by what fits. With blanks, these stand before the
// quotes.
func quotedCells(text, delimiter string, quote, escape byte, hasBlanks bool, fits func(rest string) bool) []string {
	if strings.IndexByte(text, quote) < 0 {
		return nil
	}
	var cells []string
	for i := 0; i < len(text); {
		end := -1
		for _, begin := range cellBegins(text, i, delimiter) {
			at := begin
			if hasBlanks {
				at = len(text) - len(strings.TrimLeft(text[begin:], " "))
			}
			if hasBlanks == (at > begin) && at < len(text) && text[at] == quote {
				if end, _ = closing(text, at, quote, escape); end >= 0 && fits(text[end:]) {
					cells = append(cells, text[at+1:end-1])
					break
				}
				end = -1
			}
		}
		i = max(i+1, end)
	}
	return cells
}

// cellBegins are the places at or after a position where a cell begins: a line, or what a delimiter there separates.
func cellBegins(text string, at int, delimiter string) []int {
	var begins []int
	if at == 0 || text[at-1] == '\n' {
		begins = append(begins, at)
	}
	if strings.HasPrefix(text[at:], delimiter) {
		begins = append(begins, at+len(delimiter))
	}
	return begins
}

// isEnd reports whether a cell ends before rest.
func isEnd(rest, delimiter string) bool {
	return rest == "" || rest[0] == '\n' || strings.HasPrefix(rest, delimiter)
}

// findEscape is a backslash if one precedes a quote within a cell and explains more cells than doubling; else the quote.
func (s *search) findEscape(delimiter string, quote byte) byte {
	if s.escape != 0 && quote != 0 {
		return s.escape
	}
	if quote == 0 || quote == '\\' {
		return quote
	}
	isInside := false
	for rest := s.head; !isInside; {
		var isFound bool
		if _, rest, isFound = strings.Cut(rest, `\`+string(quote)); !isFound {
			return quote
		}
		isInside = !isEnd(rest, delimiter)
	}
	misfits := func(escape byte) int {
		return len(quotedCells(s.head, delimiter, quote, escape, false,
			func(rest string) bool { return !isEnd(rest, delimiter) && rest[0] != quote }))
	}
	if misfits('\\') < misfits(quote) {
		return '\\'
	}
	return quote
}

// findQuotes are the quotes to try, 0 for none: an apostrophe only when cells need it, or a whole column has it, and no
// cell begins and ends with ".
func (s *search) findQuotes(delimiter string) []byte {
	if s.hasQuote {
		return []byte{s.quote}
	}
	ends := func(rest string) bool { return isEnd(rest, delimiter) }
	single := quotedCells(s.head, delimiter, '\'', '\'', false, ends)
	double := quotedCells(s.head, delimiter, '"', '"', false, ends)
	if s.isUnquoted(delimiter, double) {
		return []byte{0}
	}
	needed := false
	for _, cell := range single {
		needed = needed || strings.Contains(cell, "''") || strings.Contains(cell, "\n") || strings.Contains(cell, delimiter)
	}
	if single != nil && double == nil && (needed || s.isAllQuoted(delimiter)) {
		return []byte{'"', '\''}
	}
	return []byte{'"'}
}

// isUnquoted reports whether quotes only seem to enclose line ends: each closing quote begins a cell too, and without
// quotes all lines have the same number of cells.
func (s *search) isUnquoted(delimiter string, double []string) bool {
	isLong := false
	for _, cell := range double {
		if strings.Contains(cell, "\n") {
			isLong = true
			if !strings.HasSuffix(cell, "\n") && !strings.HasSuffix(cell, delimiter) {
				return false
			}
		}
	}
	if !isLong {
		return false
	}
	width := 0
	for _, line := range cut(s.head, records.Dialect{Delimiter: delimiter}) {
		if width == 0 {
			width = len(line.cells)
		}
		if len(line.cells) != width && len(line.cells) > 0 {
			return false
		}
	}
	return width > 1
}

// isAllQuoted reports whether all cells of a column, two or more, are in apostrophes.
func (s *search) isAllQuoted(delimiter string) bool {
	var counts, quoted []int
	for _, line := range cut(s.head, records.Dialect{Delimiter: delimiter}) {
		for i, cell := range line.cells {
			if i == len(counts) {
				counts, quoted = append(counts, 0), append(quoted, 0)
			}
			if cell = strings.TrimSpace(cell); cell == "" {
				continue
			}
			counts[i]++
			if len(cell) > 1 && cell[0] == '\'' && cell[len(cell)-1] == '\'' {
				quoted[i]++
			}
		}
	}
	for i, count := range counts {
		if count > 1 && quoted[i] == count {
			return true
		}
	}
	return false
}

// hasBlanks reports whether blanks stand before quoted cells, and each such quote closes at a delimiter.
func (s *search) hasBlanks(delimiter string, quote byte) bool {
	if quote == 0 || delimiter == " " || delimiter == ", " || !strings.Contains(s.head, " "+string(quote)) {
		return false
	}
	begins := regexp.MustCompile(`(?m)(?:^|` + regexp.QuoteMeta(delimiter) + `) +` + regexp.QuoteMeta(string(quote)))
	count := len(begins.FindAllStringIndex(s.head, -1))
	return count > 0 && count == len(quotedCells(s.head, delimiter, quote, quote, true,
		func(rest string) bool { return isEnd(strings.TrimLeft(rest, " "), delimiter) }))
}

// withoutQuoted is a text without the quoted cells at the beginnings of lines, and after commas.
func withoutQuoted(text string, quote byte) string {
	var bare strings.Builder
	kept := 0
	for i := 0; i < len(text); i++ {
		begins := cellBegins(text, i, ", ")
		begins = append(begins, cellBegins(text, i, ",")...)
		for _, begin := range begins {
			if begin < len(text) && text[begin] == quote {
				bare.WriteString(text[kept:begin])
				var isClosed bool
				if kept, isClosed = closing(text, begin, quote, quote); !isClosed {
					kept = len(text)
				}
				i = kept - 1
				break
			}
		}
	}
	bare.WriteString(text[kept:])
	return bare.String()
}
