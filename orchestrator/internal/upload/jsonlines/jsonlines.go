// Package jsonlines reads objects of JSON as the records of a table: JSON lines, lists of objects, and objects one
// after the other. The keys are the columns.
package jsonlines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// maxKept bounds the keys that are kept in memory. One key can be written in endlessly many ways.
const maxKept = 8 << 20

// maxDepth bounds nested values. PostgreSQL reads them with a stack.
const maxDepth = 500

// A WideError is the error for more keys than a table can have columns.
type WideError struct{ Line int64 }

func (e *WideError) Error() string {
	return fmt.Sprintf("line %d has a key beyond the %d different ones before it, the most that a table has columns", e.Line, records.MaxFields)
}

// Faults of a record: it is left out, or refuses the file.
var (
	errTwice = errors.New("a key is there twice")
	errZero  = errors.New(`a text has \u0000, which PostgreSQL cannot store`)
	errKeys  = fmt.Errorf("its keys, and those before it, have more than %d MB", maxKept>>20)
	errDepth = fmt.Errorf("a value is nested deeper than %d levels", maxDepth)
)

// Options say how to read a text, which is UTF-8.
type Options struct {
	// IsByLine means that each line is an object, so that a line that is none can be left out.
	IsByLine bool
	// IsJSON reports whether all values of a key are taken as JSON, texts in quotes; it may be nil.
	IsJSON func(key string) bool
	// IsDecoded means that the text was in another encoding, and that U+FFFD replaces what could not be decoded.
	IsDecoded bool
}

// A Reader reads records.
type Reader struct {
	options  Options
	splitter splitter
	decoder  *jsontext.Decoder
	text     bytes.Buffer

	columns []records.Column
	keys    []column
	byKey   map[string]int // by the key as it is written
	kept    int            // bytes of the keys in it
	record  records.Record
	// count tells records apart, and the attempts to read one.
	count int64
	// values are the texts of fields that differ from the bytes in the file.
	values []byte
}

// A column has what Reader knows of one beside its name.
type column struct {
	written []byte // the key, in the way in which it was written first
	seen    int64  // the count when a record had it last
	kind    kind   // of its value in that record
	isJSON  bool
}

// A kind says what a value is.
type kind int

const (
	isNull kind = iota
	isNested
	isOther
)

// NewReader returns a Reader of text.
func NewReader(text io.Reader, options Options) *Reader {
	return &Reader{
		options:  options,
		splitter: splitter{source: text, isByLine: options.IsByLine, line: 1},
		decoder:  jsontext.NewDecoder(bytes.NewReader(nil)),
		byKey:    make(map[string]int),
	}
}

// Columns are the keys so far, by first appearance.
func (r *Reader) Columns() []records.Column { return r.columns }

// Grows is true: an object may lack keys, and later ones bring others.
func (r *Reader) Grows() bool { return true }

// Close does nothing.
func (r *Reader) Close() error { return nil }

// Next reads a record. It returns io.EOF after the last one, a *SyntaxError or a *WideError when it cannot continue,
// or the error of the source.
func (r *Reader) Next() (*records.Record, error) {
	text, line, err := r.splitter.next()
	if err != nil {
		return nil, err
	}
	r.begin(text, line)
	if r.parseFlat(text) {
		r.noteKinds()
		r.record.IsBad = r.options.IsDecoded && bytes.ContainsRune(text, utf8.RuneError)
		return &r.record, nil
	}
	return r.readAny(text, line)
}

// readAny reads an object that parseFlat has not read.
func (r *Reader) readAny(text []byte, line int64) (*records.Record, error) {
	r.begin(text, line)
	var wide *WideError
	known := len(r.columns)
	if err := r.parse(text); errors.As(err, &wide) {
		return nil, err
	} else if err != nil {
		r.record.IsBad = !utf8.Valid(text)
		r.record.Fault = fault(err)
		r.forget(known)
	} else {
		r.noteKinds()
	}
	r.record.IsBad = r.record.IsBad || r.options.IsDecoded && bytes.ContainsRune(text, utf8.RuneError)
	return &r.record, nil
}

// begin begins a record whose fields are all NULL.
func (r *Reader) begin(text []byte, line int64) {
	r.count++
	r.values = r.values[:0]
	fields := slices.Grow(r.record.Fields[:0], len(r.columns))[:len(r.columns)]
	clear(fields)
	r.record = records.Record{Raw: text, Line: line, Fields: fields}
}

// forget removes what a record that cannot be read has brought.
func (r *Reader) forget(known int) {
	r.columns, r.keys = r.columns[:known], r.keys[:known]
	maps.DeleteFunc(r.byKey, func(_ string, at int) bool { return at >= known })
	r.record.Fields = r.record.Fields[:known]
	clear(r.record.Fields)
}

