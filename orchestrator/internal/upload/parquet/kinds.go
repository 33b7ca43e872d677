package parquet

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// A kind is how the values of a leaf are written.
type kind struct {
	typeName string
	// isText means that a value is its own text.
	isText bool
	// isBare means that JSON has such values without quotes.
	isBare, isJSON bool
	append         func(to []byte, value parquet.Value) ([]byte, error)
}

func (k *kind) appendJSON(to []byte, value parquet.Value) ([]byte, error) {
	switch {
	case value.IsNull():
		return append(to, "null"...), nil
	case k.isJSON && json.Valid(value.ByteArray()):
		return append(to, value.ByteArray()...), nil
	case k.isText:
		return appendQuoted(to, value.ByteArray()), nil
	}
	from := len(to)
	to, err := k.append(to, value)
	// JSON has no NaN and no Infinity.
	if err != nil || k.isBare && to[len(to)-1] < 'A' || k.typeName == "boolean" {
		return to, err
	}
	return appendQuoted(to[:from], append([]byte(nil), to[from:]...)), nil
}

// kindOf finds the kind of a leaf. Older files have a converted type only.
func kindOf(element *format.SchemaElement) kind {
	physical := parquet.Kind(-1)
	if element.Type.Valid {
		physical = parquet.Kind(element.Type.V)
	}
	isBytes := physical == parquet.ByteArray || physical == parquet.FixedLenByteArray
	switch logical := logicalOf(element).(type) {
	case *format.StringType, *format.EnumType:
		if isBytes {
			return kind{typeName: "text", isText: true, append: appendText}
		}
	case *format.JsonType:
		if isBytes {
			return kind{typeName: "jsonb", isText: true, isJSON: true, append: appendText}
		}
	case *format.UUIDType:
		if physical == parquet.FixedLenByteArray && element.TypeLength.V == 16 {
			return kind{typeName: "uuid", append: appendUUID}
		}
	case *format.DecimalType:
		if isBytes || physical == parquet.Int32 || physical == parquet.Int64 {
			return decimalKind(logical)
		}
	case *format.DateType:
		if physical == parquet.Int32 {
			return kind{typeName: "date", append: appendDate}
		}
	case *format.TimeType:
		if physical == parquet.Int32 || physical == parquet.Int64 {
			return timeKind(&logical.Unit)
		}
	case *format.TimestampType:
		if physical == parquet.Int64 {
			return timestampKind(&logical.Unit, logical.IsAdjustedToUTC)
		}
	case *format.IntType:
		if physical == parquet.Int32 || physical == parquet.Int64 {
			return integerKind(physical, logical.IsSigned)
		}
	case *format.Float16Type:
		if physical == parquet.FixedLenByteArray && element.TypeLength.V == 2 {
			return kind{typeName: "real", isBare: true, append: appendHalf}
		}
	}
	if element.ConvertedType.Valid && element.ConvertedType.V == deprecated.Interval && element.TypeLength.V == 12 {
		return kind{typeName: "interval", append: appendInterval}
	}
	return physicalKind(physical)
}

// logicalOf is the logical type, or what the converted type stands for.
func logicalOf(element *format.SchemaElement) format.LogicalTypeValue {
	if element.LogicalType.Value != nil || !element.ConvertedType.Valid {
		return element.LogicalType.Value
	}
	millis := format.TimeUnit{Value: new(format.MilliSeconds)}
	micros := format.TimeUnit{Value: new(format.MicroSeconds)}
	switch element.ConvertedType.V {
	case deprecated.UTF8:
		return new(format.StringType)
	case deprecated.Enum:
		return new(format.EnumType)
	case deprecated.Json:
		return new(format.JsonType)
	case deprecated.Decimal:
		return &format.DecimalType{Scale: element.Scale.V, Precision: element.Precision.V}
	case deprecated.Date:
		return new(format.DateType)
	case deprecated.TimeMillis:
		return &format.TimeType{Unit: millis}
	case deprecated.TimeMicros:
		return &format.TimeType{Unit: micros}
	case deprecated.TimestampMillis:
		return &format.TimestampType{IsAdjustedToUTC: true, Unit: millis}
	case deprecated.TimestampMicros:
		return &format.TimestampType{IsAdjustedToUTC: true, Unit: micros}
	case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32, deprecated.Uint64:
		return &format.IntType{}
	}
	return nil
}

