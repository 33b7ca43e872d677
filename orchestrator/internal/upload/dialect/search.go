package dialect

import (
	"regexp"
	"slices"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// A search cuts the sample by each possible delimiter and quote, and chooses the pair that cuts it best. The score is that
// of G.J.J. van den Burg, A. Nazabal and C. Sutton, "Wrangling messy CSV files by detecting row and type patterns"
// (2019): records of few different widths, times cells of a known kind. Some rules apply before the score; each is a
// function of its own.
type search struct {
	*cellReader
	// text is the sample with line feeds, head its beginning.
	text, head string
	// What is given; empty, 0 and nil when it is not. hasQuote means that quote is given, 0 for none.
	delimiter     string
	quote, escape byte
	hasQuote      bool
	hasHeader     *bool
	isSkipGiven   bool
}

// A cutting is the sample cut in one way. lines are those before the table.
type cutting struct {
	delimiter     string
	quote, escape byte
	hasBlanks     bool
	lines         int
	table         table
}

// find returns the best cutting, whether its first record is a header, and what is a weak guess.
func (s *search) find() (best cutting, hasHeader bool, warnings []string) {
	tried := []string{s.delimiter}
	if s.delimiter == "" {
		tried = s.findDelimiters()
	}
	var most float64
	isFirst := true
	for _, delimiter := range tried {
		for _, quote := range s.findQuotes(delimiter) {
			one := s.read(delimiter, quote)
			if score := s.score(one.table, one.delimiter); isFirst || score > most {
				best, most, isFirst = one, score, false
			}
		}
	}
	switch {
	case most > 0 && s.delimiter == "":
		best = s.lengthen(best)
	case most == 0:
		best, warnings = s.withoutScore()
	}

	hasHeader = s.isHeaderOf(best.table)
	if len(best.table) == 1 && hasHeader && s.hasHeader == nil {
		warnings = append(warnings,
			"the file has one line, which is taken for names of columns; if it is data, choose --header no")
	}
	return best, hasHeader, warnings
}

// withoutScore is the cutting of a file that no usual delimiter cuts: by a rare one, or of one column.
func (s *search) withoutScore() (best cutting, warnings []string) {
	if s.delimiter == "" {
		if rare, isFound := s.findRare(); isFound {
			return rare, nil
		}
	}
	var most float64
	for _, quote := range s.findQuotes("\n") {
		delimiter := s.delimiter
		if delimiter == "" {
			delimiter = s.unusedDelimiter(quote)
		}
		one := s.read(delimiter, quote)
		if known := s.known(one.table); known > most {
			best, most = one, known
		}
	}
	if s.delimiter == "" && len(best.table) > 1 {
		if likely := findLikely(strings.Split(s.head, "\n")[best.lines:]); likely != nil {
			warnings = append(warnings, "the file has one column: is one of these its delimiter, which most "+
				"lines contain: "+strings.Join(likely, ", "))
		}
	}
	return best, warnings
}

func (s *search) isHeaderOf(t table) bool {
	if s.hasHeader != nil {
		return *s.hasHeader
	}
	return s.cellReader.hasHeader(t)
}

func (s *search) read(delimiter string, quote byte) cutting {
	how := records.Dialect{
		Delimiter: delimiter,
		Quote:     quote,
		Escape:    s.findEscape(delimiter, quote),
		HasBlanks: s.hasBlanks(delimiter, quote),
	}
	lines := complete(cut(s.head, how), s.head)
	start := 0
	if !s.isSkipGiven {
		start = s.tableStart(lines, delimiter)
	}
	found := tableOf(lines[start:])
	// Titles are above a header. Without a header, a short line is a record.
	first := firstRecord(lines)
	hasTitles := slices.ContainsFunc(lines[min(first, start):start], func(l line) bool {
		return len(l.cells) == 0 || !strings.HasPrefix(l.cells[0], "#")
	})
	if hasTitles && !s.isHeaderOf(found) {
		start = first
		found = tableOf(lines[start:])
	}
	// Comments within are refused later, and do not count here.
	isComment := func(cells []string) bool { return len(cells) == 1 && (line{cells: cells}).isComment() }
	if others := slices.DeleteFunc(slices.Clone(found), isComment); slices.ContainsFunc(others, hasSeveral) {
		found = others
	}
	if len(found) == 0 {
		found = table{{""}}
	}
	before := 0
	if len(lines) > 0 {
		before = lines[start].before
	}
	return cutting{delimiter, quote, how.Escape, how.HasBlanks, before, found}
}

func hasSeveral(cells []string) bool { return len(cells) > 1 }

// findDelimiters are the delimiters to try, likeliest first. A blank after every comma is part of it.
func (s *search) findDelimiters() []string {
	bare := s.head
	if quote := s.quote; quote != 0 || !s.hasQuote {
		if quote == 0 {
			quote = '"'
		}
		bare = withoutQuoted(s.head, quote)
	}
	// A comma that is followed by something else than one blank.
	isAlone := false
	for at := range bare {
		rest := bare[at+1:]
		isAlone = isAlone || bare[at] == ',' && rest != "" && (rest[0] != ' ' || strings.HasPrefix(rest, "  "))
	}
	lines := 0
	for line := range strings.SplitSeq(bare, "\n") {
		if strings.Contains(line, ", ") {
			lines++
		}
	}
	tried := []string{",", ";", "\t", "|", " "}
	if !isAlone && lines > 1 {
		tried = []string{";", "\t", "|", " ", ", "}
	}
	return slices.DeleteFunc(tried, func(delimiter string) bool { return s.isMark(delimiter[0]) })
}

// isMark reports whether a character is the given quote or escape.
func (s *search) isMark(char byte) bool {
	return s.hasQuote && char == s.quote || s.escape != 0 && char == s.escape
}

// lengthen is the cutting by a longer delimiter, such as || or |~|, of which only a part was tried: every second cell of
// all records is then the same.
func (s *search) lengthen(best cutting) cutting {
	middle, hasMiddle, widest := "", false, 0
	for _, cells := range best.table {
		widest = max(widest, len(cells))
		if len(cells)%2 == 0 {
			return best
		}
		for i := 1; i < len(cells); i += 2 {
			if hasMiddle && cells[i] != middle {
				return best
			}
			middle, hasMiddle = cells[i], true
		}
	}
	// An empty column is a column, unless it also has no name.
	isLikely := strings.Contains("~^:", best.delimiter) || best.delimiter == "|" && s.cellReader.hasHeader(best.table)
	isMiddle := regexp.MustCompile(`^[^` + letter + `\s]{0,8}$`).MatchString(middle)
	if len(best.table) < 2 || !hasMiddle || !isLikely || widest < 3 || !isMiddle {
		return best
	}
	return s.read(best.delimiter+middle+best.delimiter, best.quote)
}

// findRare is the best cutting by a rarer delimiter, if one cuts every line into the same number of cells.
func (s *search) findRare() (best cutting, isFound bool) {
	var most float64
	for _, rare := range []struct {
		delimiter string
		least     int
	}{{"~", 2}, {"^", 2}, {"¦", 2}, {"\x01", 2}, {":", 3}} {
		if s.isMark(rare.delimiter[0]) || strings.Count(s.head, rare.delimiter) < 2 {
			continue
		}
		one := s.lengthen(s.read(rare.delimiter, s.findQuotes(rare.delimiter)[0]))
		width := len(one.table[0])
		isValue := func(cells []string) bool {
			return len(cells) != width || s.kind(strings.Join(cells, rare.delimiter)).isValue()
		}
		known := s.known(one.table)
		if len(one.table) > 1 && width >= rare.least && !slices.ContainsFunc(one.table, isValue) && known > 0.5 && known > most {
			best, most, isFound = one, known, true
		}
	}
	return best, isFound
}

// findLikely names the delimiters that most lines of a file of one column contain.
func findLikely(lines []string) []string {
	lines = lines[:min(len(lines), kindsRead)]
	filled := 0
	for _, line := range lines {
		if strings.TrimSpace(line) != "" {
			filled++
		}
	}
	var likely []string
	for _, mark := range [][2]string{{",", "comma"}, {";", "semicolon"}, {"\t", "tab"}, {"|", "|"}} {
		count := 0
		for _, line := range lines {
			if strings.TrimSpace(line) != "" && strings.Contains(line, mark[0]) {
				count++
			}
		}
		if 2*count > filled {
			likely = append(likely, mark[1])
		}
	}
	return likely
}

// isCutByBlanks reports whether the blank is the delimiter, and not part of sentences, times or 1 000.
func (s *search) isCutByBlanks(t table) bool {
	isOther := func(cells []string) bool { return len(cells) != len(t[0]) }
	isValue := func(k kind) bool { return k == number || k == date }
	isNoValue := func(cells []string) bool { return !s.kind(strings.Join(cells, " ")).isValue() }
	return !slices.ContainsFunc(t, isOther) && slices.ContainsFunc(s.columnKinds(t), isValue) &&
		slices.ContainsFunc(t[1:], isNoValue)
}

// score is how well the table is cut; 0 when it is more likely one column.
func (s *search) score(t table, delimiter string) float64 {
	first := len(t[0])
	if first == 1 || delimiter == " " && !s.isCutByBlanks(t) {
		return 0
	}
	same, narrow := 0, 0
	counts := make(map[int]int)
	pattern := 0.0
	for i, cells := range t {
		width := len(cells)
		counts[width]++
		pattern += float64(width-1) / float64(width)
		if i > 0 && width == first {
			same++
		}
		if i > 0 && width == 1 {
			narrow++
		}
	}
	weight, others := 1.0, len(t)-1
	if others > 0 && 2*same <= others {
		// The first record differs from most: for example, all but the header end with a delimiter.
		if delimiter == " " || delimiter == ", " || 2*narrow > others {
			return 0
		}
		weight = 0.1
	}
	return weight * pattern / float64(len(counts)) * s.known(t)
}

// unusedDelimiter is one for a file of one column: it cuts no line of the sample.
func (s *search) unusedDelimiter(quote byte) string {
	for _, delimiter := range []string{",", ";", "\t", "|"} {
		how := records.Dialect{Delimiter: delimiter, Quote: quote, Escape: s.findEscape(delimiter, quote)}
		if !s.isMark(delimiter[0]) &&
			!slices.ContainsFunc(cut(s.text, how), func(l line) bool { return hasSeveral(l.cells) }) {
			return delimiter
		}
	}
	return "\x1f"
}
