package uploads

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

const (
	// aheadCount chunks of aheadSize bytes of an upload are read before the import asks for them.
	aheadCount = 64
	aheadSize  = 64 << 10
)

// An aheadReader reads a body ahead of the import. So it notices that the client has left while the import is
// still busy with earlier data, which for a compressed file may be a lot.
type aheadReader struct {
	body    *steadyReader
	isGone  func()
	begin   sync.Once
	ended   chan struct{}
	stopped chan struct{}
	chunks  chan chunk
	free    chan []byte

	current chunk
	rest    []byte
}

type chunk struct {
	buffer []byte
	count  int
	err    error
}

// newAheadReader returns a reader of body that calls isGone when the client leaves before the end.
func newAheadReader(body *steadyReader, isGone func()) *aheadReader {
	return &aheadReader{
		body:    body,
		isGone:  isGone,
		ended:   make(chan struct{}),
		stopped: make(chan struct{}),
		chunks:  make(chan chunk, aheadCount),
		free:    make(chan []byte, aheadCount+2),
	}
}

func (a *aheadReader) run() {
	for {
		var next chunk
		select {
		case next.buffer = <-a.free:
		default:
			next.buffer = make([]byte, aheadSize)
		}
		next.count, next.err = a.body.Read(next.buffer)
		if isCutOff(next.err) {
			a.isGone()
		}
		// The end of the reading comes before the last chunk: who has that chunk finds the reading ended, and
		// does not interrupt. By then the server waits on the connection for the client to leave, and would
		// take an interruption for that, and cancel the next requests on this connection.
		if next.err != nil {
			close(a.ended)
		}
		select {
		case a.chunks <- next:
		case <-a.stopped:
			if next.err == nil {
				close(a.ended)
			}
			return
		}
		if next.err != nil {
			return
		}
	}
}

// isCutOff distinguishes a client that has left from one that is too slow or sends too much, which gets an
// answer.
func isCutOff(err error) bool {
	var (
		fromUser *db.UserError
		tooLarge *http.MaxBytesError
	)
	return err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &fromUser) && !errors.As(err, &tooLarge) && !kit.IsTimeout(err)
}

func (a *aheadReader) Read(p []byte) (int, error) {
	// The reading starts with the first read, not before: that read asks a client that sent "Expect:
	// 100-continue" for the body.
	a.begin.Do(func() { go a.run() })
	for len(a.rest) == 0 {
		if a.current.err != nil {
			return 0, a.current.err
		}
		if a.current.buffer != nil {
			a.free <- a.current.buffer
		}
		a.current = <-a.chunks
		a.rest = a.current.buffer[:a.current.count]
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// drain reads the rest, up to a limit, because a browser shows an answer only after it has sent everything.
func (a *aheadReader) drain(request *http.Request) {
	if request.Header.Get("Expect") != "" {
		return
	}
	end := time.AfterFunc(drainTimeout, a.interrupt)
	defer end.Stop()
	// When reading fails, the answer is still the error that we have.
	_, _ = io.CopyN(io.Discard, a, drainLimit)
}

func (a *aheadReader) interrupt() { _ = a.body.control.SetReadDeadline(time.Now()) }

// Close ends the reading, which must not outlive the request.
func (a *aheadReader) Close() error {
	a.begin.Do(func() { close(a.ended) })
	close(a.stopped)
	for {
		select {
		case <-a.ended:
			return nil
		default:
		}
		// The reader may have been about to set a deadline of its own.
		a.interrupt()
		select {
		case <-a.ended:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}
