// Package parquet reads the rows of a Parquet file as records.
//
// Each column of the file becomes a column of a type of Postgres. Its values are written as Postgres itself writes
// them, whatever its settings. Lists, maps and structs become jsonb.
package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// ErrFile is the error for a file that cannot be read. Its text says why.
var ErrFile = errors.New("the Parquet file cannot be read")

// A Reader reads the rows of a file. It holds a page of each column in memory.
type Reader struct {
	file    *parquet.File
	columns []*node
	// described are the columns as others see them.
	described []records.Column
	leaves    []*leaf // those of all columns
	groups    []parquet.RowGroup
	left      int64 // rows of the row group that is read

	// texts are columns of bytes that are text.
	texts []string

	record  records.Record
	written []byte // the texts of the record
	isBad   bool
}

// Open reads the description of a file. Older programs do not say which bytes are text: texts are such columns.
func Open(file io.ReaderAt, size int64, texts []string) (r *Reader, err error) {
	defer recovered(&err)
	if err := checkFooter(file, size); err != nil {
		return nil, err
	}
	if err := checkDescription(file, size); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	opened, err := parquet.OpenFile(file, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true),
		parquet.ReadBufferSize(readBuffer))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	r = &Reader{file: opened, groups: opened.RowGroups(), texts: texts}
	elements := opened.Metadata().Schema[1:]
	for _, column := range opened.Root().Columns() {
		var found *node
		if found, elements, err = r.describe(column, elements); err != nil {
			return nil, err
		}
		r.columns = append(r.columns, found)
		r.described = append(r.described, records.Column{Name: found.name, Type: found.typeName()})
	}
	if len(r.columns) == 0 {
		return nil, fmt.Errorf("%w: it has no columns", ErrFile)
	}
	if len(r.columns) > records.MaxFields {
		return nil, fmt.Errorf("%w: it has more than %d columns, the most that a table has", ErrFile, records.MaxFields)
	}
	if err := checkPages(file, opened); err != nil {
		return nil, err
	}
	r.record.Fields = make([]records.Field, len(r.columns))
	return r, nil
}

// recovered turns a panic of the library, which trusts what a file says of itself, into an error.
func recovered(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("%w: it is damaged: %v", ErrFile, cause)
	}
}

// Columns are those of the file, each with a type that has all its values. Postgres has no nanoseconds: there the values
// must show the type.
func (r *Reader) Columns() []records.Column { return r.described }

// Grows is false: each row has all columns.
func (r *Reader) Grows() bool { return false }

// Rows is how many rows the file says that it has.
func (r *Reader) Rows() int64 { return r.file.NumRows() }

// Next reads a row; io.EOF comes after the last. Its line is its number, from 1. A field that is not quoted and empty
// is NULL, the empty text is quoted.
func (r *Reader) Next() (record *records.Record, err error) {
	defer recovered(&err)
	for r.left == 0 {
		if len(r.groups) == 0 {
			return nil, io.EOF
		}
		r.open(r.groups[0])
		r.groups = r.groups[1:]
	}
	r.left--
	r.record = records.Record{Line: r.record.Line + 1, Fields: r.record.Fields}
	r.written, r.isBad = r.written[:0], false
	for i, column := range r.columns {
		field := &r.record.Fields[i]
		field.IsQuoted = false
		if field.Text, err = r.read(column, field); err != nil {
			return nil, fmt.Errorf("%w: row %d, column %s: %w", ErrFile, r.record.Line, column.name, err)
		}
	}
	if r.isBad {
		r.record.IsBad = true
		r.record.Raw = r.rawOf(r.record.Fields)
	}
	return &r.record, nil
}

// Close releases what is held of the row group that is read. The file stays open.
func (r *Reader) Close() error {
	for _, leaf := range r.leaves {
		leaf.close()
	}
	return nil
}

func (r *Reader) open(group parquet.RowGroup) {
	r.left = group.NumRows()
	chunks := group.ColumnChunks()
	for _, leaf := range r.leaves {
		leaf.close()
		leaf.pages = chunks[leaf.index].Pages()
	}
}

// read reads the next value of a column into a field. It returns its text, and nil for NULL.
func (r *Reader) read(column *node, field *records.Field) (text []byte, err error) {
	from := len(r.written)
	if !column.isFlat() {
		isNull, err := column.isNull()
		if isNull || err != nil {
			return nil, err
		}
		r.written, err = r.appendJSON(r.written, column)
		return r.written[from:], err
	}
	l := column.leaves[0]
	if l.at == l.n {
		if err := l.fill(); err != nil {
			return nil, unexpectedEnd(err)
		}
	}
	value := &l.buffer[l.at]
	l.at++
	switch {
	case value.IsNull():
		return nil, nil
	case column.isHanded:
		r.written = column.codec.appendRaw(r.written, value)
		field.IsQuoted = len(r.written) == from
		return r.written[from:], nil
	case column.kind.isText:
		text := value.ByteArray()
		r.noteText(text)
		field.IsQuoted = len(text) == 0
		return text, nil
	}
	r.written, err = column.kind.append(r.written, *value)
	return r.written[from:], err
}

// noteText notes bytes that are no text.
func (r *Reader) noteText(text []byte) {
	r.isBad = r.isBad || !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0
}

// rawOf shows a record in one line.
func (r *Reader) rawOf(fields []records.Field) []byte {
	var raw []byte
	for i, field := range fields {
		if i > 0 {
			raw = append(raw, ',')
		}
		if column := r.columns[i]; column.isHanded && len(field.Text) > 0 {
			raw = column.codec.AppendText(raw, field.Text)
			continue
		}
		raw = append(raw, field.Text...)
	}
	return raw
}

// A leaf is a column of values, as the file has them. A list of structs has one for each field.
type leaf struct {
	index  int
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buffer [valuesAhead]parquet.Value
	at, n  int
}

// valuesAhead is how many values are taken from a page at a time.
const valuesAhead = 256

// next takes the next value; peek leaves it.
func (l *leaf) next() (parquet.Value, error) {
	if l.at == l.n {
		if err := l.fill(); err != nil {
			return parquet.Value{}, unexpectedEnd(err)
		}
	}
	l.at++
	return l.buffer[l.at-1], nil
}

// peek returns io.EOF after the last value.
func (l *leaf) peek() (parquet.Value, error) {
	if l.at == l.n {
		if err := l.fill(); err != nil {
			return parquet.Value{}, err
		}
	}
	return l.buffer[l.at], nil
}

func (l *leaf) fill() error {
	for {
		if l.values == nil {
			l.release()
			page, err := l.pages.ReadPage()
			if err != nil {
				return err
			}
			l.page, l.values = page, page.Values()
		}
		n, err := l.values.ReadValues(l.buffer[:])
		if err != nil {
			l.values = nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n > 0 {
			l.at, l.n = 0, n
			return nil
		}
	}
}

func (l *leaf) release() {
	if l.page != nil {
		parquet.Release(l.page)
		l.page = nil
	}
}

func (l *leaf) close() {
	l.release()
	if l.pages != nil {
		l.pages.Close()
	}
	l.pages, l.values, l.at, l.n = nil, nil, 0, 0
}
