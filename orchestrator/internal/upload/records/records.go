// Package records reads the records of a CSV file.
//
// It reads what RFC 4180 describes, and how files differ from that: other delimiters, quotes and line ends,
// quotes within a field, backslashes. A field is quoted only if it begins with the quote. The standard
// library's encoding/csv does none of this, nor does it return the position of a record in bytes.
package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	// MaxRecord is the maximum size of a record in bytes: a record must fit into memory.
	MaxRecord = 128 << 20
	// MaxFields is the maximum number of fields of a record: no table has more columns.
	MaxFields = 1600
	firstRead = 256 << 10
)

// A Dialect describes how a file is written.
type Dialect struct {
	// Delimiter separates fields: one byte or more.
	Delimiter string
	// Quote begins and ends a field that contains delimiters or line ends. Within such a field it is written
	// twice. It is 0 when no field is quoted.
	Quote byte
	// Escape within quotes makes the next quote or escape a part of the text. It is the same as Quote, or 0,
	// when quotes are only doubled.
	Escape byte
	// EndsInCR means that lines end in a carriage return, or in a line feed. Otherwise they end in a line feed,
	// and carriage returns before it belong to the line end.
	EndsInCR bool
	// HasBlanks means that blanks before and after a quoted field do not belong to it.
	HasBlanks bool
}

// A Record is a line of the file; several lines when there are line ends in quotes. It is valid until the next
// one is read.
type Record struct {
	// Line is the line on which it begins, from 1.
	Line int64
	// Raw is its text as it is in the file.
	Raw    []byte
	Fields []Field
	// AfterQuote means that a closing quote is followed by something else than a delimiter or a line end. That
	// text is kept as it is.
	AfterQuote bool
	// IsBad means that Raw has bytes that are not text.
	IsBad bool
	// Fault is what is wrong with a record of a format that can say so; empty when nothing is. If IsRepaired, the
	// fields are what the table gets in spite of it; otherwise there are none.
	Fault      string
	IsRepaired bool
}

// IsBlank reports whether the line is empty.
func (r *Record) IsBlank() bool { return len(r.Raw) == 0 }

// A Field is a value of a record. One without text that is not quoted is NULL.
type Field struct {
	Text     []byte
	IsQuoted bool
}

// A Column is one of a file whose format names its columns.
type Column struct {
	Name string
	// Type is the one that the file declares, in SQL; empty when the values decide.
	Type string
	// HasJSON means that some values were objects or lists, whose text is JSON; HasOther that some were not. NULL
	// counts as neither.
	HasJSON, HasOther bool
}

// An OpenQuoteError is the error for a quote that is not closed.
type OpenQuoteError struct {
	// Line is the line of the quote.
	Line int64
	// IsLong means that the file continues for more than MaxRecord bytes.
	IsLong bool
}

func (e *OpenQuoteError) Error() string {
	if e.IsLong {
		return fmt.Sprintf("the quote on line %d does not close within %d MB", e.Line, MaxRecord>>20)
	}
	return fmt.Sprintf("the quote on line %d does not close", e.Line)
}

// A WideError is the error for a record of more than MaxFields fields.
type WideError struct{ Line int64 }

func (e *WideError) Error() string {
	return fmt.Sprintf("line %d has more than %d fields, the most that a table has columns", e.Line, MaxFields)
}

// ErrLong is the error for a record longer than MaxRecord.
var ErrLong = fmt.Errorf("a line is longer than %d MB", MaxRecord>>20)

// errMore means that the buffer ends within a record.
var errMore = errors.New("more is needed")

// A Reader reads records.
type Reader struct {
	source  io.Reader
	dialect Dialect
	lineEnd byte
	// stops marks the bytes at which an unquoted field may end.
	stops [256]bool
	// badText is what a decoder writes for invalid bytes; empty for UTF-8 itself.
	badText []byte

	buffer []byte // what has been read and not yet parsed
	start  int    // where the next record begins in it
	atEnd  bool   // the source has no more
	line   int64  // of the next record

	record   Record
	unquoted []byte // texts of quoted fields that differ from the bytes in the file
}

