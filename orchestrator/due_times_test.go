package main

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// An expression is a random cron expression, with the values of its fields as the test has chosen them.
type expression struct {
	text                                   string
	minutes, hours, days, months, weekdays [64]bool
	lastDay, isFixed, isEither             bool
}

// field writes a random field, and marks its values.
func field(random *rand.Rand, values *[64]bool, low, high int, often float64) string {
	if random.Float64() < often {
		for value := low; value <= high; value++ {
			values[value] = true
		}
		return "*"
	}
	var items []string
	for range 1 + random.IntN(3) {
		first := low + random.IntN(high-low+1)
		last := first + random.IntN(high-first+1)
		step := 1 + random.IntN(12)
		switch random.IntN(4) {
		case 0:
			items = append(items, fmt.Sprintf("%d-%d", first, last))
			step = 1
		case 1:
			items = append(items, fmt.Sprintf("%d-%d/%d", first, last, step))
		case 2:
			first, last = low, high
			items = append(items, fmt.Sprintf("*/%d", step))
		default:
			last = first
			items = append(items, strconv.Itoa(first))
		}
		for value := first; value <= last; value += step {
			values[value] = true
		}
	}
	return strings.Join(items, ",")
}

func randomExpression(random *rand.Rand) *expression {
	var e expression
	hours := 23
	if random.IntN(2) == 0 {
		hours = 3 // when clocks are changed
	}
	fields := []string{
		field(random, &e.minutes, 0, 59, 0.1), field(random, &e.hours, 0, hours, 0.2),
		field(random, &e.days, 1, 31, 0.6), field(random, &e.months, 1, 12, 0.7), field(random, &e.weekdays, 0, 7, 0.6),
	}
	if random.IntN(8) == 0 {
		e.lastDay = true
		e.days = [64]bool{}
		fields[2] = "$"
	}
	if hours == 3 && strings.Contains(fields[1], "*") {
		e.hours = [64]bool{}
		e.hours[2] = true
		fields[1] = "2"
	}
	e.weekdays[0] = e.weekdays[0] || e.weekdays[7]
	e.isFixed = fields[0][0] != '*' && fields[1][0] != '*'
	e.isEither = fields[2][0] != '*' && fields[4][0] != '*'
	e.text = strings.Join(fields, " ")
	return &e
}

func (e *expression) matches(clock time.Time) bool {
	return e.minutes[clock.Minute()] && e.hours[clock.Hour()] && e.matchesDay(clock)
}

func (e *expression) matchesDay(clock time.Time) bool {
	inMonth := e.days[clock.Day()] || e.lastDay && clock.AddDate(0, 0, 1).Day() == 1
	inWeek := e.weekdays[clock.Weekday()]
	return e.months[clock.Month()] && (inMonth && inWeek || e.isEither && (inMonth || inWeek))
}

// years are all the minutes of some years in a time zone.
type years struct {
	ticks []tick
	days  []time.Time
}

// A tick is a minute: what the clocks show, which minutes they have skipped just before, and whether they have shown
// it before.
type tick struct {
	at           int64
	day          int
	hour, minute uint8
	isRepeat     bool
	skipped      []time.Time
}

func listTicks(zone *time.Location, from, to time.Time) *years {
	var all years
	var latest time.Time
	for at := from; at.Before(to); at = at.Add(time.Minute) {
		shown := at.In(zone)
		// The same digits in UTC, which has no changes.
		clock := time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), 0, 0, time.UTC)
		if len(all.days) == 0 || all.days[len(all.days)-1].YearDay() != clock.YearDay() {
			all.days = append(all.days, clock)
		}
		next := tick{
			at: at.Unix(), day: len(all.days) - 1, hour: uint8(clock.Hour()), minute: uint8(clock.Minute()),
			isRepeat: !clock.After(latest),
		}
		if !latest.IsZero() {
			for missing := latest.Add(time.Minute); missing.Before(clock); missing = missing.Add(time.Minute) {
				next.skipped = append(next.skipped, missing)
			}
		}
		if clock.After(latest) {
			latest = clock
		}
		all.ticks = append(all.ticks, next)
	}
	return &all
}

// dues are the seconds since the epoch at which an expression is due: the rules of Debian's cron, minute by minute.
func (e *expression) dues(all *years) []int64 {
	isDay := make([]bool, len(all.days))
	for i, day := range all.days {
		isDay[i] = e.matchesDay(day)
	}
	var dues []int64
	for i := range all.ticks {
		next := &all.ticks[i]
		due := isDay[next.day] && e.minutes[next.minute] && e.hours[next.hour] && !(e.isFixed && next.isRepeat)
		if e.isFixed && slices.ContainsFunc(next.skipped, e.matches) {
			due = true
		}
		if due {
			dues = append(dues, next.at)
		}
	}
	return dues
}

