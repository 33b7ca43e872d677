// Package db opens the database and turns its errors into words, an HTTP status and an exit code.
// The other packages import it, and nothing else of ours.
package db

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lib/pq"
)

// MaxConns bounds the pool of a command, and of the page.
const MaxConns = 8

// Open returns a pool of at most maxConns connections to the database at url and checks that it
// answers.
//
// The url is what libpq takes, a connection URI or "key=value" pairs; what it leaves out comes from
// the PG* variables of the environment. lib/pq's sslmode is require unless it says otherwise.
func Open(ctx context.Context, url string, maxConns int) (*sql.DB, error) {
	connector, err := pq.NewConnector(url)
	if err != nil {
		// lib/pq's message may repeat the url, and with it a password.
		return nil, ErrBadURL
	}

	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns((maxConns + 1) / 2)
	pool.SetConnMaxIdleTime(time.Minute)

	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}
