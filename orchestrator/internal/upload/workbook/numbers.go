package workbook

import (
	"bytes"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/xuri/nfp"
)

// A look says what the number format of a cell makes of its number.
type look struct{ hasDay, hasTime bool }

// maxFormat is how long the number format of a cell may be in Excel. The parser's time grows with the square of the length.
const maxFormat = 255

// lookOf reads a number format.
func lookOf(code string) (found look) {
	if utf8.RuneCountInString(code) > maxFormat {
		return look{}
	}
	// The parser may fail on a format that no program writes.
	defer func() {
		if recover() != nil {
			found = look{}
		}
	}()
	parser := nfp.NumberFormatParser()
	sections := parser.Parse(code)
	if len(sections) == 0 {
		return look{}
	}
	hasMonth := false
	for _, part := range sections[0].Items {
		switch part.TType {
		case nfp.TokenTypeElapsedDateTimes:
			found.hasTime = true
		case nfp.TokenTypeDateTimes:
			switch letter := part.TValue[0] | 0x20; {
			case letter == 'h' || letter == 's' || letter == 'a':
				found.hasTime = true
			case letter == 'm' && len(part.TValue) < 3:
				hasMonth = true
			default:
				found.hasDay = true
			}
		}
	}
	// Between hours and seconds, m is for minutes.
	found.hasDay = found.hasDay || hasMonth && !found.hasTime
	return found
}

// builtInLook is that of a format which files do not spell out, because each program knows it.
func builtInLook(id int) look {
	switch {
	case id >= 14 && id <= 17, id >= 27 && id <= 31, id == 36, id >= 50 && id <= 58, id >= 71 && id <= 74:
		return look{hasDay: true}
	case id >= 18 && id <= 21, id >= 32 && id <= 35, id >= 45 && id <= 47, id >= 75 && id <= 76, id >= 78 && id <= 80:
		return look{hasTime: true}
	case id == 22, id == 77, id == 81:
		return look{hasDay: true, hasTime: true}
	}
	return look{}
}

const (
	dayMillis = 86_400_000
	// lastDay is 9999-12-31 in the system of 1900.
	lastDay = 2_958_465
	// days1904 is how many days later the system of 1904 begins.
	days1904 = 1462
)

// appendMoment writes a number of days as ISO 8601 does. It returns false for a number that is no date.
func appendMoment(to []byte, number float64, found look, is1904 bool) ([]byte, bool) {
	if number < 0 || number >= lastDay+1 || number != number {
		return to, false
	}
	// Programs count thousandths of a second.
	millis := int64(math.Round(number * dayMillis))
	day, inDay := millis/dayMillis, millis%dayMillis
	switch {
	case day == 0 && (!is1904 || !found.hasDay):
		return appendClock(to, inDay), true
	case is1904:
		day += days1904
	}
	if day > lastDay {
		return to, false
	}
	to = appendDay(to, day)
	if inDay != 0 || found.hasTime {
		to = appendClock(append(to, ' '), inDay)
	}
	return to, true
}

// appendDay writes a day since 1899-12-30. The first program of this kind had a day after 1900-02-28, which others keep.
func appendDay(to []byte, day int64) []byte {
	if day == 60 {
		return append(to, "1900-02-29"...)
	}
	if day < 60 {
		day++
	}
	year, month, monthDay := time.Unix((day-daysTo1970)*86400, 0).UTC().Date()
	to = append(to, byte('0'+year/1000), byte('0'+year/100%10))
	to = append(appendTwo(to, year%100), '-')
	return appendTwo(append(appendTwo(to, int(month)), '-'), monthDay)
}

// daysTo1970 are those since 1899-12-30.
const daysTo1970 = 25569

// appendClock writes a time of the day, without zeros at the end.
func appendClock(to []byte, millis int64) []byte {
	second := int(millis / 1000)
	to = append(appendTwo(to, second/3600), ':')
	to = append(appendTwo(to, second/60%60), ':')
	to = appendTwo(to, second%60)
	rest := int(millis % 1000)
	if rest == 0 {
		return to
	}
	to = append(appendTwo(append(to, '.'), rest/10), byte('0'+rest%10))
	return bytes.TrimRight(to, "0")
}

func appendTwo(to []byte, number int) []byte {
	return append(to, byte('0'+number/10), byte('0'+number%10))
}

// appendNumber writes a number as it is stored, and a long one with the fewest digits that mean the same: programs write
// 1.1 as 1.1000000000000001.
func appendNumber(to, text []byte) []byte {
	if isPlain(text) {
		return append(to, text...)
	}
	number, err := strconv.ParseFloat(string(text), 64)
	size := math.Abs(number)
	switch {
	case err != nil || math.IsInf(number, 0) || math.IsNaN(number):
		return append(to, text...)
	case number == 0:
		return append(to, '0')
	case size >= 1e-15 && size < 1e21:
		return strconv.AppendFloat(to, number, 'f', -1, 64)
	}
	return strconv.AppendFloat(to, number, 'e', -1, 64)
}

// isPlain reports whether a text has only digits, of which no double would lose one: up to 15, or those of an integer.
func isPlain(text []byte) bool {
	digits := bytes.TrimPrefix(text, []byte{'-'})
	whole, fraction, hasPoint := bytes.Cut(digits, []byte{'.'})
	if len(whole) == 0 || len(whole) > 1 && whole[0] == '0' || hasPoint && (len(fraction) == 0 || len(digits) > 16) {
		return false
	}
	isZero := true
	for _, part := range [][]byte{whole, fraction} {
		for _, b := range part {
			if b < '0' || b > '9' {
				return false
			}
			isZero = isZero && b == '0'
		}
	}
	return !isZero || len(text) == 1
}
