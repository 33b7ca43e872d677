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