func physicalKind(physical parquet.Kind) kind {
	switch physical {
	case parquet.Boolean:
		return kind{typeName: "boolean", isBare: true, append: func(to []byte, value parquet.Value) ([]byte, error) {
			return strconv.AppendBool(to, value.Boolean()), nil
		}}
	case parquet.Int32, parquet.Int64:
		return integerKind(physical, true)
	case parquet.Int96:
		return kind{append: appendInt96}
	case parquet.Float:
		return kind{typeName: "real", isBare: true, append: func(to []byte, value parquet.Value) ([]byte, error) {
			return appendFloat(to, float64(value.Float()), 32), nil
		}}
	case parquet.Double:
		return kind{typeName: "double precision", isBare: true, append: func(to []byte, value parquet.Value) ([]byte, error) {
			return appendFloat(to, value.Double(), 64), nil
		}}
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return kind{typeName: "bytea", append: func(to []byte, value parquet.Value) ([]byte, error) {
			return hex.AppendEncode(append(to, `\x`...), value.ByteArray()), nil
		}}
	}
	return kind{append: func(to []byte, _ parquet.Value) ([]byte, error) { return to, errors.New("its type is not known") }}
}

func integerKind(physical parquet.Kind, isSigned bool) kind {
	is32 := physical == parquet.Int32
	number := kind{typeName: "bigint", isBare: true}
	switch {
	case isSigned && is32:
		number.typeName = "integer"
		number.append = func(to []byte, value parquet.Value) ([]byte, error) {
			return strconv.AppendInt(to, int64(value.Int32()), 10), nil
		}
	case isSigned:
		number.append = func(to []byte, value parquet.Value) ([]byte, error) {
			return strconv.AppendInt(to, value.Int64(), 10), nil
		}
	case is32:
		number.append = func(to []byte, value parquet.Value) ([]byte, error) {
			return strconv.AppendUint(to, uint64(value.Uint32()), 10), nil
		}
	default:
		number.typeName = "numeric"
		number.append = func(to []byte, value parquet.Value) ([]byte, error) {
			return strconv.AppendUint(to, value.Uint64(), 10), nil
		}
	}
	return number
}

func appendText(to []byte, value parquet.Value) ([]byte, error) {
	return append(to, value.ByteArray()...), nil
}

func appendUUID(to []byte, value parquet.Value) ([]byte, error) {
	id := value.ByteArray()
	for i, end := range []int{4, 6, 8, 10, 16} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, id[:end][[]int{0, 4, 6, 8, 10}[i]:])
	}
	return to, nil
}

func appendFloat(to []byte, value float64, bits int) []byte {
	switch {
	case math.IsNaN(value):
		return append(to, "NaN"...)
	case math.IsInf(value, 0):
		return append(to, map[bool]string{true: "Infinity", false: "-Infinity"}[value > 0]...)
	}
	return strconv.AppendFloat(to, value, 'g', -1, bits)
}

// appendHalf writes a number of 16 bits: a sign, 5 bits of exponent, 10 bits of fraction.
func appendHalf(to []byte, value parquet.Value) ([]byte, error) {
	bits := binary.LittleEndian.Uint16(value.ByteArray())
	sign, exponent, fraction := 1.0, int(bits>>10&31), float64(bits&1023)
	if bits>>15 == 1 {
		sign = -1
	}
	number := sign * math.Ldexp(1024+fraction, exponent-25)
	switch {
	case exponent == 0:
		number = math.Copysign(math.Ldexp(fraction, -24), sign)
	case exponent == 31 && fraction == 0:
		number = math.Inf(int(sign))
	case exponent == 31:
		number = math.NaN()
	}
	return appendFloat(to, number, 32), nil
}

// maxPrecision is that of Postgres.
const maxPrecision = 1000

