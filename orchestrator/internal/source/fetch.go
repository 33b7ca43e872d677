package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/guard"
)

const maxRedirects = 5

// A failure is why a file could not be fetched.
type failure struct {
	reason string
	// isFinal says that no retry can help.
	isFinal    bool
	retryAfter time.Duration
}

func (f *failure) Error() string { return f.reason }

// A file is what a server has answered.
type file struct {
	*body
	name, etag, lastModified string
}

// minSpeed is how many bytes a second a server has to send, once it has had the time of a pause.
const minSpeed = 1000

// errStalled ends a request whose body has stopped.
var errStalled = errors.New("stalled")

// A body is read until its server stalls.
type body struct {
	io.ReadCloser
	stall  *time.Timer
	within time.Duration
	cancel context.CancelCauseFunc
	left   int64
	// waited is how long we have waited for the bytes that have come. The database may be slow, too.
	waited time.Duration
	bytes  int64
	// failure is why it could not be read to its end.
	failure *failure
	ctx     context.Context
}

func (b *body) Read(p []byte) (int, error) {
	b.stall.Reset(b.within)
	begun := time.Now()
	n, err := b.ReadCloser.Read(p)
	b.stall.Stop()
	b.waited += time.Since(begun)
	b.bytes += int64(n)
	b.left -= int64(n)
	switch {
	case b.waited > b.within && float64(b.bytes) < minSpeed*b.waited.Seconds() && err == nil:
		b.failure = &failure{reason: fmt.Sprintf("the server sends less than %d bytes a second", minSpeed)}
	case b.left < 0:
		b.failure = &failure{reason: "the file is larger than orchestrator up --max-upload", isFinal: true}
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case errors.Is(context.Cause(b.ctx), errStalled):
		b.failure = &failure{reason: fmt.Sprintf("the server has sent nothing for %v", b.within)}
	case errors.Is(b.ctx.Err(), context.DeadlineExceeded):
		b.failure = &failure{reason: "the file took too long"}
	default:
		b.failure = &failure{reason: "the connection was closed before the end of the file"}
	}
	return n, b.failure
}

func (b *body) Close() error {
	b.stall.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// fetch requests the file of a run; nil when the server has nothing new.
func (r *Runner) fetch(ctx context.Context, run *run) (*file, error) {
	target, err := url.Parse(run.url)
	if err != nil {
		return nil, &failure{reason: "the URL cannot be parsed", isFinal: true}
	}
	if err := guard.CheckURL(target); err != nil {
		return nil, &failure{reason: err.Error(), isFinal: true}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stall := time.AfterFunc(r.stallWithin, func() { cancel(errStalled) })
	response, err := r.follow(ctx, run, target)
	stall.Stop()
	if errors.Is(context.Cause(ctx), errStalled) {
		err = &failure{reason: fmt.Sprintf("no answer within %v", r.stallWithin)}
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	left := r.limits.MaxBytes
	if left == 0 {
		left = 1 << 62
	}
	got := &file{
		body:         &body{ReadCloser: response.Body, stall: stall, within: r.stallWithin, cancel: cancel, left: left, ctx: ctx},
		name:         nameOf(response, target, run.name),
		etag:         strings.ToValidUTF8(response.Header.Get("ETag"), ""),
		lastModified: strings.ToValidUTF8(response.Header.Get("Last-Modified"), ""),
	}
	// Without a condition it would mean that there is nothing.
	if response.StatusCode == http.StatusNotModified && (run.etag.Valid || run.lastModified.Valid) {
		return nil, got.Close()
	}
	if err := judge(response); err != nil {
		got.Close()
		return nil, err
	}
	return got, nil
}

// follow requests a URL, and those to which it is redirected. Each connection is checked.
func (r *Runner) follow(ctx context.Context, run *run, target *url.URL) (*http.Response, error) {
	own := target.Host
	for range 1 + maxRedirects {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
		if err != nil {
			return nil, &failure{reason: "the URL cannot be requested", isFinal: true}
		}
		request.Header.Set("User-Agent", "TinyDevCRM")
		// A packed file is unpacked as any other.
		request.Header.Set("Accept-Encoding", "gzip")
		if target.Host == own {
			for name, value := range run.headers {
				request.Header.Set(name, value)
			}
		}
		if run.etag.Valid {
			request.Header.Set("If-None-Match", run.etag.V)
		}
		if run.lastModified.Valid {
			request.Header.Set("If-Modified-Since", run.lastModified.V)
		}
		response, err := r.network.RoundTrip(request)
		if err != nil {
			return nil, &failure{reason: r.network.Explain(err), isFinal: guard.IsPrivate(err)}
		}
		if !isRedirect(response.StatusCode) {
			return response, nil
		}
		response.Body.Close()
		next, err := response.Location()
		if err != nil {
			// The library's error repeats the URL, which may hold a token.
			err = errors.New("the redirect has no URL that can be parsed")
		} else {
			err = guard.CheckURL(next)
		}
		if err == nil && target.Scheme == "https" && next.Scheme == "http" {
			err = errors.New("the redirect leaves https")
		}
		if err != nil {
			return nil, &failure{reason: guard.StatusLine(response) + ": " + err.Error(), isFinal: true}
		}
		target = next
	}
	return nil, &failure{reason: fmt.Sprintf("more than %d redirects", maxRedirects), isFinal: true}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// judge refuses an answer that is no file.
func judge(response *http.Response) error {
	status := response.StatusCode
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return &failure{reason: guard.StatusLine(response), retryAfter: guard.RetryAfter(response.Header.Get("Retry-After"), time.Now())}
	case status != http.StatusOK:
		return &failure{reason: guard.StatusLine(response), isFinal: true}
	}
	if encoding := response.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "gzip") && !strings.EqualFold(encoding, "identity") {
		return &failure{reason: "the file is packed in a way that was not asked for: " + guard.Excerpt(encoding), isFinal: true}
	}
	// Of a log-in, mostly.
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err == nil && kind == "text/html" {
		return &failure{reason: "the answer is a web page (text/html), not a file", isFinal: true}
	}
	return nil
}

// nameOf is the name of the file: that which the server gives, or that in the URL if it is one, because a path may hold
// a token.
func nameOf(response *http.Response, target *url.URL, source string) string {
	if _, given, err := mime.ParseMediaType(response.Header.Get("Content-Disposition")); err == nil && given["filename"] != "" {
		if name := guard.Excerpt(path.Base(given["filename"])); name != "" {
			return name
		}
	}
	if last := guard.Excerpt(path.Base(target.Path)); path.Ext(last) != "" && len(path.Ext(last)) < len(last) {
		return last
	}
	return source
}
