package parquet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	// maxNesting is how deep a description is nested: a file's own takes about ten levels.
	maxNesting = 40
	// maxStructs bounds the structs in the lists of a description, of which each takes up to half a kilobyte.
	maxStructs = 500_000
	// maxLeaves is how many columns of values are read side by side, those of structs included.
	maxLeaves = 5000
)

var errLies = errors.New("it is damaged: its description is not what it says")

// A walker goes over a description in the compact protocol of Thrift, and keeps nothing of it. The library makes room for
// as many elements as a list says that it has, and follows each level by a call: no error could be caught then.
type walker struct {
	reader  *bufio.Reader
	left    int64 // bytes that may still come
	structs int
}

// checkThrift refuses a description that says more than it has, or that is nested too deeply.
func checkThrift(description io.Reader, size int64) error {
	w := &walker{reader: bufio.NewReaderSize(description, 4096), left: size}
	return w.walkStruct(0)
}

func (w *walker) byte() (byte, error) {
	if w.left--; w.left < 0 {
		return 0, errLies
	}
	b, err := w.reader.ReadByte()
	if errors.Is(err, io.EOF) {
		err = errLies
	}
	return b, err
}

// ReadByte is for binary.ReadUvarint.
func (w *walker) ReadByte() (byte, error) { return w.byte() }

func (w *walker) skip(count uint64) error {
	if count > uint64(max(w.left, 0)) {
		return errLies
	}
	w.left -= int64(count)
	_, err := w.reader.Discard(int(count))
	if errors.Is(err, io.EOF) {
		err = errLies
	}
	return err
}

func (w *walker) walkStruct(depth int) error {
	if depth > maxNesting {
		return errLies
	}
	for {
		field, err := w.byte()
		if err != nil || field == byte(thrift.STOP) {
			return err
		}
		// A number that does not follow the last one closely stands for itself.
		if field>>4 == 0 {
			if _, err := binary.ReadUvarint(w); err != nil {
				return err
			}
		}
		if kind := thrift.Type(field & 15); kind != thrift.TRUE && kind != thrift.FALSE {
			if err := w.walk(kind, depth); err != nil {
				return err
			}
		}
	}
}

// walk goes over a value that is no field of true or false, which has no bytes.
func (w *walker) walk(kind thrift.Type, depth int) error {
	switch kind {
	case thrift.TRUE, thrift.FALSE, thrift.I8:
		return w.skip(1)
	case thrift.I16, thrift.I32, thrift.I64:
		_, err := binary.ReadUvarint(w)
		return err
	case thrift.DOUBLE:
		return w.skip(8)
	case thrift.BINARY:
		length, err := binary.ReadUvarint(w)
		if err != nil {
			return err
		}
		return w.skip(length)
	case thrift.LIST, thrift.SET:
		return w.walkList(depth)
	case thrift.MAP:
		return w.walkMap(depth)
	case thrift.STRUCT:
		return w.walkStruct(depth + 1)
	}
	return errLies
}

func (w *walker) walkList(depth int) error {
	head, err := w.byte()
	if err != nil {
		return err
	}
	count := uint64(head >> 4)
	if count == 15 {
		if count, err = binary.ReadUvarint(w); err != nil {
			return err
		}
	}
	return w.walkItems(count, depth, thrift.Type(head&15))
}

func (w *walker) walkMap(depth int) error {
	count, err := binary.ReadUvarint(w)
	if err != nil || count == 0 {
		return err
	}
	kinds, err := w.byte()
	if err != nil {
		return err
	}
	return w.walkItems(count, depth, thrift.Type(kinds>>4), thrift.Type(kinds&15))
}

// walkItems goes over the items of a list, or the pairs of a map. Each has at least a byte.
func (w *walker) walkItems(count uint64, depth int, kinds ...thrift.Type) error {
	if depth > maxNesting || count > uint64(max(w.left, 0)) {
		return errLies
	}
	for range count {
		for _, kind := range kinds {
			if kind == thrift.STRUCT {
				w.structs++
			}
			if w.structs > maxStructs {
				return fmt.Errorf("it describes more than %d things", maxStructs)
			}
			if err := w.walk(kind, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDescription checks the description of a file, before the library believes it.
func checkDescription(file io.ReaderAt, size int64) error {
	var end [8]byte
	if _, err := file.ReadAt(end[:], size-int64(len(end))); err != nil {
		return err
	}
	length := int64(binary.LittleEndian.Uint32(end[:4]))
	footer := io.NewSectionReader(file, size-int64(len(end))-length, length)
	if err := checkThrift(footer, length); err != nil {
		return err
	}
	if _, err := footer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var described struct {
		Schema []format.SchemaElement `thrift:"2"`
		Groups []struct {
			Rows int64 `thrift:"3"`
		} `thrift:"4"`
	}
	var protocol thrift.CompactProtocol
	if err := thrift.NewDecoder(protocol.NewReader(bufio.NewReader(footer))).Decode(&described); err != nil {
		return fmt.Errorf("its description: %w", err)
	}
	leaves, err := countLeaves(described.Schema)
	if err == nil && leaves*len(described.Groups) > maxStructs {
		err = errLies
	}
	return err
}

// countLeaves counts the columns of values. The schema is a tree, of which each element says how many follow below it.
func countLeaves(schema []format.SchemaElement) (leaves int, err error) {
	open := []int32{1} // how many are still to come at each level
	for i := range schema {
		if len(open) == 0 {
			return 0, errLies
		}
		open[len(open)-1]--
		switch below := schema[i].NumChildren.V; {
		case schema[i].Type.Valid && below > 0, below < 0:
			return 0, errLies
		case below > 0:
			open = append(open, below)
		default:
			leaves++
		}
		if len(open) > maxDepth+2 {
			return 0, errors.New("its columns are nested too deeply")
		}
		for len(open) > 0 && open[len(open)-1] == 0 {
			open = open[:len(open)-1]
		}
	}
	switch {
	case len(open) > 0:
		return 0, errors.New("it is damaged: its schema is not complete")
	case leaves > maxLeaves:
		return 0, fmt.Errorf("it has more than %d columns of values", maxLeaves)
	}
	return leaves, nil
}
