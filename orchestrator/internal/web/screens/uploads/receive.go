package uploads

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

const (
	// slowRate is how many bytes a second an upload must bring.
	slowRate = 1000
	// maxField bounds the form's other fields.
	maxField  = 4 << 10
	maxFields = 2000
	// After an error we read the rest, within these limits, before we answer.
	drainLimit   = 64 << 20
	drainTimeout = 10 * time.Second
)

const fileHint = "Choose a file, or send one: curl -F file=@sample.csv localhost:5000/upload-file"

// receive reads a form's fields into options, and calls use with the file.
func (s *screen) receive(r *http.Request, options url.Values, use func(file io.Reader, source string) error) error {
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
		return kit.Malformed(err)
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
			return nil, kit.Malformed(err)
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
		return "", kit.Malformed(err)
	}
	if len(value) > maxField {
		return "", &db.UserError{
			Status:  http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("the field %q is longer than %d bytes", part.FormName(), maxField),
		}
	}
	return string(value), nil
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
		return n, kit.Malformed(err)
	}
	return n, nil
}

func (p *fileParts) checkRest() error {
	part, err := p.parts.NextPart()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err != nil {
		return kit.Malformed(err)
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
