package upload

import (
	"context"
	"database/sql"
	"io"
	"net/url"
)

// Limits bound the files that the page takes; the upload command has none. A limit of 0 takes any file.
type Limits struct {
	// MaxBytes is the size of a file, unpacked.
	MaxBytes int64
	// MaxRatio is how many times its size a packed file may unpack to.
	MaxRatio int64
}

// Load is the package's Load for the options of a form.
func (l Limits) Load(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (Import, error) {
	request, err := l.request(source, options)
	if err != nil {
		return Import{}, err
	}
	return Load(ctx, pool, file, request)
}

// Preview is the package's Preview for the options of a form.
func (l Limits) Preview(ctx context.Context, pool *sql.DB, file io.Reader, source string, options url.Values) (Plan, error) {
	request, err := l.request(source, options)
	if err != nil {
		return Plan{}, err
	}
	return Preview(ctx, pool, file, request)
}

func (l Limits) request(source string, options url.Values) (Request, error) {
	request, err := NewRequest(source, options)
	request.MaxBytes, request.MaxRatio = l.MaxBytes, l.MaxRatio
	return request, err
}
