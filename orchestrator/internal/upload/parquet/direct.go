package parquet

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	copied "github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/binary"
)

// A codec writes the values of a leaf that are handed over as they are in the file: numbers in their four or eight bytes.
type codec struct {
	to           copied.Kind
	physical     parquet.Kind
	text         func(to []byte, value parquet.Value) ([]byte, error) // without an error
	appendBinary func(to, value []byte) []byte
	// first and last are the usual numbers, of dates and timestamps.
	first, last int64
	second      int64 // of a timestamp
}

func (c *codec) Kind() copied.Kind { return c.to }

func (c *codec) AppendBinary(to, value []byte) []byte { return c.appendBinary(to, value) }

func (c *codec) AppendText(to, value []byte) []byte {
	to, _ = c.text(to, c.valueOf(value))
	return to
}

func (c *codec) IsUsual(value []byte) bool {
	if c.first == c.last {
		return true
	}
	number := numberOf(value)
	return number >= c.first && number <= c.last
}

// Form goes by the length of numbers and of the fractions of seconds, and by the letters in a UUID.
func (c *codec) Form(value []byte) int {
	switch c.to {
	case copied.Boolean:
		return int(value[0])
	case copied.Integer, copied.Bigint:
		number := numberOf(value)
		sign := 0
		if number < 0 {
			sign = 32
		}
		for ; number != 0; number /= 10 {
			sign++
		}
		return sign
	case copied.Timestamp, copied.Timestamptz:
		digits := 0
		for fraction, unit := numberOf(value)%c.second, c.second; fraction != 0; digits++ {
			unit /= 10
			fraction %= unit
		}
		return digits
	case copied.UUID:
		for _, b := range value {
			if b&15 > 9 || b>>4 > 9 {
				return 1
			}
		}
	}
	return 0
}

// appendRaw writes a value as the codec reads it.
func (c *codec) appendRaw(to []byte, value *parquet.Value) []byte {
	switch c.physical {
	case parquet.Boolean:
		if value.Boolean() {
			return append(to, 1)
		}
		return append(to, 0)
	case parquet.Int32:
		return binary.LittleEndian.AppendUint32(to, value.Uint32())
	case parquet.Int64:
		return binary.LittleEndian.AppendUint64(to, value.Uint64())
	case parquet.Float:
		return binary.LittleEndian.AppendUint32(to, math.Float32bits(value.Float()))
	case parquet.Double:
		return binary.LittleEndian.AppendUint64(to, math.Float64bits(value.Double()))
	}
	return append(to, value.ByteArray()...)
}

func (c *codec) valueOf(raw []byte) parquet.Value {
	switch c.physical {
	case parquet.Boolean:
		return parquet.BooleanValue(raw[0] == 1)
	case parquet.Int32:
		return parquet.Int32Value(int32(numberOf(raw)))
	case parquet.Int64:
		return parquet.Int64Value(numberOf(raw))
	case parquet.Float:
		return parquet.FloatValue(floatOf(raw))
	case parquet.Double:
		return parquet.DoubleValue(doubleOf(raw))
	case parquet.FixedLenByteArray:
		return parquet.FixedLenByteArrayValue(raw)
	}
	return parquet.ByteArrayValue(raw)
}

func numberOf(raw []byte) int64 {
	if len(raw) == 4 {
		return int64(int32(binary.LittleEndian.Uint32(raw)))
	}
	return int64(binary.LittleEndian.Uint64(raw))
}

func floatOf(raw []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(raw)) }

func doubleOf(raw []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(raw)) }

// The days of the years 1000 to 9999, which the ladder has.
const (
	firstDay = -354_285
	lastDay  = 2_932_896
	dayTicks = 86_400
)

// codecOf is the codec of a leaf; nil for a kind whose values are handed over as texts.
func codecOf(kind *kind, element *format.SchemaElement) *codec {
	if !element.Type.Valid || kind.isText {
		return nil
	}
	c := &codec{to: copied.KindOf(kind.typeName), physical: parquet.Kind(element.Type.V), text: kind.append}
	isNumber := c.physical == parquet.Int32 || c.physical == parquet.Int64
	logical := logicalOf(element)
	switch c.to {
	case copied.Boolean:
		c.appendBinary = func(to, raw []byte) []byte { return copied.AppendBoolean(to, raw[0] == 1) }
	case copied.Integer:
		c.appendBinary = func(to, raw []byte) []byte { return copied.AppendInteger(to, int32(numberOf(raw))) }
	case copied.Bigint:
		if whole, isWhole := logical.(*format.IntType); isWhole && !whole.IsSigned {
			return nil
		}
		c.appendBinary = func(to, raw []byte) []byte { return copied.AppendBigint(to, numberOf(raw)) }
	case copied.Numeric:
		decimal, isDecimal := logical.(*format.DecimalType)
		if !isDecimal || !isNumber || decimal.Scale > copied.MaxScale || kind.typeName == "numeric" {
			return nil
		}
		scale := int(decimal.Scale)
		c.appendBinary = func(to, raw []byte) []byte { return copied.AppendDecimal(to, numberOf(raw), scale) }
	case copied.Date:
		c.first, c.last = firstDay, lastDay
		c.appendBinary = func(to, raw []byte) []byte {
			return copied.AppendInteger(to, int32(numberOf(raw)-copied.UnixDays))
		}
	case copied.Timestamp, copied.Timestamptz:
		moment, isMoment := logical.(*format.TimestampType)
		if !isMoment {
			return nil
		}
		second := unitOf(&moment.Unit)
		c.second = second
		c.first, c.last = firstDay*dayTicks*second, (lastDay+1)*dayTicks*second-1
		micros := int64(1e6) / second
		c.appendBinary = func(to, raw []byte) []byte {
			return copied.AppendBigint(to, numberOf(raw)*micros-copied.UnixMicros)
		}
	case copied.UUID, copied.Bytea:
		c.appendBinary = copied.AppendBytes
	case copied.Double:
		c.appendBinary = func(to, raw []byte) []byte { return copied.AppendDouble(to, doubleOf(raw)) }
	case copied.Real:
		if c.physical != parquet.Float {
			return nil
		}
		c.appendBinary = func(to, raw []byte) []byte { return copied.AppendReal(to, floatOf(raw)) }
	default:
		return nil
	}
	return c
}

// Codecs are those of the columns whose values can be handed over as they are; nil for others.
func (r *Reader) Codecs() []copied.Codec {
	codecs := make([]copied.Codec, len(r.columns))
	for i, column := range r.columns {
		if column.codec != nil {
			codecs[i] = column.codec
		}
	}
	return codecs
}

// HandOver has the values of these columns come as the codecs read them, from the next record on.
func (r *Reader) HandOver(columns []bool) {
	for i, column := range r.columns {
		column.isHanded = i < len(columns) && columns[i] && column.codec != nil
	}
}
