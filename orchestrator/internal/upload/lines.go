package upload

import (
	"bytes"
	"errors"
	"io"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// lines are the records of a file without those that are no data: comments, blank lines, and lines at the end.
type lines struct {
	reader  lineReader
	comment []byte
	// skipEnd is how many records at the end are not data.
	skipEnd int
	// isOneColumn means that a blank line is a NULL. At the end of a file that has no other blank line, it is none.
	isOneColumn bool

	ahead     []*records.Record // at most skipEnd
	blanks    int               // blank lines of a column, read and not returned yet
	held      *records.Record   // the record after them
	hasBlanks bool              // a record has followed blank lines
	isAtEnd   bool
}

// A lineReader reads the lines of a file, or the rows of a sheet.
type lineReader interface {
	Next() (*records.Record, error)
	SkipLines(count int) error
}

// next returns a record that is data. It returns io.EOF after the last one.
func (l *lines) next() (*records.Record, error) {
	for {
		if l.blanks > 0 && (l.held != nil || l.isAtEnd && l.hasBlanks) {
			l.blanks--
			return &records.Record{Fields: make([]records.Field, 1)}, nil
		}
		if held := l.held; held != nil {
			l.held = nil
			return held, nil
		}
		record, err := l.beforeEnd()
		switch {
		case l.hasBlanks && l.blanks > 0 && errors.Is(err, io.EOF):
			l.isAtEnd = true
		case err != nil:
			return nil, err
		case record.IsBlank() && l.isOneColumn:
			l.blanks++
		case l.blanks > 0:
			l.held, l.hasBlanks = record, true
		case !isEmpty(record):
			return record, nil
		case l.isOneColumn:
			return record, nil
		}
	}
}

// isEmpty reports whether a line has nothing but blanks.
func isEmpty(record *records.Record) bool {
	if len(record.Fields) != 1 || record.Fields[0].IsQuoted {
		return false
	}
	// Most lines begin with a character, which is quick to see.
	return len(record.Raw) == 0 || (record.Raw[0] <= ' ' || record.Raw[0] > '~') && len(bytes.TrimSpace(record.Raw)) == 0
}

// beforeEnd returns a record when at least skipEnd others follow.
func (l *lines) beforeEnd() (*records.Record, error) {
	for {
		record, err := l.uncommented()
		if err != nil || l.skipEnd == 0 {
			return record, err
		}
		if isEmpty(record) && !l.isOneColumn {
			continue
		}
		l.ahead = append(l.ahead, clone(record))
		if len(l.ahead) > l.skipEnd {
			first := l.ahead[0]
			l.ahead = l.ahead[1:]
			return first, nil
		}
	}
}

func (l *lines) uncommented() (*records.Record, error) {
	for {
		record, err := l.reader.Next()
		if err != nil || len(l.comment) == 0 || !bytes.HasPrefix(record.Raw, l.comment) {
			return record, err
		}
	}
}

// discard reads past lines, comments and blank lines among them.
func (l *lines) discard(count int) error {
	if err := l.reader.SkipLines(count); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// clone copies a record, because the reader reuses its memory.
func clone(record *records.Record) *records.Record {
	copied := *record
	copied.Raw = bytes.Clone(record.Raw)
	copied.Fields = make([]records.Field, len(record.Fields))
	for i, field := range record.Fields {
		copied.Fields[i] = records.Field{Text: bytes.Clone(field.Text), IsQuoted: field.IsQuoted}
	}
	return &copied
}
