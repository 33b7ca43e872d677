package parquet

import (
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
)

// floor divides, and rounds down.
func floor(number, by int64) (quotient, rest int64) {
	quotient, rest = number/by, number%by
	if rest < 0 {
		quotient, rest = quotient-1, rest+by
	}
	return quotient, rest
}

func appendDate(to []byte, value parquet.Value) ([]byte, error) {
	to, isBC := appendDay(to, int64(value.Int32()))
	return appendEra(to, isBC), nil
}

// appendDay writes a day since 1970. The era, if it is BC, comes at the end of the whole value.
func appendDay(to []byte, day int64) (written []byte, isBC bool) {
	year, month, monthDay := time.Unix(day*86400, 0).UTC().Date()
	if year <= 0 {
		year, isBC = 1-year, true
	}
	for _, power := range []int{1000, 100, 10} {
		if year < power {
			to = append(to, '0')
		}
	}
	to = append(strconv.AppendInt(to, int64(year), 10), '-')
	to = append(appendTwo(to, int64(month)), '-')
	return appendTwo(to, int64(monthDay)), isBC
}

func appendEra(to []byte, isBC bool) []byte {
	if isBC {
		return append(to, " BC"...)
	}
	return to
}

func appendTwo(to []byte, number int64) []byte {
	return append(to, byte('0'+number/10), byte('0'+number%10))
}

func appendMoment(to []byte, seconds, nanos int64, isUTC bool) []byte {
	day, second := floor(seconds, 86400)
	to, isBC := appendDay(to, day)
	to = appendClock(append(to, ' '), second, nanos)
	if isUTC {
		to = append(to, "+00"...)
	}
	return appendEra(to, isBC)
}

// appendClock writes a time of the day, without zeros at the end.
func appendClock(to []byte, second, nanos int64) []byte {
	to = append(appendTwo(to, second/3600), ':')
	to = append(appendTwo(to, second/60%60), ':')
	to = appendTwo(to, second%60)
	if nanos == 0 {
		return to
	}
	to = append(to, '.')
	for unit := int64(1e8); nanos > 0; unit /= 10 {
		to = append(to, byte('0'+nanos/unit))
		nanos %= unit
	}
	return to
}
