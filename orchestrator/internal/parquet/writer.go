// Package parquet writes rows as a Parquet file.
package parquet

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
)

const (
	// groupBytes and groupRows end a row group, which is held in memory until then.
	groupBytes = 16 << 20
	groupRows  = 1 << 17
	// rowsAhead is how many rows are given to the library at a time.
	rowsAhead = 64
	// pageBytes is about the size of a page before it is packed.
	pageBytes = 128 << 10
)

// A Column has its name and its type, as format_type() prints it.
type Column struct{ Name, Type string }

// A Writer writes rows as a Parquet file. Its memory does not grow with the file, but for its description of each row
// group.
type Writer struct {
	to      *parquet.GenericWriter[any]
	names   []string
	parsers []parser
	rows    []parquet.Row
	written int64 // rows
	// inGroup and bytes are those of the row group that is written.
	inGroup, bytes int64
}

// A parser makes a value of a text.
type parser func(text string) (parquet.Value, error)

// NewWriter begins a file with these columns. Values of types without a place in Parquet are written as text: those of
// numeric without precision, of arrays, ranges and others.
func NewWriter(to io.Writer, columns []Column) *Writer {
	w := &Writer{rows: make([]parquet.Row, 0, rowsAhead)}
	schema := new(table)
	for _, column := range columns {
		node, parse := columnOf(column.Type)
		schema.fields = append(schema.fields, &field{parquet.Optional(node), column.Name})
		w.names, w.parsers = append(w.names, column.Name), append(w.parsers, parse)
	}
	w.to = parquet.NewGenericWriter[any](to, parquet.NewSchema("rows", schema), parquet.Compression(&parquet.Snappy),
		parquet.PageBufferSize(pageBytes), parquet.CreatedBy("TinyDevCRM", "", ""))
	return w
}

// Write writes a row of texts, as Postgres prints values in its ISO style.
func (w *Writer) Write(values []sql.NullString) error {
	w.written++
	row := w.nextRow(len(values))
	for i, value := range values {
		written := parquet.Value{}.Level(0, 0, i)
		if value.Valid {
			parsed, err := w.parsers[i](value.String)
			if err != nil {
				return fmt.Errorf("row %d, column %s: %q: %w", w.written, w.names[i], shortened(value.String), err)
			}
			written = parsed.Level(0, 1, i)
		}
		row = append(row, written)
		w.bytes += 16 + int64(len(value.String))
	}
	w.rows[len(w.rows)-1] = row
	if w.inGroup++; w.bytes >= groupBytes || w.inGroup == groupRows {
		return w.endGroup()
	}
	if len(w.rows) == rowsAhead {
		return w.pass()
	}
	return nil
}

// nextRow adds a row. It uses the memory of earlier ones again.
func (w *Writer) nextRow(width int) parquet.Row {
	w.rows = w.rows[:len(w.rows)+1]
	row := w.rows[len(w.rows)-1]
	if cap(row) < width {
		row = make(parquet.Row, 0, width)
	}
	return row[:0]
}

func (w *Writer) pass() error {
	_, err := w.to.WriteRows(w.rows)
	w.rows = w.rows[:0]
	if err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}

func (w *Writer) endGroup() error {
	w.inGroup, w.bytes = 0, 0
	if err := w.pass(); err != nil {
		return err
	}
	if err := w.to.Flush(); err != nil {
		return fmt.Errorf("write a row group: %w", err)
	}
	return nil
}

// Close completes the file. Without it, the file cannot be read.
func (w *Writer) Close() error {
	if err := w.pass(); err != nil {
		return err
	}
	if err := w.to.Close(); err != nil {
		return fmt.Errorf("write the description of the file: %w", err)
	}
	return nil
}

func shortened(text string) string {
	if len(text) > 60 {
		return strings.ToValidUTF8(text[:60], "") + "…"
	}
	return text
}

// A table is a schema with its columns in their own order; parquet.Group sorts them by name.
type table struct {
	parquet.Group
	fields []parquet.Field
}

func (t *table) Fields() []parquet.Field { return t.fields }

// A field is a column.
type field struct {
	parquet.Node
	name string
}

func (f *field) Name() string { return f.name }

// Value is for rows that are structs of Go; ours are not.
func (f *field) Value(base reflect.Value) reflect.Value { return base }

var typeName = regexp.MustCompile(`^([a-z ]+?)(?:\((\d+)(?:,(\d+))?\))?( with(?:out)? time zone)?$`)

