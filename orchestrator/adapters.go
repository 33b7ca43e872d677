package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web"
)

// The packages do not import each other. This file converts the types of one into those of another.

// fileLimits bound the files that the page accepts. The upload command has no limits.
type fileLimits struct{ maxMegabytes, maxRatio int64 }

func (l fileLimits) maxBytes() int64 { return l.maxMegabytes << 20 }

// upload is upload.Load with the types of the page.
func (l fileLimits) upload(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (web.Imported, error) {
	request, err := upload.NewRequest(source, options)
	if err != nil {
		return web.Imported{}, err
	}
	request.MaxBytes, request.MaxRatio = l.maxBytes(), l.maxRatio
	done, err := upload.Load(ctx, pool, file, request)
	if err != nil {
		return web.Imported{}, err
	}
	row, err := json.Marshal(done)
	if err != nil {
		return web.Imported{}, fmt.Errorf("write the import: %w", err)
	}
	return web.Imported{
		Schema: done.SchemaName, Table: done.TableName, Source: source, Rows: done.RowCount,
		Took: done.FinishedAt.Sub(done.StartedAt), Row: row,
	}, nil
}

// preview is upload.Preview with the types of the page.
func (l fileLimits) preview(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (web.Plan, error) {
	request, err := upload.NewRequest(source, options)
	if err != nil {
		return web.Plan{}, err
	}
	request.MaxBytes, request.MaxRatio = l.maxBytes(), l.maxRatio
	found, err := upload.Preview(ctx, pool, file, request)
	if err != nil {
		return web.Plan{}, err
	}
	plan := web.Plan{
		Dialect:    found.Dialect.String(),
		Statements: found.Statements,
		IsWhole:    found.IsWhole,
	}
	for _, column := range found.Columns {
		plan.Columns = append(plan.Columns, web.PlannedColumn{Name: column.Name, Type: column.Type})
	}
	if plan.JSON, err = json.Marshal(found); err != nil {
		return web.Plan{}, fmt.Errorf("write the plan: %w", err)
	}
	return plan, nil
}
