// Package dialect finds how a CSV file is written from its first bytes: encoding, line end, delimiter, quote, escape,
// header, and the lines above it.
//
// It cuts the sample with the reader and the decoders of the import itself, so that both agree.
package dialect

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// searched is how much of a sample the delimiters are looked for in, at most searchedLines.
const (
	searched      = 64 << 10
	searchedLines = 1000
)

// Given are the parts of a dialect that the user has given; empty and nil when not. The rest is found with them.
type Given struct {
	Encoding string
	// Delimiter may also be tab, \t, \x01 or space.
	Delimiter string
	// Quote may also be none.
	Quote, Escape string
	HasHeader     *bool
	SkipLines     *int
}

// A Dialect is how a CSV file is written.
type Dialect struct {
	// Encoding is UTF8, UTF16LE, UTF16BE, WIN1252, WIN1251, WIN1250, MACINTOSH, SJIS, GBK, or what was given.
	Encoding string
	// Delimiter separates two cells. For a file of one column, it is a character that does not occur in it.
	Delimiter string
	// Quote and Escape are empty when no cell is quoted. Escape is the quote itself when quotes are doubled.
	Quote, Escape string
	// LineEnd is LF, CRLF or CR. When it is CR, lines may also end with LF. Several carriage returns before a line feed are
	// one line end with it.
	LineEnd   string
	HasHeader bool
	// SkipLines is the number of physical lines before the first record: blank lines count, and so do lines in quotes.
	SkipLines int
	// HasBlanks means that blanks may stand before and after a quoted cell, and do not belong to it.
	HasBlanks bool
	// Warnings are what is a weak guess.
	Warnings []string
}

// Find finds the dialect of a file from its first bytes, which may end anywhere. 256 kB are plenty. Delimiters tried:
// comma, semicolon, tab, bar, blank, comma and blank; when none of them cuts the lines, ~, ^, ¦, \x01 and :; and several
// in a row, such as ||. Its errors are for the user: TD005 when the sample is empty or not text, TD007 for a bad part.
func Find(sample []byte, given Given) (Dialect, error) {
	s, err := newSearch(given)
	if err != nil {
		return Dialect{}, err
	}
	found := Dialect{Encoding: given.Encoding}
	if found.Encoding == "" {
		found.Encoding, found.Warnings = findEncoding(sample)
	}
	text, err := decodeSample(sample, found.Encoding)
	if err != nil {
		return Dialect{}, err
	}
	text, lineEnd, warning := s.readLineEnds(strings.TrimLeft(text, "\ufeff"))
	if found.LineEnd = lineEnd; warning != "" {
		found.Warnings = append(found.Warnings, warning)
	}

	// The line "sep=" is first and names the delimiter for Excel.
	named := regexp.MustCompile(`(?i)^\s*"?sep=([\t,;|:^~!#$%&*+/])"?[ \t]*(?:\n|$)`).FindStringSubmatch(text)
	// It may name a character that is given as the quote.
	if named != nil && s.delimiter == "" && !s.isMark(named[1][0]) {
		s.delimiter = named[1]
	}
	if given.SkipLines != nil {
		found.SkipLines = *given.SkipLines
	} else if named != nil {
		found.SkipLines = strings.Count(named[0], "\n")
	}
	if s.text, err = withoutLines(text, found.SkipLines, s.isSkipGiven); err != nil {
		return Dialect{}, err
	}
	s.head = headOf(s.text)

	best, hasHeader, warnings := s.find()
	found.Delimiter, found.HasBlanks, found.HasHeader = best.delimiter, best.hasBlanks, hasHeader
	if best.quote != 0 {
		found.Quote, found.Escape = string(best.quote), string(best.escape)
	}
	if !s.isSkipGiven {
		found.SkipLines += best.lines
	}
	found.Warnings = append(found.Warnings, warnings...)
	return found, nil
}

// newSearch returns a search with what is given.
func newSearch(given Given) (*search, error) {
	s := &search{
		cellReader:  newCellReader(),
		delimiter:   given.Delimiter,
		hasQuote:    given.Quote != "",
		hasHeader:   given.HasHeader,
		isSkipGiven: given.SkipLines != nil,
	}
	switch strings.ToLower(given.Delimiter) {
	case "tab", `\t`:
		s.delimiter = "\t"
	case "space":
		s.delimiter = " "
	case `\x01`:
		s.delimiter = "\x01"
	}
	if strings.EqualFold(given.Quote, "none") {
		given.Quote = ""
	}
	if err := check(given, s.delimiter); err != nil {
		return nil, err
	}
	if given.Quote != "" {
		s.quote = given.Quote[0]
	}
	if given.Escape != "" {
		s.escape = given.Escape[0]
	}
	return s, nil
}

