package binary

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
)

// A Codec writes the values of a column that are handed over as the file has them, not as texts.
type Codec interface {
	// Kind is that of the column.
	Kind() Kind
	// IsUsual reports whether AppendBinary can write a value.
	IsUsual(value []byte) bool
	// Form is the same, below 64, for usual values whose texts fit the same patterns.
	Form(value []byte) int
	AppendText(to, value []byte) []byte
	AppendBinary(to, value []byte) []byte
}

// AppendInteger, and the others, write a field of the kind.
func AppendInteger(to []byte, value int32) []byte {
	return binary.BigEndian.AppendUint32(append(to, 0, 0, 0, 4), uint32(value))
}

func AppendBigint(to []byte, value int64) []byte { return appendEight(to, value) }

func AppendDouble(to []byte, value float64) []byte {
	return appendEight(to, int64(math.Float64bits(value)))
}

func AppendReal(to []byte, value float32) []byte {
	return AppendInteger(to, int32(math.Float32bits(value)))
}

func AppendBoolean(to []byte, value bool) []byte {
	to = append(to, 0, 0, 0, 1, 0)
	if value {
		to[len(to)-1] = 1
	}
	return to
}

// AppendBytes writes a text, the bytes of a bytea or those of a UUID.
func AppendBytes(to, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(value))), value...)
}

// MaxScale is the most digits after the point that AppendDecimal writes.
const MaxScale = 18

// AppendDecimal writes a number times ten to the power of -scale.
func AppendDecimal(to []byte, unscaled int64, scale int) []byte {
	number, sign := uint64(unscaled), []byte{0, 0}
	if unscaled < 0 {
		number, sign = -number, []byte{0x40, 0}
	}
	power := powerOfTen(scale)
	whole, fraction := number/power, number%power
	var groups [10]uint16
	before := len(groups) / 2
	at := before
	for {
		at--
		groups[at] = uint16(whole % 10_000)
		if whole /= 10_000; whole == 0 {
			break
		}
	}
	end := before
	for left := scale; left > 0; left -= 4 {
		if left >= 4 {
			power = powerOfTen(left - 4)
			groups[end] = uint16(fraction / power)
			fraction %= power
		} else {
			groups[end] = uint16(fraction * powerOfTen(4-left))
		}
		end++
	}
	count := end - at
	to = binary.BigEndian.AppendUint32(to, uint32(8+2*count))
	to = binary.BigEndian.AppendUint16(to, uint16(count))
	to = binary.BigEndian.AppendUint16(to, uint16(before-at-1))
	to = append(to, sign...)
	to = binary.BigEndian.AppendUint16(to, uint16(scale))
	for _, group := range groups[at:end] {
		to = binary.BigEndian.AppendUint16(to, group)
	}
	return to
}

func powerOfTen(exponent int) uint64 {
	power := uint64(1)
	for range exponent {
		power *= 10
	}
	return power
}

// Days and microseconds of Unix are since 1970, those of Postgres since 2000.
const (
	UnixDays   = 10_957
	UnixMicros = UnixDays * day
)

// appendFloat writes what both round in the same way: digits, none of them too small or too great.
func appendFloat(to, text []byte, bits int) ([]byte, bool) {
	for _, b := range text {
		if (b < '0' || b > '9') && b != '.' && b != '-' && b != '+' && b != 'e' && b != 'E' {
			return to, false
		}
	}
	value, err := strconv.ParseFloat(string(text), bits)
	size := math.Abs(value)
	if err != nil || (size < 1e-300 || bits == 32 && size < 1e-37) && string(text) != "0" {
		return to, false
	}
	if bits == 32 {
		return AppendReal(to, float32(value)), true
	}
	return AppendDouble(to, value), true
}

func appendBytea(to, text []byte) ([]byte, bool) {
	if len(text) < 2 || string(text[:2]) != `\x` {
		return to, false
	}
	digits := text[2:]
	to = binary.BigEndian.AppendUint32(to, uint32(len(digits)/2))
	to, err := hex.AppendDecode(to, digits)
	return to, err == nil
}