// NewReader returns a Reader of UTF-8 text. isDecoded means that the text was in another encoding, and that
// U+FFFD replaces bytes that could not be decoded.
func NewReader(source io.Reader, dialect Dialect, isDecoded bool) *Reader {
	r := &Reader{source: source, dialect: dialect, lineEnd: '\n', line: 1}
	if dialect.EndsInCR {
		r.lineEnd = '\r'
	}
	if isDecoded {
		r.badText = []byte("\uFFFD")
	}
	r.stops['\n'] = true
	r.stops[r.lineEnd] = true
	r.stops[dialect.Delimiter[0]] = true
	return r
}

// SkipLines skips lines that are not records.
func (r *Reader) SkipLines(count int) error {
	for range count {
		for {
			at := bytes.IndexByte(r.buffer[r.start:], '\n')
			if r.dialect.EndsInCR {
				at = bytes.IndexAny(r.buffer[r.start:], "\r\n")
			}
			next := r.start + at + 1
			// In a CR file a CRLF is one line end too, so the byte after the CR must be known.
			if at >= 0 && (!r.dialect.EndsInCR || next < len(r.buffer) || r.atEnd) {
				if r.buffer[next-1] == '\r' && next < len(r.buffer) && r.buffer[next] == '\n' {
					next++
				}
				r.start = next
				r.line++
				break
			}
			if r.atEnd {
				return io.EOF
			}
			if err := r.fill(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Next reads a record. It returns io.EOF after the last one, an *OpenQuoteError, a *WideError or ErrLong when
// it cannot continue, or the error of the source.
func (r *Reader) Next() (*Record, error) {
	for {
		length, lines, err := r.parse(r.buffer[r.start:])
		if err == nil {
			r.check()
			r.start += length
			r.line += lines
			return &r.record, nil
		}
		var wide *WideError
		if r.atEnd || errors.As(err, &wide) {
			return nil, err
		}
		if len(r.buffer)-r.start > MaxRecord {
			var open *OpenQuoteError
			if errors.As(err, &open) {
				open.IsLong = true
				return nil, open
			}
			return nil, ErrLong
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// Unfinished returns the fields of the record at which Next stopped with an *OpenQuoteError or a *WideError; the last one
// is what follows the open quote.
func (r *Reader) Unfinished() []Field { return r.record.Fields }

func (r *Reader) check() {
	raw := r.record.Raw
	r.record.IsBad = bytes.IndexByte(raw, 0) >= 0 || !utf8.Valid(raw) ||
		r.badText != nil && bytes.Contains(raw, r.badText)
}

// fill reads until the buffer has twice as much to parse, so that a long record is parsed only a few times.
func (r *Reader) fill() error {
	rest := r.buffer[r.start:]
	wanted := max(2*len(rest), firstRead)
	if cap(r.buffer) < wanted {
		r.buffer = append(make([]byte, 0, wanted), rest...)
	} else {
		r.buffer = r.buffer[:copy(r.buffer[:cap(r.buffer)], rest)]
	}
	r.start = 0

	for empty := 0; len(r.buffer) == len(rest) || len(r.buffer) < 2*len(rest); {
		n, err := r.source.Read(r.buffer[len(r.buffer):cap(r.buffer)])
		r.buffer = r.buffer[:len(r.buffer)+n]
		if errors.Is(err, io.EOF) {
			r.atEnd = true
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return io.ErrNoProgress
		}
	}
	return nil
}

// parse reads the record at the beginning of data, and returns its length and number of lines.
func (r *Reader) parse(data []byte) (length int, lines int64, err error) {
	record := &r.record
	*record = Record{Line: r.line, Fields: record.Fields[:0]}
	r.unquoted = r.unquoted[:0]
	if len(data) == 0 {
		if r.atEnd {
			return 0, 0, io.EOF
		}
		return 0, 0, errMore
	}

	at := 0
	for {
		var field Field
		if r.dialect.HasBlanks {
			at = r.skipBlanks(data, at)
		}
		if at < len(data) && data[at] == r.dialect.Quote && r.dialect.Quote != 0 {
			begin := at
			if field.Text, at, err = r.quoted(data, at); err != nil {
				var open *OpenQuoteError
				if errors.As(err, &open) {
					open.Line = r.line + lines
					record.Fields = append(record.Fields, Field{Text: data[begin+1:], IsQuoted: true})
				}
				return 0, 0, err
			}
			field.IsQuoted = true
			lines += r.countLineEnds(data[begin:at])
		}

		end, next, isLast, err := r.fieldEnd(data, at)
		if err != nil {
			return 0, 0, err
		}
		switch {
		case !field.IsQuoted:
			field.Text = data[at:end]
		case r.dialect.HasBlanks && len(bytes.Trim(data[at:end], " ")) == 0:
		case end > at:
			record.AfterQuote = true
			field.Text = append(bytes.Clone(field.Text), data[at:end]...)
		}
		if len(record.Fields) == MaxFields {
			return 0, 0, &WideError{Line: r.line}
		}
		record.Fields = append(record.Fields, field)
		at = next
		if isLast {
			record.Raw = data[:end]
			return at, lines + 1, nil
		}
	}
}

// skipBlanks returns the position of the quote that follows blanks; where none does, at.
func (r *Reader) skipBlanks(data []byte, at int) int {
	for next := at; next < len(data); next++ {
		if data[next] == r.dialect.Quote && r.dialect.Quote != 0 {
			return next
		}
		if data[next] != ' ' {
			break
		}
	}
	return at
}

// quoted reads the quoted part of a field that begins at data[at]. It returns the text and the position after
// it.
func (r *Reader) quoted(data []byte, at int) (text []byte, end int, err error) {
	quote, escape := r.dialect.Quote, r.dialect.Escape
	if escape == 0 {
		escape = quote
	}
	first := len(r.unquoted)
	from := at + 1 // start of the part that is not yet copied to unquoted
	for at = from; ; {
		found := bytes.IndexByte(data[at:], quote)
		if escape != quote {
			found = bytes.IndexAny(data[at:], string([]byte{quote, escape}))
		}
		// The byte after a quote shows whether the quote closes the field.
		if found < 0 || at+found+1 == len(data) && (!r.atEnd || data[at+found] != quote) {
			return nil, 0, &OpenQuoteError{}
		}
		at += found
		switch {
		case data[at] != quote && data[at+1] != quote && data[at+1] != escape:
			at++
		case data[at] != quote:
			r.unquoted = append(r.unquoted, data[from:at]...)
			from = at + 1
			at += 2
		case at+1 < len(data) && data[at+1] == quote:
			r.unquoted = append(r.unquoted, data[from:at+1]...)
			at += 2
			from = at
		case len(r.unquoted) == first:
			return data[from:at], at + 1, nil
		default:
			r.unquoted = append(r.unquoted, data[from:at]...)
			return r.unquoted[first:], at + 1, nil
		}
	}
}

// fieldEnd finds where the field at data[at] ends, where the next one begins, and whether it is the last of its
// record.
func (r *Reader) fieldEnd(data []byte, at int) (end, next int, isLast bool, err error) {
	delimiter := r.dialect.Delimiter
	for end = at; end < len(data); end++ {
		if !r.stops[data[end]] {
			continue
		}
		if data[end] == '\n' || data[end] == r.lineEnd {
			return r.lineEndAt(data, at, end)
		}
		if len(delimiter) == 1 {
			return end, end + 1, false, nil
		}
		rest := data[end:]
		if len(rest) >= len(delimiter) && string(rest[:len(delimiter)]) == delimiter {
			return end, end + len(delimiter), false, nil
		}
		if len(rest) < len(delimiter) && !r.atEnd {
			return 0, 0, false, errMore
		}
	}
	if !r.atEnd {
		return 0, 0, false, errMore
	}
	return withoutReturns(data, at, end), end, true, nil
}

// withoutReturns is the end of data[at:end] without carriage returns at its end.
func withoutReturns(data []byte, at, end int) int {
	for end > at && data[end-1] == '\r' {
		end--
	}
	return end
}

// countLineEnds counts the lines that end within data.
func (r *Reader) countLineEnds(data []byte) int64 {
	count := bytes.Count(data, []byte{'\n'})
	if r.dialect.EndsInCR {
		count += bytes.Count(data, []byte{'\r'}) - bytes.Count(data, []byte("\r\n"))
	}
	return int64(count)
}

// lineEndAt includes the second half of a CRLF in the line end at data[end].
func (r *Reader) lineEndAt(data []byte, at, end int) (fieldEnd, next int, isLast bool, err error) {
	if data[end] == '\n' {
		return withoutReturns(data, at, end), end + 1, true, nil
	}
	if end+1 == len(data) && !r.atEnd {
		return 0, 0, false, errMore
	}
	if end+1 < len(data) && data[end+1] == '\n' {
		return end, end + 2, true, nil
	}
	return end, end + 1, true, nil
}
