package upload_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// layouts are the forms of days, in Go's own words.
var layouts = map[string]string{
	"Y/M/D": "2006/1/2", "D/M/Y": "2/1/2006", "M/D/Y": "1/2/2006", "D.M.Y": "2.1.2006", "D/M/YY": "2/1/06", "M/D/YY": "1/2/06",
	"D.M.YY": "2.1.06", "YY/M/D": "06/1/2", "D Mon Y": "2 Jan 2006", "D Mon YY": "2 Jan 06", "Mon D Y": "Jan 2 2006",
	"YYYYMMDD": "20060102",
}

var (
	clockPart = regexp.MustCompile(`(?i)(?:T|,? )(\d{1,2}:[^ ]*?) ?([ap]m)? ?(z|utc|gmt|[+-]\d\d(?::?\d\d)?)?$`)
	wordPart  = regexp.MustCompile(`[A-Za-z]+`)
	dayParts  = regexp.MustCompile(`\d+|[A-Za-z]{3,}`)
)

// readForm is a parser of the forms that shares nothing with the expressions of csv_forms. It returns a value as
// Postgres prints it in time zone UTC.
func readForm(form, text string) (string, error) {
	kind, style, _ := strings.Cut(form, " ")
	switch kind {
	case "number", "percent", "currency":
		return readNumber(style, text), nil
	case "time":
		return readClock(text)
	case "date":
		day, err := readDay(style, text)
		return day.Format("2006-01-02"), err
	case "timestamp", "timestamptz":
		parts := clockPart.FindStringSubmatchIndex(text)
		if parts == nil {
			return "", fmt.Errorf("%q has no time", text)
		}
		part := func(i int) string {
			if parts[2*i] < 0 {
				return ""
			}
			return text[parts[2*i]:parts[2*i+1]]
		}
		day, err := readDay(style, text[:parts[0]])
		if err != nil {
			return "", err
		}
		clock, err := readClock(part(1) + part(2))
		if err != nil || kind == "timestamp" {
			return day.Format("2006-01-02 ") + clock, err
		}
		zone := strings.ReplaceAll(strings.ToUpper(part(3)), ":", "")
		if zone == "Z" || zone == "UTC" || zone == "GMT" {
			zone = "+0000"
		}
		if len(zone) == 3 {
			zone += "00"
		}
		moment, err := time.Parse("2006-01-02 15:04:05.999999-0700", day.Format("2006-01-02 ")+clock+zone)
		return moment.UTC().Format("2006-01-02 15:04:05.999999") + "+00", err
	}
	return "", fmt.Errorf("there is no form %s", form)
}

func readDay(style, text string) (time.Time, error) {
	layout := layouts[style]
	if strings.Contains(style, "Mon") {
		words := dayParts.FindAllString(text, 3)
		if len(words) < 3 { // 05JAN2024 has no blanks
			return time.Time{}, fmt.Errorf("%q is no day", text)
		}
		month := wordPart.FindString(text)
		var numbers []string
		for _, word := range words {
			if word[0] <= '9' {
				numbers = append(numbers, word)
			}
		}
		if len(numbers) != 2 || len(month) < 3 {
			return time.Time{}, fmt.Errorf("%q is no day", text)
		}
		text = numbers[0] + " " + month[:3] + " " + numbers[1]
		if style == "Mon D Y" {
			text = month[:3] + " " + numbers[0] + " " + numbers[1]
		}
	} else if !strings.Contains(style, ".") {
		text = strings.NewReplacer("-", "/", ".", "/").Replace(text)
	}
	day, err := time.Parse(layout, text)
	if day.Year() == 1969 && strings.HasSuffix(strings.ReplaceAll(layout, "2006", ""), "06") || day.Year() == 1969 && strings.HasPrefix(layout, "06") {
		day = day.AddDate(100, 0, 0) // Go and Postgres differ about one year
	}
	return day, err
}

func readClock(text string) (string, error) {
	text = strings.ToUpper(strings.ReplaceAll(text, " ", ""))
	for _, layout := range []string{"15:04", "15:04:05.999999", "3:04PM", "3:04:05PM"} {
		if clock, err := time.Parse(layout, text); err == nil {
			return clock.Format("15:04:05.999999"), nil
		}
	}
	return "", fmt.Errorf("%q is no time of day", text)
}

func readNumber(style, text string) string {
	point := style[len(style)-3]
	var b strings.Builder
	if strings.ContainsAny(text, "-−(") {
		b.WriteByte('-')
	}
	for _, r := range text {
		if r >= '0' && r <= '9' {
			b.WriteRune(r)
		}
		if r == rune(point) {
			b.WriteByte('.')
		}
	}
	if strings.Trim(b.String(), "-0.") == "" {
		return strings.TrimPrefix(b.String(), "-") // numeric has no minus zero
	}
	return b.String()
}

