package binary

const (
	second = 1_000_000 // in microseconds, the unit of the server
	day    = 86_400 * second
)

// two reads two digits; the result is over 99 when they are none.
func two(text []byte) int64 {
	high, low := text[0]-'0', text[1]-'0'
	if high > 9 || low > 9 {
		return 100
	}
	return int64(high)*10 + int64(low)
}

// parseDay reads YYYY-MM-DD, from the year 1000 on, as the number of days since 2000-01-01.
func parseDay(text []byte) (days int64, rest []byte, ok bool) {
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return 0, nil, false
	}
	century, year, month, date := two(text), two(text[2:]), two(text[5:]), two(text[8:])
	if century < 10 || century > 99 || year > 99 || month < 1 || month > 12 {
		return 0, nil, false
	}
	year += century * 100
	isLeap := year%4 == 0 && (year%100 != 0 || year%400 == 0)
	length := [...]int64{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
	if isLeap && month == 2 {
		length = 29
	}
	if date < 1 || date > length {
		return 0, nil, false
	}
	// Of the days before a month, a leap year has one more after February.
	before := [...]int64{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334}[month-1]
	if isLeap && month > 2 {
		before++
	}
	past := year - 1
	// There are 730119 days from year 1 to 2000.
	return past*365 + past/4 - past/100 + past/400 - 730_119 + before + date - 1, text[10:], true
}

// parseTime reads HH:MM:SS, with up to six digits of a fraction, as microseconds.
func parseTime(text []byte) (value int64, rest []byte, ok bool) {
	if len(text) < 8 || text[2] != ':' || text[5] != ':' {
		return 0, nil, false
	}
	hours, minutes, seconds := two(text), two(text[3:]), two(text[6:])
	if hours > 23 || minutes > 59 || seconds > 59 {
		return 0, nil, false
	}
	value = ((hours*60+minutes)*60 + seconds) * second
	if rest = text[8:]; len(rest) == 0 || rest[0] != '.' {
		return value, rest, true
	}
	rest = rest[1:]
	unit := int64(second)
	for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
		unit /= 10
		value += int64(rest[0]-'0') * unit
		rest = rest[1:]
	}
	// Beyond six digits the server rounds. It takes a point alone, which the ladder does not.
	return value, rest, unit > 0 && unit < second
}

// parseMoment reads a day and a time, as microseconds since 2000-01-01.
func parseMoment(text []byte) (value int64, rest []byte, ok bool) {
	days, rest, ok := parseDay(text)
	if !ok || len(rest) == 0 || rest[0] != ' ' && rest[0] != 'T' {
		return 0, nil, false
	}
	value, rest, ok = parseTime(rest[1:])
	return days*day + value, rest, ok
}

// parseZone reads the offset from UTC, as microseconds: Z, +05, +0530 or +05:30.
func parseZone(text []byte) (offset int64, ok bool) {
	if len(text) == 1 {
		return 0, text[0] == 'Z'
	}
	if len(text) < 3 || text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	hours, minutes := two(text[1:]), int64(0)
	switch {
	case len(text) == 5:
		minutes = two(text[3:])
	case len(text) == 6 && text[3] == ':':
		minutes = two(text[4:])
	case len(text) != 3:
		return 0, false
	}
	offset = (hours*60 + minutes) * 60 * second
	if text[0] == '-' {
		offset = -offset
	}
	return offset, hours <= 14 && minutes <= 59
}