func decimalKind(decimal *format.DecimalType) kind {
	scale := int(decimal.Scale)
	number := kind{typeName: "numeric", isBare: true}
	if scale < 0 || scale > maxPrecision {
		number.append = func(to []byte, _ parquet.Value) ([]byte, error) {
			return to, fmt.Errorf("a decimal of scale %d", scale)
		}
		return number
	}
	if precision := int(decimal.Precision); precision > 0 && precision <= maxPrecision && scale <= precision {
		number.typeName = fmt.Sprintf("numeric(%d,%d)", precision, scale)
	}
	number.append = func(to []byte, value parquet.Value) ([]byte, error) {
		var digits [24]byte
		switch value.Kind() {
		case parquet.Int32:
			return appendPoint(to, strconv.AppendInt(digits[:0], int64(value.Int32()), 10), scale), nil
		case parquet.Int64:
			return appendPoint(to, strconv.AppendInt(digits[:0], value.Int64(), 10), scale), nil
		}
		unscaled, err := unscaledOf(value.ByteArray())
		if err != nil {
			return to, err
		}
		return appendPoint(to, unscaled.Append(digits[:0], 10), scale), nil
	}
	return number
}

// unscaledOf reads a two's complement number of any length.
func unscaledOf(data []byte) (*big.Int, error) {
	if len(data) > maxPrecision/2 {
		return nil, fmt.Errorf("a decimal of %d bytes", len(data))
	}
	number := new(big.Int).SetBytes(data)
	if len(data) > 0 && data[0] >= 128 {
		number.Sub(number, new(big.Int).Lsh(big.NewInt(1), uint(8*len(data))))
	}
	return number, nil
}

// appendPoint writes digits with a point before the last of them.
func appendPoint(to, digits []byte, scale int) []byte {
	if digits[0] == '-' {
		to, digits = append(to, '-'), digits[1:]
	}
	if scale == 0 {
		return append(to, digits...)
	}
	if len(digits) <= scale {
		to = append(to, '0', '.')
		for range scale - len(digits) {
			to = append(to, '0')
		}
		return append(to, digits...)
	}
	to = append(to, digits[:len(digits)-scale]...)
	to = append(to, '.')
	return append(to, digits[len(digits)-scale:]...)
}

// unitOf is how many of a unit a second has.
func unitOf(unit *format.TimeUnit) int64 {
	switch unit.Value.(type) {
	case *format.MilliSeconds:
		return 1e3
	case *format.NanoSeconds:
		return 1e9
	}
	return 1e6
}

func timeKind(unit *format.TimeUnit) kind {
	second := unitOf(unit)
	moment := kind{typeName: "time without time zone"}
	if second == 1e9 {
		moment.typeName = ""
	}
	moment.append = func(to []byte, value parquet.Value) ([]byte, error) {
		since := value.Int64()
		if value.Kind() == parquet.Int32 {
			since = int64(value.Int32())
		}
		if since < 0 || since > 86400*second {
			return to, fmt.Errorf("%d is no time of a day", since)
		}
		return appendClock(to, since/second, since%second*(1e9/second)), nil
	}
	return moment
}

func timestampKind(unit *format.TimeUnit, isUTC bool) kind {
	second := unitOf(unit)
	moment := kind{typeName: "timestamp without time zone"}
	if isUTC {
		moment.typeName = "timestamp with time zone"
	}
	if second == 1e9 {
		moment.typeName = ""
	}
	moment.append = func(to []byte, value parquet.Value) ([]byte, error) {
		seconds, rest := floor(value.Int64(), second)
		return appendMoment(to, seconds, rest*(1e9/second), isUTC), nil
	}
	return moment
}

// appendInt96 writes the nanosecond of a Julian day, which has no zone.
func appendInt96(to []byte, value parquet.Value) ([]byte, error) {
	moment := value.Int96()
	seconds, rest := floor(int64(uint64(moment[1])<<32|uint64(moment[0])), 1e9)
	const epoch = 2440588 // 1970-01-01
	return appendMoment(to, (int64(moment[2])-epoch)*86400+seconds, rest, false), nil
}

func appendInterval(to []byte, value parquet.Value) ([]byte, error) {
	parts := value.ByteArray()
	millis := binary.LittleEndian.Uint32(parts[8:])
	return fmt.Appendf(to, "%d mons %d days %d.%03d secs", binary.LittleEndian.Uint32(parts),
		binary.LittleEndian.Uint32(parts[4:]), millis/1000, millis%1000), nil
}
