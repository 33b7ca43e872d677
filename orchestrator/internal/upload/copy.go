package upload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/binary"
)

var errAborted = errors.New("the import has ended")

// A copier is a running COPY, in a goroutine that sends chunks. Only that uses the connection until the COPY ends.
type copier struct {
	chunks   chan *chunk
	release  func(*chunk)
	isBinary bool
	cancel   context.CancelFunc
	aborted  chan struct{}
	ended    chan struct{}
	rows     int64 // when it has ended
	err      error

	current *chunk
	rest    []byte // what is still to be sent of it, or the header or the trailer
	isLast  bool
}

// maxWaiting is how many chunks wait to be sent.
const maxWaiting = 2

func startCopy(ctx context.Context, conn *sql.Conn, how *format, release func(*chunk)) *copier {
	ctx, cancel := context.WithCancel(ctx)
	c := &copier{
		chunks:   make(chan *chunk, maxWaiting),
		release:  release,
		isBinary: how.kinds != nil,
		cancel:   cancel,
		aborted:  make(chan struct{}),
		ended:    make(chan struct{}),
	}
	if c.isBinary {
		c.rest = []byte(binary.Header)
	}
	go func() {
		defer close(c.ended)
		c.rows, c.err = db.CopyFrom(ctx, conn, how.statement, c)
	}()
	return c
}

// send returns an error when the COPY has failed.
func (c *copier) send(next *chunk) error {
	select {
	case c.chunks <- next:
		return nil
	case <-c.ended:
		return c.err
	}
}

// Read returns the rows to the driver.
func (c *copier) Read(buffer []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.current != nil {
			c.release(c.current)
			c.current = nil
		}
		if c.isLast {
			return 0, io.EOF
		}
		select {
		case <-c.aborted:
			return 0, errAborted
		case next, isOpen := <-c.chunks:
			switch {
			case isOpen:
				c.current, c.rest = next, next.rows
			case c.isBinary:
				c.isLast, c.rest = true, []byte(binary.Trailer)
			default:
				c.isLast = true
			}
		}
	}
	count := copy(buffer, c.rest)
	c.rest = c.rest[count:]
	return count, nil
}

// end completes the COPY and returns the number of rows.
func (c *copier) end() (rows int64, err error) {
	close(c.chunks)
	<-c.ended
	c.cancel()
	return c.rows, c.err
}

// abort ends the COPY so that it leaves nothing. The server gets some time to confirm that.
func (c *copier) abort() {
	close(c.aborted)
	stop := time.AfterFunc(abortWithin, c.cancel)
	defer stop.Stop()
	<-c.ended
	c.cancel()
}

const abortWithin = 5 * time.Second

var copyPlace = regexp.MustCompile(`(?:^|\n)COPY .*, line (\d+)(?:, column (.+?): "((?s).*)"|: .*)?$`)

// explainCopy names the value that its column refuses. Its row is counted over all COPYs of the file.
func explainCopy(err error, rowsBefore int64) error {
	var refusal *pq.Error
	if !errors.As(err, &refusal) || refusal.Code.Class() != "22" {
		return err
	}
	place := copyPlace.FindStringSubmatch(refusal.Where)
	if place == nil || place[2] == "" {
		return err
	}
	row, _ := strconv.ParseInt(place[1], 10, 64)
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    string(refusal.Code),
		Message: refusal.Message,
		Detail:  fmt.Sprintf("row %d, column %s: '%s'", rowsBefore+row, place[2], excerpt([]byte(place[3]))),
		Hint:    "Give the column another type, or none, so that the import chooses a type that all values fit.",
	}
}

var rowPlace = regexp.MustCompile(`(?m)^row (\d+), column `)

// withLines names lines of the file where an error about values names rows.
func (l *loader) withLines(err error) error {
	if err == nil {
		return nil
	}
	problem := db.Explain(err)
	if !rowPlace.MatchString(problem.Detail) {
		return err
	}
	return &db.UserError{
		Status:  problem.Status,
		Code:    problem.Code,
		Message: problem.Message,
		Detail: rowPlace.ReplaceAllStringFunc(problem.Detail, func(found string) string {
			row, _ := strconv.ParseInt(rowPlace.FindStringSubmatch(found)[1], 10, 64)
			file, line := l.table.lineOf(row)
			switch {
			case line == 0:
				return found
			case file != "":
				return fmt.Sprintf("%s, line %d, column ", file, line)
			}
			return fmt.Sprintf("line %d, column ", line)
		}),
		Hint: problem.Hint,
	}
}
