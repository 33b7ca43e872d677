package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// slowTimeout is how long an upload may send nothing, or less than slowRate bytes a second.
	slowTimeout = 30 * time.Second
	slowRate    = 1000
	// maxField bounds the form's other fields.
	maxField  = 4 << 10
	maxFields = 2000
	// After an error we read the rest, within these limits, before we answer.
	drainLimit   = 64 << 20
	drainTimeout = 10 * time.Second
)

const fileHint = "Choose a CSV file, or send one: curl -F file=@sample.csv localhost:5000/upload-file"

// uploadFile streams the fields "file" of a multipart form into a table as they arrive. With dry_run in the URL
// it only returns what the upload would do.
func (s *server) uploadFile(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var limited io.ReadCloser = r.Body
	if s.MaxUpload > 0 {
		limited = http.MaxBytesReader(w, r.Body, s.MaxUpload)
	}
	body := newAheadReader(
		&steadyReader{ReadCloser: limited, control: http.NewResponseController(w), slow: s.slow}, cancel)
	defer body.Close()
	r = r.WithContext(ctx)
	r.Body = body

	filled := page{Upload: r.URL.Query()}
	isDry := filled.Upload.Get("dry_run") != ""
	filled.Upload.Del("dry_run")

	var imported upload.Import
	err := s.receiveFile(r, filled.Upload, func(file io.Reader, source string) (err error) {
		if isDry {
			var plan upload.Plan
			plan, err = s.Preview(r.Context(), s.pool(r.Context()), file, source, filled.Upload)
			filled.Plan = &plan
			return err
		}
		imported, err = s.Upload(r.Context(), s.pool(r.Context()), file, source, filled.Upload)
		return err
	})
	if err != nil || isDry {
		body.drain(r)
	}
	if err != nil {
		filled.Plan = nil
		s.fail(w, r, stepUpload, filled, err)
		return
	}
	if isDry {
		s.showPlan(w, r, filled)
		return
	}

	name := imported.SchemaName + "." + imported.TableName
	to := pageURL(url.Values{"table": {name}}, stepTables)
	// The page's own script follows the Location in a program's answer.
	s.leaveFlash(w, r, to, flash{Done: "upload", About: name, Imported: &imported})
	if wantsPage(r) {
		s.redirect(w, r, to)
		return
	}
	w.Header().Set("Location", to)
	s.writeJSON(w, r, http.StatusCreated, imported)
}

func (s *server) showPlan(w http.ResponseWriter, r *http.Request, filled page) {
	if wantsPage(r) {
		s.renderPage(w, r, filled)
		return
	}
	s.writeJSON(w, r, http.StatusOK, filled.Plan)
}

// receiveFile reads a form's fields into options, and calls use with the file.
func (s *server) receiveFile(r *http.Request, options url.Values, use func(file io.Reader, source string) error) error {
	if s.MaxUpload > 0 && r.ContentLength > s.MaxUpload {
		return &http.MaxBytesError{Limit: s.MaxUpload}
	}

	parts, err := r.MultipartReader()
	if errors.Is(err, http.ErrNotMultipart) {
		return &db.UserError{
			Status:  http.StatusUnsupportedMediaType,
			Message: "the request is not a multipart form",
			Hint:    fileHint,
		}
	}
	if err != nil {
		return malformed(err)
	}

	file, err := findFile(parts, options)
	if err != nil {
		return err
	}
	release, err := s.site.TakeTransfer(r)
	if err != nil {
		return err
	}
	defer release()
	return use(&fileParts{Part: file, parts: parts}, file.FileName())
}

// findFile reads the fields that come before the file. A field that is not empty overrides the same option in
// the URL.
func findFile(parts *multipart.Reader, options url.Values) (*multipart.Part, error) {
	seen := make(map[string]bool)
	for range maxFields {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, &db.UserError{
				Status:  http.StatusBadRequest,
				Message: `the form has no field "file"`,
				Hint:    fileHint,
			}
		}
		if err != nil {
			return nil, malformed(err)
		}

		name := part.FormName()
		if name == "file" && part.FileName() == "" {
			return nil, &db.UserError{
				Status:  http.StatusBadRequest,
				Message: "no file was chosen",
				Hint:    fileHint,
			}
		}
		if name == "file" {
			return part, nil
		}
		value, err := readField(part)
		if err != nil {
			return nil, err
		}
		if value != "" && !seen[name] {
			options.Del(name)
		}
		if value != "" {
			seen[name] = true
			options.Add(name, value)
		}
	}
	return nil, &db.UserError{
		Status:  http.StatusBadRequest,
		Message: fmt.Sprintf("the form has more than %d fields before the file", maxFields),
	}
}