// check refuses parts that cannot be.
func check(given Given, delimiter string) error {
	// One ASCII character, no blank and no line end.
	isMark := func(text string) bool {
		return text == "" || len(text) == 1 && text[0] < utf8.RuneSelf && text[0] > 0 && !strings.Contains("\t\n\r ", text)
	}
	quote, escape := given.Quote, given.Escape
	for _, problem := range []struct {
		applies       bool
		message, hint string
	}{
		{given.Encoding != "" && strings.TrimSpace(given.Encoding) == "",
			"the encoding has no name", "Name one, such as UTF8 or WIN1252, or leave it out."},
		{utf8.RuneCountInString(delimiter) > 10 || strings.ContainsAny(delimiter, "\n\r"),
			fmt.Sprintf("delimiter %q is not one to ten characters", given.Delimiter),
			"Give a character, such as ; or |, several, or one of the words tab and space."},
		{strings.ContainsAny(delimiter, `"'`), fmt.Sprintf("delimiter %q has a quote", given.Delimiter),
			"Give other characters, such as ; or |, or one of the words tab and space."},
		{!isMark(quote), fmt.Sprintf("quote %q is not one character", quote),
			`Give one ASCII character, mostly ", or the word none.`},
		{!isMark(escape), fmt.Sprintf("escape %q is not one character", escape),
			`Give one ASCII character: the quote when quotes are doubled, else mostly \.`},
		{delimiter != "" && delimiter == quote, fmt.Sprintf("delimiter and quote are both %q", quote),
			"Leave one of the two out, and it is found."},
		{delimiter != "" && delimiter == escape, fmt.Sprintf("delimiter and escape are both %q", escape),
			"Leave one of the two out, and it is found."},
	} {
		if problem.applies {
			return refuse("TD007", problem.message, problem.hint)
		}
	}
	return nil
}

func refuse(code, message, hint string) error {
	return &db.UserError{Status: http.StatusUnprocessableEntity, Code: code, Message: message, Hint: hint}
}

func findEncoding(sample []byte) (name string, warnings []string) {
	for _, mark := range []struct{ begins, name string }{
		{"\xef\xbb\xbf", "UTF8"}, {"\xff\xfe", "UTF16LE"}, {"\xfe\xff", "UTF16BE"},
	} {
		if bytes.HasPrefix(sample, []byte(mark.begins)) {
			return mark.name, nil
		}
	}
	name, warning := guessEncoding(sample)
	if warning != "" {
		warnings = append(warnings, warning)
	}
	return name, warnings
}

// readLineEnds is the text with line feeds, and the line end that it has outside of quotes: CR when that is the most
// frequent; else the first one decides.
func (s *search) readLineEnds(text string) (withFeeds, lineEnd, warning string) {
	bare := s.withoutQuotes(text[:min(len(text), searched)])
	returns, run := 0, 0
	for _, char := range []byte(bare) {
		switch char {
		case '\r':
			run++
		case '\n':
			run = 0
		default:
			returns, run = returns+run, 0
		}
	}
	if returns+run > strings.Count(bare, "\n") {
		if strings.Contains(strings.ReplaceAll(bare, "\r\n", ""), "\n") {
			warning = "some lines end in CR and some in LF"
		}
		return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "CR", warning
	}
	lineEnd = "LF"
	if at := strings.Index(bare, "\n"); at > 0 && bare[at-1] == '\r' {
		lineEnd = "CRLF"
	}
	return strings.ReplaceAll(regexp.MustCompile("\r+\n").ReplaceAllString(text, "\n"), "\r", " "), lineEnd, ""
}

// withoutQuotes is a text without what is in quotes after something that may be a delimiter.
func (s *search) withoutQuotes(text string) string {
	mark, escaped := byte('"'), s.escape
	if s.quote != 0 {
		mark = s.quote
	}
	if escaped == 0 {
		escaped = mark
	}
	before := " \t\n\r\v\f,;|~^:\u00a6\x01" + s.delimiter[max(0, len(s.delimiter)-1):]
	var bare strings.Builder
	kept := 0
	for i := 0; i < len(text); i++ {
		last, _ := utf8.DecodeLastRuneInString(text[:i])
		if text[i] != mark || i > 0 && !strings.ContainsRune(before, last) {
			continue
		}
		if end, _ := closing(text, i, mark, escaped); end >= 0 {
			bare.WriteString(text[kept:i])
			kept, i = end, end-1
		}
	}
	bare.WriteString(text[kept:])
	return bare.String()
}

// withoutLines is the text below a number of lines. It refuses a file without text.
func withoutLines(text string, skipped int, isGiven bool) (string, error) {
	for range skipped {
		_, text, _ = strings.Cut(text, "\n")
	}
	if strings.Trim(text, " \t\n\r") == "" {
		hint := "Choose a file with at least one line of text."
		if isGiven && skipped > 0 {
			hint = "There is only blank text after the lines to skip: skip fewer."
		}
		return "", refuse("TD005", "the file is empty", hint)
	}
	if strings.Contains(text, "\x00") {
		return "", refuse("TD005", "the file is not text: it has a byte of value 0",
			"Export it as CSV. If it is UTF-16 without a byte order mark, give the encoding: UTF16LE or UTF16BE.")
	}
	return text, nil
}

// headOf is the beginning of a text: a thousand lines are enough.
func headOf(text string) string {
	head := string(withoutCut([]byte(text[:min(len(text), searched)])))
	lines := slices.Collect(strings.SplitSeq(head, "\n"))
	return strings.Join(lines[:min(len(lines), searchedLines)], "\n")
}
