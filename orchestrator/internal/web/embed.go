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

// An embedding holds what the form for the widget of one view shows.
type embedding struct {
	// Relation is the name as psql would show it. Name includes the schema. Both are quoted where needed.
	Relation, Name string
	// Origins are the sites that may embed it; none when that is not allowed.
	Origins []string
	// Typed is the invalid input that the form shows instead.
	Typed string
	// Site is the URL of this server, as the user's browser knows it.
	Site string
}

// siteOf returns the URL of this server, as the sender of the request knows it.
func siteOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// Written is the text in the form: one origin per line.
func (e embedding) Written() string {
	if e.Typed != "" {
		return e.Typed
	}
	return strings.Join(e.Origins, "\n")
}

// Address is the URL of the widget.
func (e embedding) Address() string { return e.Site + "/embed/" + url.PathEscape(e.Name) }

// Array is the origins as an SQL array; an example when there are none.
func (e embedding) Array() string {
	if len(e.Origins) == 0 {
		return "{https://example.com}"
	}
	return "{" + strings.Join(e.Origins, ",") + "}"
}
