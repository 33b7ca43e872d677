package web

import (
	"embed"
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

//go:embed static templates
var files embed.FS

func parseTemplates(site *kit.Site) *template.Template {
	functions := template.FuncMap{
		"static":        site.Static,
		"literal":       literal,
		"identifier":    identifier,
		"quoteQuery":    quoteQuery,
		"isoTime":       func(t time.Time) string { return t.Format(time.RFC3339Nano) },
		"showTime":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"countRows":     countRows,
		"count":         words.Count,
		"duration":      words.Duration,
		"milliseconds":  words.Milliseconds,
		"uploadFields":  uploadFields,
		"uploadChoices": uploadChoices,
		"scripts":       func() []string { return []string{"page.js", "upload.js", "ask.js", "feed.js"} },
		"rowsURL":       func(name, form string) string { return "/matviews/" + url.PathEscape(name) + form },
		"typeOption":    typeOption,
		"newEvent":      func() event { return event{} },
	}
	return template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/*.html"))
}

// literal and identifier quote values for the SQL that the page shows.
func literal(text string) string { return strings.TrimSpace(pq.QuoteLiteral(text)) }

func identifier(name string) string { return pq.QuoteIdentifier(name) }

// quoteQuery quotes a query inside SQL so that it stays readable, if possible.
func quoteQuery(query string) string {
	if strings.Contains(query, "$query$") {
		return literal(query)
	}
	return "$query$\n" + query + "\n$query$"
}

func countRows(count int64) string {
	return words.Count(count, "row")
}
