package parquet

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// A moment as Postgres prints it: a day, a time of the day, a zone, an era.
var moment = regexp.MustCompile(
	`^(\d{4,7})-(\d\d)-(\d\d)(?: (\d\d:\d\d:\d\d(?:\.\d{1,6})?)([+-]\d\d(?::\d\d){0,2})?)?( BC)?$`)

// parseDay returns the days since 1970, and the parts of the text.
func parseDay(text string) (day int64, parts []string, err error) {
	// Infinity has no place.
	if parts = moment.FindStringSubmatch(text); parts == nil {
		return 0, nil, errNoPlace
	}
	year, month, monthDay := number(parts[1]), number(parts[2]), number(parts[3])
	if parts[6] != "" {
		year = 1 - year
	}
	seconds := time.Date(int(year), time.Month(month), int(monthDay), 0, 0, 0, 0, time.UTC).Unix()
	return seconds / 86400, parts, nil
}

func parseDate(text string) (parquet.Value, error) {
	day, _, err := parseDay(text)
	return parquet.Int32Value(int32(day)), err
}

func parseTimestamp(text string) (parquet.Value, error) {
	day, parts, err := parseDay(text)
	if err != nil {
		return parquet.Value{}, err
	}
	if parts[4] == "" || day > lastDay {
		return parquet.Value{}, errNoPlace
	}
	micros := day*86400e6 + microsOf(parts[4])
	if zone := parts[5]; zone != "" {
		offset := microsOf((zone[1:] + ":00:00")[:8])
		if zone[0] == '+' {
			offset = -offset
		}
		micros += offset
	}
	return parquet.Int64Value(micros), nil
}

// lastDay is the last whole day whose microseconds since 1970 fit 64 bits: in the year 294247, 29 years before the last of
// Postgres.
const lastDay = math.MaxInt64/86_400_000_000 - 1

// parseTime reads a time of the day. A day has no second after its last in Parquet.
func parseTime(text string) (parquet.Value, error) {
	if len(text) < 8 || text >= "24" {
		return parquet.Value{}, errNoPlace
	}
	return parquet.Int64Value(microsOf(text)), nil
}

// microsOf are the microseconds of a text like 10:30:00.5.
func microsOf(clock string) int64 {
	fraction := strings.TrimPrefix(clock[8:], ".")
	micros := number(fraction + "000000"[:6-len(fraction)])
	return ((number(clock[:2])*60+number(clock[3:5]))*60+number(clock[6:8]))*1e6 + micros
}

// number reads digits.
func number(digits string) int64 {
	value, _ := strconv.ParseInt(digits, 10, 64)
	return value
}

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
