package dialect

import (
	"regexp"
	"slices"
	"strings"
)

// A kind is what a cell looks like; unknown is that of a cell from a cut at the wrong place.
type kind string

const (
	unknown kind = ""
	empty   kind = "empty"
	number  kind = "number"
	date    kind = "date"
	boolean kind = "boolean"
	uuid    kind = "uuid"
	words   kind = "text"
)

// isValue reports whether cells of the kind are data rather than names.
func (k kind) isValue() bool { return k == number || k == date || k == boolean || k == uuid }

const (
	monthForm = `(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[.]?`
	dayForm   = `(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})|\d{4}-\d{2}` +
		`|\d{1,2}[- ]` + monthForm + `[- ](?:\d{4}|\d{2})|` + monthForm + ` \d{1,2},? \d{4})`
	timeForm = `\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]m)?(?: ?(?:z|utc|gmt|[+-]\d{2}(?::?\d{2})?))?`
	money    = `[$£¥€]?`
	yearForm = `(?:19[0-9]{2}|20[0-9]{2}|2100)`
	// letter is a letter or digit of any language, or an underscore.
	letter = `\pL\pN_`
)

// A cellReader finds the kinds of cells. It remembers those that it has seen. Its forms are for cells in small letters.
type cellReader struct {
	forms []cellForm
	year  *regexp.Regexp
	text  *regexp.Regexp
	seen  map[string]kind
}

type cellForm struct {
	kind kind
	form *regexp.Regexp
}

func newCellReader() *cellReader {
	whole := func(form string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + form + `)$`) }
	return &cellReader{
		forms: []cellForm{
			{empty, whole(`(?:n/?a|nan|null|none|-|\\n)?`)},
			{number, whole(`[+-]?` + money + ` ?(?:(?:\d+|\d{1,3}(?:[ .,'\x{a0}\x{202f}]\d{3})+)(?:[.,]\d+)?|[.]\d+)` +
				`(?:e[+-]?\d+)? ?(?:%|` + money + `)`)},
			{date, whole(dayForm + `(?:(?:t|,? )` + timeForm + `)?|` + timeForm)},
			{boolean, whole(`true|false|yes|no|[tfyn]`)},
			{uuid, whole(`\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?`)},
		},
		year: whole(yearForm),
		// Words and sentences. A cell with a quote, or with a comma that no blank follows, comes from a cut at the wrong place.
		text: whole(`(?:[` + letter + ` .:!?()/&%+#@*=~$-]+|[` + letter + `]+(?:'[` + letter + `]+)+|[,;] )+`),
		seen: make(map[string]kind),
	}
}

func (r *cellReader) kind(cell string) kind {
	cell = strings.ToLower(strings.TrimSpace(cell))
	found, isSeen := r.seen[cell]
	if !isSeen {
		found = r.find(cell)
		r.seen[cell] = found
	}
	return found
}

func (r *cellReader) find(cell string) kind {
	for _, form := range r.forms {
		if form.form.MatchString(cell) {
			return form.kind
		}
	}
	if r.text.MatchString(cell) {
		return words
	}
	return unknown
}

// isYear reports whether a cell is a year, which can be the name of a column.
func (r *cellReader) isYear(cell string) bool { return r.year.MatchString(strings.TrimSpace(cell)) }

// A table is the records that may be a header and rows below it.
type table [][]string

// kindsRead is how many rows show the kinds of columns.
const kindsRead = 200

// columnKinds are, for each column, the kind that all its cells below the first one share; unknown if it is no value.
func (r *cellReader) columnKinds(t table) []kind {
	kinds := make([]kind, len(t[0]))
	isMixed := make([]bool, len(t[0]))
	for _, cells := range t[1:min(len(t), kindsRead)] {
		for i, cell := range cells[:min(len(cells), len(kinds))] {
			switch found := r.kind(cell); {
			case found == empty:
			case !found.isValue(), kinds[i] != unknown && kinds[i] != found:
				isMixed[i] = true
			default:
				kinds[i] = found
			}
		}
	}
	for i := range kinds {
		if isMixed[i] {
			kinds[i] = unknown
		}
	}
	return kinds
}

// headerVotes are the numbers of columns that speak for a header, and against one.
func (r *cellReader) headerVotes(t table) (forIt, against int) {
	for i, below := range r.columnKinds(t) {
		cell := t[0][i]
		// A year can be the name of a column, and an empty cell decides nothing.
		if below == unknown || r.isYear(cell) || strings.TrimSpace(cell) == "" {
			continue
		}
		if r.kind(cell) == below {
			against++
		} else {
			forIt++
		}
	}
	return forIt, against
}

// hasHeader reports whether the cells of the first record are of other kinds than those below them.
func (r *cellReader) hasHeader(t table) bool {
	if len(t) > 1 {
		forIt, against := r.headerVotes(t)
		return forIt > against || against == 0
	}
	// Years can be names of columns; other numbers and dates are data.
	isData := func(cell string) bool {
		found := r.kind(cell)
		return (found == number || found == date || found == uuid) && !r.isYear(cell)
	}
	return !slices.ContainsFunc(t[0], isData) &&
		slices.ContainsFunc(t[0], func(cell string) bool { return r.kind(cell) != number })
}

// known is the share of the cells that are of a known kind; never 0.
func (r *cellReader) known(t table) float64 {
	var count, known float64
	for _, cells := range t[:min(len(t), kindsRead)] {
		for _, cell := range cells {
			count++
			if r.kind(cell) != unknown {
				known++
			}
		}
	}
	return max(known, 0.001) / count
}
