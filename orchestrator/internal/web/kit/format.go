package kit

import (
	"database/sql"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

// MaxCell is how many characters of a value are shown.
const MaxCell = 200

// functions are those of all templates.
func (s *Site) functions() template.FuncMap {
	return template.FuncMap{
		"static":       s.Static,
		"literal":      Literal,
		"identifier":   pq.QuoteIdentifier,
		"quoteQuery":   quoteQuery,
		"ago":          ago,
		"due":          due,
		"unnotified":   unnotified,
		"number":       number,
		"count":        count,
		"milliseconds": words.Milliseconds,
		"bytes":        words.Bytes,
		"path":         Path,
		"hidden":       func(name, value string) url.Values { return url.Values{name: {value}} },
	}
}

// Literal quotes a text for the SQL that a page shows.
func Literal(text string) string { return strings.TrimSpace(pq.QuoteLiteral(text)) }

// quoteQuery quotes a query inside SQL so that it stays readable, if possible.
func quoteQuery(query string) string {
	if strings.Contains(query, "$query$") {
		return Literal(query)
	}
	return "$query$\n" + query + "\n$query$"
}

// ago is how long ago a time was, or how far ahead it is, with the time itself on hover. Nothing for no time.
func ago(value any) (template.HTML, error) {
	var at time.Time
	switch value := value.(type) {
	case time.Time:
		at = value
	case *time.Time:
		if value == nil {
			return "", nil
		}
		at = *value
	case sql.NullTime:
		if !value.Valid {
			return "", nil
		}
		at = value.Time
	default:
		return "", fmt.Errorf("%T is not a time", value)
	}
	at = at.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`,
		at.Format(time.RFC3339Nano), at.Format("2006-01-02 15:04:05 UTC"), words.Ago(time.Since(at), at))), nil
}

// due is when something is done next, as ago says it; now, when that is overdue.
func due(value any) (template.HTML, error) {
	said, err := ago(value)
	overdue, isTime := value.(sql.NullTime)
	if err != nil || !isTime || !overdue.Valid {
		return said, err
	}
	shown := string(said)
	if overdue.Time.Before(time.Now()) {
		shown = shown[:strings.Index(shown, ">")+1] + "now</time>"
	}
	return template.HTML(strings.Replace(shown, "<time ", "<time data-due ", 1)), nil
}

// unnotified is why a refresh did not notify: a value of tinydevcrm.matview_refresh_events.suppressed_by.
func unnotified(by string) string {
	switch by {
	case "rule":
		return "its rule does not hold"
	case "interval":
		return "its last notification is too recent"
	case "mute":
		return "it was muted"
	case "repeat":
		return "an earlier failure of this series has notified"
	case "streak":
		return "it has not lasted for enough refreshes"
	}
	return by
}

// number is a number with its digits in groups; nothing for none.
func number(value any) (string, error) {
	switch value := value.(type) {
	case int:
		return words.Group(int64(value)), nil
	case int64:
		return words.Group(value), nil
	case *int64:
		if value == nil {
			return "", nil
		}
		return words.Group(*value), nil
	case sql.NullInt64:
		if !value.Valid {
			return "", nil
		}
		return words.Group(value.Int64), nil
	}
	return "", fmt.Errorf("%T is not a number", value)
}

// count is a number of things: 1 row, 2,000 rows.
func count(value any, thing string) (string, error) {
	text, err := number(value)
	if text != "1" {
		thing += "s"
	}
	if text == "" {
		return "", err
	}
	return text + " " + thing, err
}

// Count is a number of things with its digits in groups.
func Count(number int64, thing string) string {
	text, _ := count(number, thing)
	return text
}

// A Cell is a value as text. NULL is not the empty text.
type Cell struct {
	Text   string
	IsNull bool
	// IsNumber means that it is at the right.
	IsNumber bool
}

// CellsOf are the values of a row.
func CellsOf(values []sql.NullString) []Cell {
	cells := make([]Cell, len(values))
	for i, value := range values {
		cells[i] = Cell{Text: Shorten(value.String), IsNull: !value.Valid}
	}
	return cells
}

// Shorten cuts a text to the length that pages show.
func Shorten(text string) string {
	count := 0
	for at := range text {
		if count == MaxCell {
			return text[:at] + "…"
		}
		count++
	}
	return text
}
