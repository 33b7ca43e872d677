package parquet

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

// A node is a column, or a part of one: a field of a struct, the elements of a list.
type node struct {
	name   string
	leaves []*leaf
	kind   kind // of a leaf
	// codec is nil for a leaf whose values are handed over as texts. isHanded means that they come as the codec reads them.
	codec    *codec
	isHanded bool
	parts    []*node
	shape    shape
	// isRepeated, isOptional: there may be several, or none. From these levels on there is a value, or another one.
	isRepeated, isOptional bool
	definition, repetition int
}

// A shape is how a node with parts is written as JSON.
type shape int

const (
	isStruct shape = iota + 1
	isList
	isMap
	// isOnly is a group around one part: the elements of a list.
	isOnly
)

// maxDepth bounds the recursion.
const maxDepth = 50

// isFlat reports whether a column has one value in each row.
func (n *node) isFlat() bool { return n.shape == 0 && !n.isRepeated }

func (n *node) typeName() string {
	if n.isFlat() {
		return n.kind.typeName
	}
	return "jsonb"
}

// describe describes a column by the elements of the file's schema, and returns the elements after it.
func (r *Reader) describe(column *parquet.Column, elements []format.SchemaElement) (*node, []format.SchemaElement, error) {
	if len(elements) == 0 {
		return nil, nil, fmt.Errorf("%w: it is damaged: its schema is not complete", ErrFile)
	}
	element, elements := &elements[0], elements[1:]
	n := &node{
		name:       column.Name(),
		isRepeated: column.Repeated(),
		isOptional: column.Optional(),
		definition: column.MaxDefinitionLevel(),
		repetition: column.MaxRepetitionLevel(),
	}
	if column.Leaf() {
		l := &leaf{index: column.Index()}
		r.leaves = append(r.leaves, l)
		n.leaves, n.kind = []*leaf{l}, kindOf(element)
		if n.kind.typeName == "bytea" && column.Depth() == 1 && slices.Contains(r.texts, n.name) {
			n.kind = kind{typeName: "text", isText: true, append: appendText}
		}
		n.codec = codecOf(&n.kind, element)
		return n, elements, nil
	}
	if column.Depth() > maxDepth {
		return nil, nil, fmt.Errorf("%w: its columns are nested too deeply", ErrFile)
	}
	for _, part := range column.Columns() {
		var described *node
		var err error
		if described, elements, err = r.describe(part, elements); err != nil {
			return nil, nil, err
		}
		n.parts, n.leaves = append(n.parts, described), append(n.leaves, described.leaves...)
	}
	if len(n.leaves) == 0 {
		return nil, nil, fmt.Errorf("%w: its column %s has no values", ErrFile, n.name)
	}
	n.setShape(element)
	return n, elements, nil
}

// setShape finds lists and maps. Files have lists of two levels and of three.
func (n *node) setShape(element *format.SchemaElement) {
	n.shape = isStruct
	if len(n.parts) != 1 || !n.parts[0].isRepeated {
		return
	}
	inner := n.parts[0]
	converted := deprecated.ConvertedType(-1)
	if element.ConvertedType.Valid {
		converted = element.ConvertedType.V
	}
	switch element.LogicalType.Value.(type) {
	case *format.ListType:
		converted = deprecated.List
	case *format.MapType:
		converted = deprecated.Map
	}
	switch {
	case converted == deprecated.List:
		n.shape = isList
		if inner.shape == isStruct && len(inner.parts) == 1 && inner.name != "array" && inner.name != n.name+"_tuple" {
			inner.shape = isOnly
		}
	case (converted == deprecated.Map || converted == deprecated.MapKeyValue) && len(inner.parts) == 2 &&
		inner.parts[0].shape == 0 && !inner.parts[0].isRepeated:
		n.shape = isMap
	}
}

// isNull reports whether an optional node has no value in this place, and then goes on to the next.
func (n *node) isNull() (bool, error) {
	if !n.isOptional {
		return false, nil
	}
	return n.isLess(n.definition)
}

// isLess reports whether nothing is there at a level of definition, and then goes on to the next place.
func (n *node) isLess(definition int) (bool, error) {
	value, err := n.leaves[0].peek()
	if err != nil {
		return false, unexpectedEnd(err)
	}
	if value.DefinitionLevel() >= definition {
		return false, nil
	}
	for _, leaf := range n.leaves {
		if _, err := leaf.next(); err != nil {
			return false, err
		}
	}
	return true, nil
}

func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("there are fewer values than rows")
	}
	return err
}

// appendJSON writes what is in the next place of a node, which is not null, as JSON.
func (r *Reader) appendJSON(to []byte, n *node) ([]byte, error) {
	if n.isRepeated {
		return r.appendItems(to, n, '[', ']', r.appendValue)
	}
	return r.appendValue(to, n)
}

// appendItems writes the items of a repeated node.
func (r *Reader) appendItems(to []byte, n *node, begin, end byte, write func([]byte, *node) ([]byte, error)) ([]byte, error) {
	to = append(to, begin)
	if isEmpty, err := n.isLess(n.definition); isEmpty || err != nil {
		return append(to, end), err
	}
	for {
		var err error
		if to, err = write(to, n); err != nil {
			return to, err
		}
		if len(to) > records.MaxRecord {
			return to, records.ErrLong
		}
		next, err := n.leaves[0].peek()
		if err != nil && !errors.Is(err, io.EOF) {
			return to, err
		}
		if err != nil || next.RepetitionLevel() < n.repetition {
			return append(to, end), nil
		}
		to = append(to, ',')
	}
}

func (r *Reader) appendValue(to []byte, n *node) ([]byte, error) {
	switch n.shape {
	case 0:
		value, err := n.leaves[0].next()
		if err != nil {
			return to, err
		}
		if n.kind.isText {
			r.noteText(value.ByteArray())
		}
		return n.kind.appendJSON(to, value)
	case isList:
		return r.appendJSON(to, n.parts[0])
	case isOnly:
		return r.appendPart(to, n.parts[0])
	case isMap:
		return r.appendItems(to, n.parts[0], '{', '}', r.appendPair)
	}
	to = append(to, '{')
	for i, part := range n.parts {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(appendQuoted(to, []byte(part.name)), ':')
		var err error
		if to, err = r.appendPart(to, part); err != nil {
			return to, err
		}
	}
	return append(to, '}'), nil
}

// appendPair writes a key of a map, which JSON has as text, and its value.
func (r *Reader) appendPair(to []byte, n *node) ([]byte, error) {
	key, err := n.parts[0].leaves[0].next()
	if err != nil {
		return to, err
	}
	var text []byte
	if !key.IsNull() {
		if text, err = n.parts[0].kind.append(nil, key); err != nil {
			return to, err
		}
	}
	r.noteText(text)
	return r.appendPart(append(appendQuoted(to, text), ':'), n.parts[1])
}

// appendPart writes a part, which may be null.
func (r *Reader) appendPart(to []byte, n *node) ([]byte, error) {
	isNull, err := n.isNull()
	if isNull || err != nil {
		return append(to, "null"...), err
	}
	return r.appendJSON(to, n)
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes a text as JSON.
func appendQuoted(to, text []byte) []byte {
	to = append(to, '"')
	for _, b := range text {
		switch {
		case b == '"' || b == '\\':
			to = append(to, '\\', b)
		case b < ' ':
			to = append(to, `\u00`...)
			to = append(to, hexDigits[b>>4], hexDigits[b&15])
		default:
			to = append(to, b)
		}
	}
	return append(to, '"')
}
