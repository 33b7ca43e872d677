package mail

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// unsubscribeWithin bounds a request to the database.
const unsubscribeWithin = 10 * time.Second

//go:embed unsubscribe.html
var unsubscribeSource string

// An unsubscriber serves the links of letters without a log-in: to have the link is enough.
type unsubscriber struct {
	pool   *sql.DB
	layout *template.Template
	logger *slog.Logger
	// turn lets one request at a time to the database, so that strangers take no connections from the users.
	turn chan struct{}
}

// Unsubscriber returns the handler of the links that unsubscribe. A GET only shows a button, because programs that
// look for viruses follow all links of a letter. A POST unsubscribes: of the button, or of a mail program by RFC 8058.
func Unsubscriber(pool *sql.DB, logger *slog.Logger) http.Handler {
	return &unsubscriber{
		pool:   pool,
		layout: template.Must(template.New("unsubscribe").Parse(unsubscribeSource)),
		logger: logger,
		turn:   make(chan struct{}, 1),
	}
}

// A result is what the page says.
type result struct {
	Email, Address string
	IsDone         bool
}

func (u *unsubscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, err := u.find(r)
	status := http.StatusOK
	switch {
	case err != nil:
		if r.Context().Err() == nil {
			u.logger.Error("cannot unsubscribe a recipient", "error", err)
		}
		http.Error(w, "The server cannot do this now. Try again later.", http.StatusServiceUnavailable)
		return
	case found.Address == "":
		status = http.StatusNotFound
	}
	var body bytes.Buffer
	if err := u.layout.Execute(&body, found); err != nil {
		u.logger.Error("cannot show the page to unsubscribe", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// The link is a secret of the recipient.
	w.Header().Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// find looks for the recipient of the link, and with a POST removes them.
func (u *unsubscriber) find(r *http.Request) (result, error) {
	query := r.URL.Query()
	subscription, err := strconv.ParseInt(query.Get("subscription"), 10, 64)
	if err != nil {
		return result{}, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), unsubscribeWithin)
	defer cancel()
	select {
	case u.turn <- struct{}{}:
		defer func() { <-u.turn }()
	case <-ctx.Done():
		return result{}, ctx.Err()
	}
	found := result{IsDone: r.Method == http.MethodPost}
	statement := "select email, address from tinydevcrm._find_unsubscribed($1, $2, $3)"
	if found.IsDone {
		statement = "select '', address from tinydevcrm._unsubscribe($1, $2, $3) as address where address is not null"
	}
	err = u.pool.QueryRowContext(ctx, statement, subscription, query.Get("recipient"), query.Get("token")).
		Scan(&found.Email, &found.Address)
	if errors.Is(err, sql.ErrNoRows) {
		return result{}, nil
	}
	return found, err
}
