package parquet

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// A moment is a text of Postgres in its parts. Clock and zone are empty in a date.
type moment struct {
	day         int64 // since 1970
	clock, zone string
}

// parseMoment reads a day, a time of the day and a zone. Infinity has no place.
func parseMoment(text string) (moment, error) {
	text, isBC := strings.CutSuffix(text, " BC")
	date, rest, _ := strings.Cut(text, " ")
	n := len(date)
	if n < len("2000-01-01") || date[n-6] != '-' || date[n-3] != '-' {
		return moment{}, errNoPlace
	}
	year, err := strconv.Atoi(date[:n-6])
	if err != nil {
		return moment{}, errNoPlace
	}
	if isBC {
		year = 1 - year
	}
	seconds := time.Date(year, time.Month(number(date[n-5:n-3])), int(number(date[n-2:])), 0, 0, 0, 0, time.UTC).Unix()
	found := moment{day: seconds / 86400, clock: rest}
	if at := strings.IndexAny(rest, "+-"); at >= 0 {
		found.clock, found.zone = rest[:at], rest[at:]
	}
	return found, nil
}

func parseDate(text string) (parquet.Value, error) {
	found, err := parseMoment(text)
	return parquet.Int32Value(int32(found.day)), err
}

func parseTimestamp(text string) (parquet.Value, error) {
	found, err := parseMoment(text)
	if err != nil {
		return parquet.Value{}, err
	}
	if len(found.clock) < len("10:00:00") || found.day > lastDay {
		return parquet.Value{}, errNoPlace
	}
	micros := found.day*86400e6 + microsOf(found.clock)
	if zone := found.zone; zone != "" {
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
