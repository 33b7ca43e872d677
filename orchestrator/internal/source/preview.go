package source

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// previewWithin bounds a preview, for which somebody waits.
const previewWithin = 30 * time.Second

// Preview fetches a file, and says what an import of it would do, going by its beginning. It reaches the same addresses
// as a run. The name is that of the file where neither the server nor the URL gives one.
func (r *Runner) Preview(ctx context.Context, pool *sql.DB, address string, headers map[string]string, name string, options url.Values) (file string, plan upload.Plan, err error) {
	ctx, cancel := context.WithTimeout(ctx, previewWithin)
	defer cancel()
	got, err := r.fetch(ctx, &run{url: address, headers: headers, name: name})
	if err == nil && got == nil {
		err = &failure{reason: "304 Not Modified, which was not asked for"}
	}
	if err != nil {
		return "", upload.Plan{}, asProblem(err)
	}
	defer got.Close()
	plan, err = r.limits.Preview(ctx, pool, got, got.name, options)
	if got.failure != nil {
		err = got.failure
	}
	return got.name, plan, asProblem(err)
}

// asProblem is an error that the user sees, with the code of a file that could not be fetched.
func asProblem(err error) error {
	var fetched *failure
	if errors.As(err, &fetched) {
		return &db.UserError{Status: http.StatusUnprocessableEntity, Code: "TD013", Message: fetched.reason}
	}
	return err
}
