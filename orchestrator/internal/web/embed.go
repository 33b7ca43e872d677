package web

import (
	"net/http"
	"net/url"
	"strings"
)

func (s *server) allowEmbedding(w http.ResponseWriter, r *http.Request) {
	allowing := ofMatview("embed", "allow other sites to show", `
		select json_build_object('relation', relation::text, 'origins', origins)
		  from tinydevcrm.allow_embedding(
		           $1::text::regclass,
		           regexp_split_to_array(trim(both e' \t\r\n,' from $2), e'[\\s,]+'))`, "origins")
	allowing.required = append(allowing.required, "origins")
	s.run(w, r, allowing)
}

func (s *server) forbidEmbedding(w http.ResponseWriter, r *http.Request) {
	s.run(w, r, ofMatview("unembed", "forbid other sites to show", calling("forbid_embedding")))
}

// An embedding is what the form for the widget of one view shows.
type embedding struct {
	// Relation is as psql would show it; Name has its schema, and both are quoted where needed.
	Relation, Name string
	// Origins are those that may embed it; none when that is not allowed.
	Origins []string
	// Typed is what stands in the form instead, when it was wrong.
	Typed string
	// Site is this server, as the user's browser calls it.
	Site string
}

// siteOf is the server as whoever sent a request calls it.
func siteOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// Written is what stands in the form: origins, one a line.
func (e embedding) Written() string {
	if e.Typed != "" {
		return e.Typed
	}
	return strings.Join(e.Origins, "\n")
}

// Address is that of the widget.
func (e embedding) Address() string { return e.Site + "/embed/" + url.PathEscape(e.Name) }

// Array is the origins as an array of SQL; an example where there are none.
func (e embedding) Array() string {
	if len(e.Origins) == 0 {
		return "{https://example.com}"
	}
	return "{" + strings.Join(e.Origins, ",") + "}"
}
