package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

//go:embed static templates
var files embed.FS

// An asset is a file that the page loads. Its tag changes with its contents.
type asset struct {
	content []byte
	tag     string
}

func loadAssets() map[string]asset {
	assets := map[string]asset{}
	entries, err := files.ReadDir("static")
	for _, entry := range entries {
		var content []byte
		if content, err = files.ReadFile(path.Join("static", entry.Name())); err != nil {
			break
		}
		sum := sha256.Sum256(content)
		assets[entry.Name()] = asset{content: content, tag: hex.EncodeToString(sum[:8])}
	}
	if err != nil {
		panic(err) // they were there when the program was compiled
	}
	return assets
}

func (s *server) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	asset, isThere := s.assets[name]
	if !isThere {
		http.NotFound(w, r)
		return
	}

	// Widgets load these files too, from frames that may have no origin.
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	// The page requests a file with its tag, so the browser may cache it forever.
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == asset.tag {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("ETag", `"`+asset.tag+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(asset.content))
}

func parseTemplates(assets map[string]asset) *template.Template {
	functions := template.FuncMap{
		"static": func(name string) string {
			return "/static/" + name + "?v=" + assets[name].tag
		},
		"literal":       literal,
		"identifier":    identifier,
		"quoteQuery":    quoteQuery,
		"isoTime":       func(t time.Time) string { return t.Format(time.RFC3339Nano) },
		"showTime":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"countRows":     countRows,
		"count":         words.Count,
		"duration":      words.Duration,
		"milliseconds":  words.Milliseconds,
		"rowCells":      rowCells,
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

// rowCells returns the values of one row of an event: text without its quotes, the rest as JSON.
func rowCells(row map[string]json.RawMessage, names []string) []cell {
	cells := make([]cell, len(names))
	for i, name := range names {
		value := row[name]
		var text string
		switch {
		case len(value) == 0 || string(value) == "null":
			cells[i].IsNull = true
		case json.Unmarshal(value, &text) == nil:
			cells[i].Text = shorten(text)
		default:
			var compact bytes.Buffer
			_ = json.Compact(&compact, value) // jsonb is valid JSON
			cells[i].Text = shorten(compact.String())
		}
	}
	return cells
}