// FuzzForms compares what csv_forms reads with the parser above, for each form that accepts a text.
func FuzzForms(f *testing.F) {
	pool, _ := dbtest.Schema(f)
	pool.SetMaxOpenConns(1)
	dbtest.Exec(f, pool, `set timezone = 'UTC'`)
	dbtest.Exec(f, pool, `
		create function read_all(value text) returns table (name text, read text) language plpgsql as $$
		declare
		    form tinydevcrm.csv_forms;
		begin
		    for form in
		        select *
		          from tinydevcrm.csv_forms
		         where csv_forms.name !~ 'Excel|boolean'
		           and read_all.value ~ accepts
		    loop
		        name := form.name;
		        execute format('select (%s)::text', format(form.reads, quote_literal(read_all.value))) into read;
		        return next;
		    end loop;
		end $$`)
	examples, err := db.Collect(f.Context(), pool, "read the examples", func(text *string) []any { return []any{text} },
		"select example from tinydevcrm.csv_forms")
	if err != nil {
		f.Fatal(err)
	}
	for _, example := range append(examples, "29/02/2024", "5-Sept-69", "12:00 am", "-1.234,50", "(1,234)", "€ 1 234", "1/2/03 12:05:06 PM +01") {
		f.Add(example)
	}
	for _, text := range randomForms(rand.New(rand.NewPCG(1, 1)), 300) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) || strings.ToValidUTF8(text, "") != text || len(text) > 1000 {
			return
		}
		type reading struct{ form, read string }
		readings, err := db.Collect(t.Context(), pool, "read "+text, func(r *reading) []any { return []any{&r.form, &r.read} },
			"select name, read from read_all($1)", text)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range readings {
			if want, err := readForm(r.form, text); err != nil || want != r.read {
				t.Errorf("%s reads %q as %s, not as %s, %v", r.form, text, r.read, want, err)
			}
		}
	})
}

// formKinds generate values of a form each.
var formKinds = []func(*rand.Rand) string{
	func(r *rand.Rand) string { return moment(r).Format("02/01/2006") },
	func(r *rand.Rand) string { return moment(r).Format("1/2/2006") },
	func(r *rand.Rand) string { return moment(r).Format("2.1.2006") },
	func(r *rand.Rand) string { return moment(r).Format("02.01.06") },
	func(r *rand.Rand) string { return moment(r).Format("06/1/2") },
	func(r *rand.Rand) string { return moment(r).Format("2 January 2006") },
	func(r *rand.Rand) string { return moment(r).Format("Jan 2, 2006") },
	func(r *rand.Rand) string { return moment(r).Format("02-Jan-06") },
	func(r *rand.Rand) string { return moment(r).Format("02/01/2006 15:04") },
	func(r *rand.Rand) string { return moment(r).Format("01/02/2006 3:04 PM") },
	func(r *rand.Rand) string { return moment(r).Format("2006-01-02 15:04") },
	func(r *rand.Rand) string { return moment(r).Format("2006-01-02 15:04:05 -0700") },
	func(r *rand.Rand) string { return moment(r).Format("15:04") },
	func(r *rand.Rand) string { return grouped(r, ",", ".") },
	func(r *rand.Rand) string { return grouped(r, ".", ",") },
	func(r *rand.Rand) string { return grouped(r, "\u00a0", ",") },
	func(r *rand.Rand) string { return grouped(r, "'", ".") },
	func(r *rand.Rand) string { return "-" + grouped(r, ".", ",") + " €" },
	func(r *rand.Rand) string { return "$" + grouped(r, ",", ".") },
	func(r *rand.Rand) string { return grouped(r, ",", ".") + "%" },
	func(r *rand.Rand) string { return "(" + grouped(r, ",", ".") + ")" },
}

func grouped(r *rand.Rand, thousands, point string) string {
	text := fmt.Sprintf("%d", r.IntN(1000))
	if r.IntN(2) == 0 {
		text = fmt.Sprintf("%d%s%03d", 1+r.IntN(999), thousands, r.IntN(1000))
	}
	if r.IntN(2) == 0 {
		text += fmt.Sprintf("%s%0*d", point, 1+r.IntN(3), r.IntN(10))
	}
	return text
}

func randomForms(r *rand.Rand, count int) []string {
	var texts []string
	for range count {
		texts = append(texts, formKinds[r.IntN(len(formKinds))](r))
	}
	return texts
}
