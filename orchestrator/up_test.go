package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// Uploads that stand still, as many as you like, leave connections to everybody else.
func TestUploadsLeaveConnections(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	load := uploader(pool)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for range 3 * db.MaxConns {
		go func() {
			reader, writer := io.Pipe()
			context.AfterFunc(ctx, func() { writer.CloseWithError(context.Canceled) })
			// Enough for the import to begin, and no end.
			go writer.Write([]byte("a\n" + strings.Repeat("1\n", 150<<10)))
			_, err := load(ctx, reader, "t.csv", "", "")
			ended <- err
		}()
	}
	short, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	for range 100 {
		if _, err := pool.ExecContext(short, "select 1"); err != nil {
			t.Fatalf("no connection is left: %v", err)
		}
	}
	cancel()
	for range 3 * db.MaxConns {
		if err := <-ended; err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("upload: %v", err)
		}
	}
}