// moments are any of these years, and some around each change of the clocks.
func (all *years) moments(random *rand.Rand, count int) []int64 {
	var chosen []int64
	for range count {
		chosen = append(chosen, all.ticks[random.IntN(len(all.ticks))].at+int64(random.IntN(60)))
	}
	for i, next := range all.ticks {
		if len(next.skipped) > 0 || next.isRepeat && !all.ticks[i-1].isRepeat {
			for range count / 2 {
				chosen = append(chosen, next.at+int64(random.IntN(5*3600))-3*3600)
			}
		}
	}
	return chosen
}

const nextDues = `
	select array_agg(coalesce(extract(epoch from tinydevcrm._compute_next_due(null, expression, $2, to_timestamp(after))), -1)::bigint
	                 order by number, place)
	  from unnest($1::text[]) with ordinality as expressions (expression, number)
	 cross join unnest($3::bigint[]) with ordinality as moments (after, place)`

// What SQL says is due next is what a loop over all minutes of two years finds, with the time zones of Go.
func TestNextDue(t *testing.T) {
	t.Parallel()
	pool := openPool(t, dbtest.URL(t))
	const perZone = 10
	count := 1000
	if testing.Short() {
		count = 100
	}
	random := rand.New(rand.NewPCG(19, 8))
	expressions := make([]*expression, count)
	texts := make([]string, count)
	for i := range expressions {
		expressions[i] = randomExpression(random)
		texts[i] = expressions[i].text
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end := from.AddDate(2, 0, 0)

	compared, changed := 0, 0
	for _, name := range []string{
		"Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Chatham", "UTC",
	} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		all := listTicks(zone, from, end)
		after := all.moments(random, perZone)
		changed += len(after) - perZone
		var found []int64
		if err := pool.QueryRowContext(t.Context(), nextDues, pq.Array(texts), name, pq.Array(after)).Scan(pq.Array(&found)); err != nil {
			t.Fatal(err)
		}
		jobs := jobSchedules(t, pool, texts[:count/5], name)
		for i, e := range expressions {
			dues := e.dues(all)
			for j, moment := range after {
				got := found[i*len(after)+j]
				// What is due after the two years is not compared.
				at, _ := slices.BinarySearch(dues, moment+1)
				if at == len(dues) {
					if got >= 0 && got < end.Unix() {
						t.Errorf("%s in %s after %s: %s, want none in the two years", e.text, name, time.Unix(moment, 0).UTC(), time.Unix(got, 0).UTC())
					}
					continue
				}
				compared++
				if got != dues[at] {
					t.Errorf("%s in %s after %s: %s, want %s", e.text, name, time.Unix(moment, 0).UTC(), time.Unix(got, 0).UTC(), time.Unix(dues[at], 0).UTC())
				}
			}
			if i < len(jobs) {
				for _, job := range jobs[i] {
					job.calls(t, e, name, dues)
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if compared < count*perZone || changed < perZone {
		t.Errorf("only %d compared, %d moments of changes", compared, changed)
	}
	t.Logf("%d times of %d expressions are equal", compared, count)
}

// A job is what pg_cron gets for an expression when it has a time zone of its own.
type job struct {
	zone           *time.Location
	text           string
	minutes, hours [64]bool
}

// jobSchedules are the jobs of expressions in a time zone, for three time zones of pg_cron.
func jobSchedules(t *testing.T, pool *sql.DB, texts []string, name string) [][]job {
	t.Helper()
	jobs := make([][]job, len(texts))
	for _, cronZone := range []string{"GMT", "Europe/Berlin", "Asia/Kolkata"} {
		zone, err := time.LoadLocation(cronZone)
		if err != nil {
			t.Fatal(err)
		}
		made := dbtest.Value[pq.StringArray](t, pool, `
			select array_agg(tinydevcrm._make_job_schedule(null, expression, $2, $3) order by number)
			  from unnest($1::text[]) with ordinality as expressions (expression, number)`, pq.Array(texts), name, cronZone)
		for i, text := range made {
			made := job{zone: zone, text: text}
			fields := strings.Fields(text)
			for place, values := range []*[64]bool{&made.minutes, &made.hours} {
				for value := range 60 {
					values[value] = slices.Contains(strings.Split(fields[place], ","), strconv.Itoa(value)) || fields[place] == "*"
				}
			}
			jobs[i] = append(jobs[i], made)
		}
	}
	return jobs
}

// calls fails unless pg_cron calls the job at the times at which the expression is due: all, or some of very many.
func (j *job) calls(t *testing.T, e *expression, zone string, dues []int64) {
	t.Helper()
	isSame := j.text == strings.ReplaceAll(e.text, "$", "28-31")
	for i := 0; i < len(dues); i += 1 + len(dues)/2000 {
		due := dues[i]
		shown := time.Unix(due, 0).In(j.zone)
		called := j.minutes[shown.Minute()] && j.hours[shown.Hour()] && strings.HasSuffix(j.text, " * * *")
		if isSame {
			called = e.matches(time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), 0, 0, time.UTC))
		}
		if !called {
			t.Errorf("%s in %s is due at %s, when pg_cron in %s does not run %s", e.text, zone, time.Unix(due, 0).UTC(), j.zone, j.text)
			return
		}
	}
}
