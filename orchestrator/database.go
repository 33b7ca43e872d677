package main

import (
	"context"
	"database/sql"
	"net/http"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// errNoDatabase has the hint that says what to type.
var errNoDatabase = &db.UserError{
	Status:  http.StatusServiceUnavailable,
	Message: "no database is given: DATABASE_URL is not set",
	Hint:    `export DATABASE_URL="$(scripts/db url)"`,
}

func (p *program) openDatabase(ctx context.Context) (*sql.DB, error) {
	if p.databaseURL == "" {
		return nil, errNoDatabase
	}
	return db.Open(ctx, p.databaseURL, db.MaxConns)
}

// withDatabase opens a pool, and calls work with it.
func (p *program) withDatabase(ctx context.Context, work func(*sql.DB) error) error {
	pool, err := p.openDatabase(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	return work(pool)
}
