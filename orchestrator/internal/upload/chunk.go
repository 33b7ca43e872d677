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
	c.fits = c.fits[:0]
	for range c.width {
		c.fits = append(c.fits, ^patterns.Mask(0))
	}
	anyText := set.Any()
	start, column := 0, 0
	for _, end := range c.ends {
		if end != isNull {
			if fits := c.fits[column]; fits != anyText && c.seen[column] != anyText {
				c.fits[column] = fits & set.Match(c.texts[start:end])
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
			if c.rows, c.isWritten = to.kinds[column].Append(c.rows, c.texts[start:end]); !c.isWritten {
				return
			}
			start = end
		}
	}
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
			c.rows = appendEscaped(c.rows, c.texts[start:end])
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