// columnOf chooses how the values of a type of Postgres are written.
func columnOf(name string) (parquet.Node, parser) {
	parts := typeName.FindStringSubmatch(name)
	if parts == nil {
		return parquet.String(), parseText
	}
	switch parts[1] + parts[4] {
	case "boolean":
		return parquet.Leaf(parquet.BooleanType), parseBoolean
	case "smallint":
		return parquet.Int(16), parseInt32
	case "integer":
		return parquet.Int(32), parseInt32
	case "bigint":
		return parquet.Int(64), parseInt64
	case "real":
		return parquet.Leaf(parquet.FloatType), parseReal
	case "double precision":
		return parquet.Leaf(parquet.DoubleType), parseDouble
	case "numeric":
		precision, _ := strconv.Atoi(parts[2])
		scale, _ := strconv.Atoi(parts[3])
		if precision > 0 && precision <= widestDecimal && scale <= precision {
			return decimalColumn(precision, scale)
		}
	case "date":
		return parquet.Date(), parseDate
	case "time without time zone":
		return parquet.TimeAdjusted(parquet.Microsecond, false), parseTime
	case "timestamp without time zone":
		return parquet.TimestampAdjusted(parquet.Microsecond, false), parseTimestamp
	case "timestamp with time zone":
		return parquet.TimestampAdjusted(parquet.Microsecond, true), parseTimestamp
	case "uuid":
		return parquet.UUID(), parseUUID
	case "bytea":
		return parquet.Leaf(parquet.ByteArrayType), parseBytes
	case "json", "jsonb":
		return parquet.JSON(), parseText
	}
	return parquet.String(), parseText
}

// widestDecimal is the precision that other programs read.
const widestDecimal = 38

func decimalColumn(precision, scale int) (parquet.Node, parser) {
	switch {
	case precision <= 9:
		return parquet.Decimal(scale, precision, parquet.Int32Type), func(text string) (parquet.Value, error) {
			value, err := unscaledInt(text, scale)
			return parquet.Int32Value(int32(value)), err
		}
	case precision <= 18:
		return parquet.Decimal(scale, precision, parquet.Int64Type), func(text string) (parquet.Value, error) {
			value, err := unscaledInt(text, scale)
			return parquet.Int64Value(value), err
		}
	}
	const width = 16
	return parquet.Decimal(scale, precision, parquet.FixedLenByteArrayType(width)), func(text string) (parquet.Value, error) {
		number, err := unscaled(text, scale)
		if number.Sign() < 0 {
			number.Add(number, new(big.Int).Lsh(big.NewInt(1), 8*width))
		}
		return parquet.FixedLenByteArrayValue(number.FillBytes(make([]byte, width))), err
	}
}

var errNoPlace = errors.New("no value of this type in Parquet; write the column as text")

// unscaledDigits are those of a number without its point. It has as many after the point as its type says.
func unscaledDigits(text string, scale int) (string, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > scale {
		return "", errNoPlace
	}
	return whole + fraction + strings.Repeat("0", scale-len(fraction)), nil
}

func unscaledInt(text string, scale int) (int64, error) {
	digits, err := unscaledDigits(text, scale)
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, errNoPlace
	}
	return value, nil
}

func unscaled(text string, scale int) (*big.Int, error) {
	digits, err := unscaledDigits(text, scale)
	if err != nil {
		return new(big.Int), err
	}
	number, isNumber := new(big.Int).SetString(digits, 10)
	if !isNumber {
		return new(big.Int), errNoPlace
	}
	return number, nil
}

func parseText(text string) (parquet.Value, error) { return parquet.ByteArrayValue([]byte(text)), nil }

func parseBoolean(text string) (parquet.Value, error) {
	value, err := strconv.ParseBool(text)
	return parquet.BooleanValue(value), err
}

func parseInt32(text string) (parquet.Value, error) {
	value, err := strconv.ParseInt(text, 10, 32)
	return parquet.Int32Value(int32(value)), err
}

func parseInt64(text string) (parquet.Value, error) {
	value, err := strconv.ParseInt(text, 10, 64)
	return parquet.Int64Value(value), err
}

func parseReal(text string) (parquet.Value, error) {
	value, err := strconv.ParseFloat(text, 32)
	return parquet.FloatValue(float32(value)), err
}

func parseDouble(text string) (parquet.Value, error) {
	value, err := strconv.ParseFloat(text, 64)
	return parquet.DoubleValue(value), err
}

func parseUUID(text string) (parquet.Value, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err == nil && len(id) != 16 {
		err = errNoPlace
	}
	return parquet.FixedLenByteArrayValue(id), err
}

func parseBytes(text string) (parquet.Value, error) {
	digits, isHex := strings.CutPrefix(text, `\x`)
	if !isHex {
		return parquet.Value{}, errors.New(`bytes are read as hex only: set bytea_output = hex`)
	}
	value, err := hex.DecodeString(digits)
	return parquet.ByteArrayValue(value), err
}
