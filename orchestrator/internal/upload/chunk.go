package upload

import (
	"bytes"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/binary"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/patterns"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// A format is how rows are written for a COPY.
type format struct {
	statement string
	// kinds are those of the columns in binary format; nil means text format.
	kinds []binary.Kind
}

// A chunk is some records of the file. It is cut by one goroutine, encoded by another, and sent by a third.
type chunk struct {
	// texts are those of all fields, ends where each ends; isNull for a field that is NULL.
	texts []byte
	ends  []int
	width int
	// codecs are those of the columns that have no texts, but values as the file has them; nil for the others.
	codecs []binary.Codec
	text   []byte // of such a value
	// forms are, for each column, those of the usual values that were matched.
	forms []uint64

	// seen are the patterns that accepted the values of the columns before.
	seen []patterns.Mask
	// fits are, for each column, the patterns that accept every value of the chunk.
	fits []patterns.Mask

	format *format
	rows   []byte // in that format
	// isWritten means that rows has all values.
	isWritten bool
	isReady   chan struct{}
}

const isNull = -1

func (c *chunk) clear() { c.texts, c.ends, c.width = c.texts[:0], c.ends[:0], 0 }

// add adds the fields of a record. Columns that it lacks are NULL.
func (c *chunk) add(record *records.Record, width int, nulls *nulls) {
	c.width = width
	for column := range width {
		if column >= len(record.Fields) {
			c.ends = append(c.ends, isNull)
			continue
		}
		field := &record.Fields[column]
		if nulls.isTrimmed && (!field.IsQuoted || nulls.takesQuoted) {
			field.Text = bytes.TrimSpace(field.Text)
		}
		if (len(field.Text) == 0 || nulls.texts != nil) && nulls.has(field) {
			c.ends = append(c.ends, isNull)
			continue
		}
		c.texts = append(c.texts, field.Text...)
		c.ends = append(c.ends, len(c.texts))
	}
}

// grow adds columns, which are NULL in the records so far.
func (c *chunk) grow(width int) {
	if c.width == 0 || c.width == width {
		return
	}
	ends := make([]int, 0, len(c.ends)/c.width*width)
	for at := 0; at < len(c.ends); at += c.width {
		ends = append(ends, c.ends[at:at+c.width]...)
		for range width - c.width {
			ends = append(ends, isNull)
		}
	}
	c.ends, c.width = ends, width
}

// size is about that of the records in the file.
func (c *chunk) size() int { return len(c.texts) + len(c.ends) }

// match finds the patterns that accept the values.
func (c *chunk) match(set *patterns.Set) {
	c.fits, c.forms = c.fits[:0], append(c.forms[:0], make([]uint64, c.width)...)
	for range c.width {
		c.fits = append(c.fits, ^patterns.Mask(0))
	}
	anyText := set.Any()
	start, column := 0, 0
	for _, end := range c.ends {
		if end != isNull {
			value := c.texts[start:end]
			codec := c.codecOf(column)
			if fits := c.fits[column]; fits != anyText && c.seen[column] != anyText {
				if codec == nil {
					c.fits[column] = fits & set.Match(value)
				} else if c.isNew(column, codec, value) {
					c.fits[column] = fits & set.Match(c.textOf(codec, value))
				}
			} else {
				c.fits[column] = anyText
			}
			start = end
		}
		if column++; column == c.width {
			column = 0
		}
	}
}

// write writes the rows.
func (c *chunk) write(to *format) {
	c.format, c.rows, c.isWritten = to, c.rows[:0], true
	if to.kinds == nil {
		c.writeText()
		return
	}
	start := 0
	for at := 0; at < len(c.ends); at += c.width {
		c.rows = binary.AppendRow(c.rows, c.width)
		for column, end := range c.ends[at : at+c.width] {
			if end == isNull {
				c.rows = append(c.rows, binary.Null...)
				continue
			}
			value, kind := c.texts[start:end], to.kinds[column]
			start = end
			codec := c.codecOf(column)
			switch {
			case codec == nil:
				c.rows, c.isWritten = kind.Append(c.rows, value)
			case codec.Kind() == kind && codec.IsUsual(value):
				c.rows = codec.AppendBinary(c.rows, value)
			default:
				c.rows, c.isWritten = kind.Append(c.rows, c.textOf(codec, value))
			}
			if !c.isWritten {
				return
			}
		}
	}
}

// codecOf is nil for a column of texts.
func (c *chunk) codecOf(column int) binary.Codec {
	if column < len(c.codecs) {
		return c.codecs[column]
	}
	return nil
}

// isNew reports whether no value of the form has been matched.
func (c *chunk) isNew(column int, codec binary.Codec, value []byte) bool {
	if !codec.IsUsual(value) {
		return true
	}
	form := uint64(1) << codec.Form(value)
	isNew := c.forms[column]&form == 0
	c.forms[column] |= form
	return isNew
}

// textOf is the text of a value that is handed over as the file has it. It is valid until the next call.
func (c *chunk) textOf(codec binary.Codec, value []byte) []byte {
	c.text = codec.AppendText(c.text[:0], value)
	return c.text
}

func (c *chunk) writeText() {
	start := 0
	for at := 0; at < len(c.ends); at += c.width {
		for column, end := range c.ends[at : at+c.width] {
			if column > 0 {
				c.rows = append(c.rows, '\t')
			}
			if end == isNull {
				c.rows = append(c.rows, `\N`...)
				continue
			}
			value := c.texts[start:end]
			if codec := c.codecOf(column); codec != nil {
				value = c.textOf(codec, value)
			}
			c.rows = appendEscaped(c.rows, value)
			start = end
		}
		c.rows = append(c.rows, '\n')
	}
}

// nulls say which values are NULL; the fields are those of the Request.
type nulls struct {
	texts                        []string
	isQuotedEmptyNull, isTrimmed bool
	// takesQuoted means that the file quotes all texts, so that a quote says nothing of its own.
	takesQuoted bool
}

func (n *nulls) has(field *records.Field) bool {
	switch {
	case len(field.Text) == 0:
		return !field.IsQuoted || n.isQuotedEmptyNull
	case field.IsQuoted && !n.takesQuoted:
		return false
	}
	for _, null := range n.texts {
		if string(field.Text) == null {
			return true
		}
	}
	return false
}

// appendEscaped writes a value in COPY's text format.
func appendEscaped(lines, text []byte) []byte {
	from := 0
	for at, b := range text {
		var escaped byte
		switch b {
		case '\\':
			escaped = '\\'
		case '\t':
			escaped = 't'
		case '\n':
			escaped = 'n'
		case '\r':
			escaped = 'r'
		default:
			continue
		}
		lines = append(lines, text[from:at]...)
		lines = append(lines, '\\', escaped)
		from = at + 1
	}
	return append(lines, text[from:]...)
}
