package upload

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// copyData is lib/pq's COPY statement, which sends raw bytes and appends a line feed to each call.
type copyData interface {
	driver.Stmt
	CopyData(ctx context.Context, line string) (driver.Result, error)
}

// A copier is a running COPY on a connection.
type copier struct{ stmt copyData }

func startCopy(ctx context.Context, conn *sql.Conn, statement string) (*copier, error) {
	var c copier
	err := conn.Raw(func(driverConn any) error {
		prepared, err := driverConn.(driver.ConnPrepareContext).PrepareContext(ctx, statement)
		if err != nil {
			return err
		}
		c.stmt = prepared.(copyData)
		return nil
	})
	return &c, err
}

// send sends whole lines. After an error the connection cannot be used: closing the statement would end the
// COPY as if the file were complete.
func (c *copier) send(ctx context.Context, conn *sql.Conn, lines []byte) error {
	return conn.Raw(func(any) error {
		_, err := c.stmt.CopyData(ctx, string(lines[:len(lines)-1]))
		return lost(err)
	})
}

// end completes the COPY and returns the number of rows.
func (c *copier) end(conn *sql.Conn) (rows int64, err error) {
	err = conn.Raw(func(any) error {
		result, err := c.stmt.Exec(nil)
		if err != nil {
			return lost(err)
		}
		rows, err = result.RowsAffected()
		return errors.Join(err, c.stmt.Close())
	})
	return rows, err
}

// lost gives a lost connection the error that lib/pq uses for it everywhere else. COPY returns the error of the
// read, an end of file, which would be mistaken for the end of the request.
func lost(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return driver.ErrBadConn
	}
	return err
}

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
