// Package binary writes values in the binary format of COPY, from their texts, or as a file has them: see Codec.
//
// Of texts it reads what the ladder of types accepts (tinydevcrm.csv_types), and nothing that depends on a setting of the
// session. Each value is the one that the server's own input makes of the text.
package binary

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
)

// A Kind is a type whose values can be written. The zero Kind is none.
type Kind int

const (
	Text Kind = iota + 1
	Boolean
	Integer
	Bigint
	Numeric
	Date
	Timestamp
	Timestamptz
	Time
	UUID
	JSONB
	Double
	Real
	Bytea
)

const (
	// Header begins a COPY, and Trailer ends it.
	Header  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	Trailer = "\xff\xff"
	// Null is a field that is NULL.
	Null = "\xff\xff\xff\xff"
)

// KindOf returns the Kind of a type, as the ladder spells it; 0 when its values cannot be written. The server rounds to the
// digits of numeric(10,2).
func KindOf(name string) Kind {
	if strings.HasPrefix(name, "numeric(") {
		return Numeric
	}
	switch name {
	case "text":
		return Text
	case "boolean":
		return Boolean
	case "integer":
		return Integer
	case "bigint":
		return Bigint
	case "numeric":
		return Numeric
	case "date":
		return Date
	case "timestamp without time zone":
		return Timestamp
	case "timestamp with time zone":
		return Timestamptz
	case "time without time zone":
		return Time
	case "uuid":
		return UUID
	case "jsonb":
		return JSONB
	case "double precision":
		return Double
	case "real":
		return Real
	case "bytea":
		return Bytea
	}
	return 0
}

// AppendRow begins a row of so many fields.
func AppendRow(to []byte, width int) []byte { return binary.BigEndian.AppendUint16(to, uint16(width)) }

// Append writes a field. It returns false when it cannot be sure of the value; to is then of no use.
func (k Kind) Append(to, text []byte) ([]byte, bool) {
	switch k {
	case Text:
		to = binary.BigEndian.AppendUint32(to, uint32(len(text)))
		return append(to, text...), true
	case Boolean:
		return appendBoolean(to, text)
	case Integer:
		value, ok := parseInteger(text)
		to = append(to, 0, 0, 0, 4)
		return binary.BigEndian.AppendUint32(to, uint32(value)), ok && value == int64(int32(value))
	case Bigint:
		value, ok := parseInteger(text)
		return appendEight(to, value), ok
	case Numeric:
		return appendNumeric(to, text)
	case Date:
		day, rest, ok := parseDay(text)
		to = append(to, 0, 0, 0, 4)
		return binary.BigEndian.AppendUint32(to, uint32(day)), ok && len(rest) == 0
	case Timestamp, Timestamptz:
		moment, rest, ok := parseMoment(text)
		if ok && k == Timestamptz {
			var offset int64
			offset, ok = parseZone(rest)
			return appendEight(to, moment-offset), ok
		}
		return appendEight(to, moment), ok && len(rest) == 0
	case Time:
		value, rest, ok := parseTime(text)
		return appendEight(to, value), ok && len(rest) == 0
	case UUID:
		return appendUUID(to, text)
	case JSONB:
		// A byte says how the rest is written.
		to = binary.BigEndian.AppendUint32(to, uint32(len(text)+1))
		return append(append(to, 1), text...), true
	case Double:
		return appendFloat(to, text, 64)
	case Real:
		return appendFloat(to, text, 32)
	case Bytea:
		return appendBytea(to, text)
	}
	return to, false
}

func appendEight(to []byte, value int64) []byte {
	return binary.BigEndian.AppendUint64(append(to, 0, 0, 0, 8), uint64(value))
}

func appendBoolean(to, text []byte) ([]byte, bool) {
	var value byte
	if len(text) == 4 {
		value = 1
	}
	return append(to, 0, 0, 0, 1, value), bytes.EqualFold(text, []byte("true")) || bytes.EqualFold(text, []byte("false"))
}

func parseInteger(text []byte) (int64, bool) {
	digits := text
	isNegative := len(text) > 0 && text[0] == '-'
	if isNegative {
		digits = text[1:]
	}
	if len(digits) == 0 || len(digits) > 19 {
		return 0, false
	}
	// 19 digits fit into 64 bits without a sign.
	var value uint64
	for _, b := range digits {
		if b < '0' || b > '9' {
			return 0, false
		}
		value = value*10 + uint64(b-'0')
	}
	if isNegative {
		return -int64(value), value <= -math.MinInt64
	}
	return int64(value), value <= math.MaxInt64
}

// appendNumeric writes groups of four digits, to the left and to the right of the point. The server removes groups of
// zeros at both ends.
func appendNumeric(to, text []byte) ([]byte, bool) {
	sign := []byte{0, 0}
	if len(text) > 0 && text[0] == '-' {
		sign, text = []byte{0x40, 0}, text[1:]
	}
	whole, fraction, hasPoint := bytes.Cut(text, []byte{'.'})
	if len(whole) == 0 || len(text) > 1000 || hasPoint && len(fraction) == 0 {
		return to, false
	}
	before, after := (len(whole)+3)/4, (len(fraction)+3)/4
	to = binary.BigEndian.AppendUint32(to, uint32(8+2*(before+after)))
	to = binary.BigEndian.AppendUint16(to, uint16(before+after))
	to = binary.BigEndian.AppendUint16(to, uint16(before-1))
	to = append(to, sign...)
	to = binary.BigEndian.AppendUint16(to, uint16(len(fraction)))
	isDigits := true
	for end := len(whole) - 4*(before-1); end <= len(whole); end += 4 {
		to = appendGroup(to, whole[max(0, end-4):end], 1, &isDigits)
	}
	for start := 0; start < len(fraction); start += 4 {
		group := fraction[start:min(start+4, len(fraction))]
		to = appendGroup(to, group, [...]uint16{1, 1000, 100, 10, 1}[len(group)], &isDigits)
	}
	return to, isDigits
}

// appendGroup writes one to four digits, times a factor.
func appendGroup(to, digits []byte, factor uint16, isDigits *bool) []byte {
	var value uint16
	for _, b := range digits {
		*isDigits = *isDigits && b >= '0' && b <= '9'
		value = value*10 + uint16(b-'0')
	}
	return binary.BigEndian.AppendUint16(to, value*factor)
}

func appendUUID(to, text []byte) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return to, false
	}
	to = append(to, 0, 0, 0, 16)
	for at := 0; at < len(text); at += 2 {
		if text[at] == '-' {
			at++
		}
		high, isHex := hexDigit(text[at])
		low, isHexToo := hexDigit(text[at+1])
		if !isHex || !isHexToo {
			return to, false
		}
		to = append(to, high<<4|low)
	}
	return to, true
}

func hexDigit(b byte) (byte, bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10, true
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}