func readField(part *multipart.Part) (string, error) {
	value, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if err != nil {
		return "", malformed(err)
	}
	if len(value) > maxField {
		return "", &db.UserError{
			Status:  http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("the field %q is longer than %d bytes", part.FormName(), maxField),
		}
	}
	return string(value), nil
}

// malformed is the error for a form that cannot be read, unless the cause has a better message.
func malformed(err error) error {
	var (
		tooLarge *http.MaxBytesError
		fromUser *db.UserError
	)
	switch {
	case errors.As(err, &tooLarge), errors.As(err, &fromUser), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case isTimeout(err):
		return &db.UserError{
			Status:  http.StatusRequestTimeout,
			Message: "the request sent no data for too long",
		}
	}
	return &db.UserError{Status: http.StatusBadRequest, Message: "the form cannot be read: " + err.Error()}
}

func isTimeout(err error) bool {
	var fromNet net.Error
	return errors.As(err, &fromNet) && fromNet.Timeout()
}

// fileParts are the files of a form: upload.Files. At the end of each they check what follows, before they report
// the end of the file: a field that comes too late to have an effect must stop the import, not be ignored.
type fileParts struct {
	*multipart.Part
	parts *multipart.Reader
	next  *multipart.Part
	isEnd bool
}

func (p *fileParts) NextFile() (string, error) {
	if p.next == nil {
		return "", io.EOF
	}
	p.Part, p.next, p.isEnd = p.next, nil, false
	return p.FileName(), nil
}

func (p *fileParts) Read(buffer []byte) (int, error) {
	if p.isEnd {
		return 0, io.EOF
	}
	n, err := p.Part.Read(buffer)
	if errors.Is(err, io.EOF) {
		err := p.checkRest()
		p.isEnd = errors.Is(err, io.EOF)
		return n, err
	}
	if err != nil {
		return n, malformed(err)
	}
	return n, nil
}

func (p *fileParts) checkRest() error {
	part, err := p.parts.NextPart()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err != nil {
		return malformed(err)
	}
	if part.FormName() == "file" && part.FileName() != "" {
		p.next = part
		return io.EOF
	}
	return &db.UserError{
		Status:  http.StatusBadRequest,
		Message: fmt.Sprintf("the field %q comes after the file", part.FormName()),
		Hint:    "Put it before the files, or into the URL: /upload-file?" + part.FormName() + "=…",
	}
}

// steadyReader lets a body take as long as it needs while data keeps coming. At the end of the body net/http
// removes the deadline. A deadline set after that would end the request while the database works.
type steadyReader struct {
	io.ReadCloser
	control *http.ResponseController
	slow    time.Duration
	err     error
	// waited is how long we have waited for the client, and bytes what it sent. The time in which the database
	// works does not count.
	waited time.Duration
	bytes  int
}

func (r *steadyReader) Read(buffer []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	began := time.Now()
	_ = r.control.SetReadDeadline(began.Add(r.slow))
	n, err := r.ReadCloser.Read(buffer)
	r.err = err
	r.bytes += n
	r.waited += time.Since(began)
	if r.waited < r.slow {
		return n, err
	}
	if err == nil && float64(r.bytes) < slowRate*r.waited.Seconds() {
		r.err = &db.UserError{
			Status:  http.StatusRequestTimeout,
			Message: fmt.Sprintf("the upload brought less than %d bytes a second for %s", slowRate, words.Duration(r.slow)),
			Hint:    "Others wait for their turn. Send the file once you have all of it.",
		}
	}
	r.waited, r.bytes = 0, 0
	return n, r.err
}