// noteKinds notes which columns have JSON, and which other values.
func (r *Reader) noteKinds() {
	for at := range r.keys {
		if key := &r.keys[at]; key.seen == r.count {
			r.columns[at].HasJSON = r.columns[at].HasJSON || key.kind == isNested
			r.columns[at].HasOther = r.columns[at].HasOther || key.kind == isOther
		}
	}
}

// fault says what is wrong with an object.
func fault(err error) string {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntax) && errors.Is(err, io.ErrUnexpectedEOF):
		return "not JSON: the line ends too early"
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON: %v at byte %d", syntax.Err, syntax.ByteOffset+1)
	}
	return err.Error()
}

// parse reads the fields of an object.
func (r *Reader) parse(text []byte) error {
	if text[0] != '{' {
		return errors.New("not an object of JSON")
	}
	r.text = *bytes.NewBuffer(text)
	r.decoder.Reset(&r.text, jsontext.AllowDuplicateNames(true))
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	for next := 0; r.decoder.PeekKind() != '}'; next++ {
		key, err := r.decoder.ReadValue()
		if err != nil {
			return err
		}
		if next, err = r.find(key, next); err != nil {
			return err
		}
		if r.keys[next].seen == r.count {
			return errTwice
		}
		r.keys[next].seen = r.count
		if err := r.readValue(next); err != nil {
			return err
		}
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	if _, err := r.decoder.ReadToken(); err == nil {
		return errors.New("not JSON: the line goes on after the object")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// find returns the column of a key, and adds it if it is new. Objects mostly have their keys in the same order, so
// likely is looked at first.
func (r *Reader) find(written []byte, likely int) (int, error) {
	if likely < len(r.keys) && bytes.Equal(r.keys[likely].written, written) {
		return likely, nil
	}
	if at, isThere := r.byKey[string(written)]; isThere {
		return at, nil
	}
	canKeep := r.kept+len(written) <= maxKept
	unquoted, err := jsontext.AppendUnquote(nil, written)
	if err != nil {
		return 0, err
	}
	if bytes.IndexByte(unquoted, 0) >= 0 {
		return 0, errZero
	}
	name := string(unquoted)
	for at, column := range r.columns {
		if column.Name == name {
			if canKeep {
				r.keep(written, at)
			}
			return at, nil
		}
	}
	if !canKeep {
		return 0, errKeys
	}
	if len(r.columns) == records.MaxFields {
		return 0, &WideError{r.record.Line}
	}
	at := len(r.columns)
	r.keep(written, at)
	r.columns = append(r.columns, records.Column{Name: name})
	r.keys = append(r.keys, column{written: bytes.Clone(written), isJSON: r.options.IsJSON != nil && r.options.IsJSON(name)})
	r.record.Fields = append(r.record.Fields, records.Field{})
	return at, nil
}

// keep keeps a way in which a key is written.
func (r *Reader) keep(written []byte, at int) {
	r.byKey[string(written)] = at
	r.kept += len(written)
}

// readValue reads the value of a column.
func (r *Reader) readValue(at int) error {
	value, err := r.decoder.ReadValue()
	if err != nil {
		return err
	}
	kind := value.Kind()
	field, key := &r.record.Fields[at], &r.keys[at]
	key.kind = isOther
	switch {
	case kind == 'n':
		key.kind = isNull
	case kind == '{' || kind == '[' || key.isJSON:
		key.kind = isNested
		*field = records.Field{Text: value, IsQuoted: true}
		return checkNested(value)
	case kind == '"':
		field.IsQuoted = true
		if field.Text, err = r.unquote(value); err == nil && bytes.IndexByte(field.Text, 0) >= 0 {
			err = errZero
		}
		return err
	case kind == '0':
		from := len(r.values)
		r.values = appendNumber(r.values, value)
		field.Text = r.values[from:]
	default:
		field.Text = value
	}
	return nil
}

func (r *Reader) unquote(value []byte) (text []byte, err error) {
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	from := len(r.values)
	r.values, err = jsontext.AppendUnquote(r.values, value)
	return r.values[from:], err
}

// checkNested refuses what jsonb cannot hold.
func checkNested(value []byte) error {
	depth, isText := 0, false
	for at := 0; at < len(value); at++ {
		switch b := value[at]; {
		case isText && b == '\\':
			at++
			if bytes.HasPrefix(value[at:], []byte("u0000")) {
				return errZero
			}
		case b == '"':
			isText = !isText
		case isText:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				return errDepth
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return nil
}
