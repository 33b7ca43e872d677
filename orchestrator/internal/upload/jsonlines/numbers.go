package jsonlines

import (
	"bytes"
	"strconv"
)

// maxDigits bounds the digits that the exponent of a number is written out to.
const maxDigits = 1000

// appendNumber appends a JSON number in the way that the columns of a table know it: -0 as 0, and one with an exponent
// like 1.5e-07, or without an exponent where a double cannot hold it. The number stays the same, to its last digit.
func appendNumber(to, number []byte) []byte {
	exponentAt := -1
	for at, b := range number {
		if b|0x20 == 'e' {
			exponentAt = at
			break
		}
	}
	if exponentAt < 0 {
		if number[0] == '-' && len(bytes.Trim(number, "-0.")) == 0 {
			number = number[1:]
		}
		return append(to, number...)
	}
	exponent, err := strconv.Atoi(string(number[exponentAt+1:]))
	mantissa, isNegative := bytes.CutPrefix(number[:exponentAt], []byte{'-'})
	whole, fraction, _ := bytes.Cut(mantissa, []byte{'.'})
	digits := append(append(make([]byte, 0, len(mantissa)), whole...), fraction...)
	exponent -= len(fraction)
	significant := bytes.TrimLeft(digits, "0")
	switch {
	case len(significant) == 0:
		return append(to, '0')
	case err != nil || exponent > maxDigits || exponent < -maxDigits:
		return append(to, number...)
	}
	if isNegative {
		to = append(to, '-')
	}
	short := bytes.TrimRight(significant, "0")
	first := exponent + len(significant) - 1
	if len(short) > 17 || first > 299 || first < -299 {
		return appendPlain(to, significant, exponent)
	}
	to = append(to, short[0])
	if len(short) > 1 {
		to = append(append(to, '.'), short[1:]...)
	}
	sign := byte('+')
	if first < 0 {
		sign, first = '-', -first
	}
	to = append(to, 'e', sign)
	if first < 10 {
		to = append(to, '0')
	}
	return strconv.AppendInt(to, int64(first), 10)
}

// appendPlain appends digits times a power of ten.
func appendPlain(to, digits []byte, exponent int) []byte {
	switch point := len(digits) + exponent; {
	case exponent >= 0:
		return append(append(to, digits...), bytes.Repeat([]byte{'0'}, exponent)...)
	case point > 0:
		return append(append(append(to, digits[:point]...), '.'), digits[point:]...)
	default:
		return append(append(append(to, "0."...), bytes.Repeat([]byte{'0'}, -point)...), digits...)
	}
}
