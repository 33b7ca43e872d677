package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lib/pq"
)

// ErrBadURL says that DATABASE_URL could not be read, without repeating it.
var ErrBadURL = errors.New("the database URL is malformed")

// A Problem is an error as the user sees it.
type Problem struct {
	// Status is the HTTP status. Below 500, the user can correct the error.
	Status int `json:"-"`
	// Code is the SQLSTATE; empty when the error does not come from the database.
	Code string `json:"code,omitempty"`
	// Message says what is wrong, Detail where, and Hint what to do.
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Lines are the first lines of a file that make it invalid. Detail repeats them.
	Lines []Line `json:"lines,omitempty"`
	// Choices are the values of an option, of which one is needed; nil for none.
	Choices *Choices `json:"choices,omitempty"`
	// Position is the character, from 1, of Query at which the database found the error; 0 for none.
	Position int    `json:"position,omitempty"`
	Query    string `json:"-"`
	// IsAway says that the database could not be reached, so that nothing is known of its contents.
	IsAway bool `json:"-"`
}

// A Line of a file, and what is wrong with it.
type Line struct {
	Number int64  `json:"line"`
	Reason string `json:"reason"`
	Text   string `json:"text"`
}

// Choices are values that an option can have.
type Choices struct {
	Option string   `json:"option"`
	Values []Choice `json:"values"`
}

// A Choice is a value of an option, and what it is.
type Choice struct {
	Value string `json:"value"`
	Label string `json:"label"`
}

func (l Line) String() string { return fmt.Sprintf("line %d: %s: %s", l.Number, l.Reason, l.Text) }

// More is what Detail says beyond Lines: how many more there are. Empty when these are all.
func (p Problem) More() string {
	more := p.Detail[strings.LastIndex(p.Detail, "\n")+1:]
	if strings.HasPrefix(more, "and ") && strings.HasSuffix(more, " more") {
		return more
	}
	return ""
}

// String formats the problem for a terminal, one line per part.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Message)
	if p.Detail != "" {
		b.WriteString("\n  " + strings.ReplaceAll(p.Detail, "\n", "\n  "))
	}
	if p.Hint != "" {
		b.WriteString("\n  Hint: " + p.Hint)
	}
	return b.String()
}

// ReadProblem reads what String has written. The code is empty.
func ReadProblem(text string) Problem {
	const before = "\n  Hint: "
	var problem Problem
	if at := strings.LastIndex(text, before); at >= 0 {
		text, problem.Hint = text[:at], text[at+len(before):]
	}
	problem.Message, problem.Detail, _ = strings.Cut(text, "\n  ")
	problem.Detail = strings.ReplaceAll(problem.Detail, "\n  ", "\n")
	return problem
}

// A UserError is an error in the user's input that the program finds before it calls SQL.
type UserError struct {
	Status int
	// Code is the SQLSTATE that SQL raises for such an error, if it has one.
	Code    string
	Message string
	Detail  string
	Hint    string
	Lines   []Line
	Choices *Choices
}

func (e *UserError) Error() string { return e.Message }

// status is the HTTP status of an SQLSTATE, or of a class, which is its first two characters.
func status(code string) int {
	switch code {
	case "TD001", "42P01", "3F000":
		return http.StatusNotFound
	case "TD004", "TD012", "42P07", "2BP01", "55000":
		return http.StatusConflict
	// 25006: a standby, or a server that was set read-only.
	// 25P03, 25P04: the server has ended the session.
	case "TD010", "25006", "25P03", "25P04":
		return http.StatusServiceUnavailable
	case "42501":
		return http.StatusForbidden
	case "57014":
		return http.StatusGatewayTimeout
	}
	switch code[:min(2, len(code))] {
	case "08", "53", "55", "57":
		return http.StatusServiceUnavailable
	case "28":
		return http.StatusUnauthorized
	// Invalid data, violated constraints, invalid SQL, limits, unsupported features, our own errors.
	case "0A", "21", "22", "23", "25", "2F", "38", "39", "42", "44", "54", "P0", "TD":
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// timeouts are the codes with which a server ends a session that was idle, or took too long.
var timeouts = []string{"25P03", "25P04", "57P05"}

// Explain turns any error into a Problem. An error that the user cannot correct becomes "internal error"; its
// text goes to the log only.
func Explain(err error) Problem {
	var (
		fromServer *pq.Error
		fromUser   *UserError
		fromNet    net.Error
		tooLarge   *http.MaxBytesError
	)
	switch {
	case errors.As(err, &fromUser):
		return Problem{
			Status:  fromUser.Status,
			Code:    fromUser.Code,
			Message: fromUser.Message,
			Detail:  fromUser.Detail,
			Hint:    fromUser.Hint,
			Lines:   fromUser.Lines,
			Choices: fromUser.Choices,
		}
	case errors.As(err, &fromServer):
		return explainServer(fromServer)
	case errors.As(err, &tooLarge):
		return Problem{
			Status:  http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("the request is larger than %d bytes", tooLarge.Limit),
		}
	case errors.Is(err, ErrBadURL):
		return Problem{
			Status:  http.StatusInternalServerError,
			Message: err.Error(),
			Hint:    "Write DATABASE_URL as postgres://user@host:5432/database; scripts/db url prints one.",
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Problem{Status: http.StatusBadRequest, Message: "the request ended before it was complete"}
	case errors.Is(err, context.DeadlineExceeded):
		return Problem{Status: http.StatusGatewayTimeout, Message: "the database did not answer in time"}
	case errors.Is(err, driver.ErrBadConn):
		// A connection ended during a statement. The server's log has the reason.
		return Problem{
			Status:  http.StatusServiceUnavailable,
			IsAway:  true,
			Message: "the connection to the database was lost",
			Hint:    "Try again. The server's log has the reason: a restart, a crash, or a timeout such as idle_in_transaction_session_timeout.",
		}
	case errors.As(err, &fromNet), errors.Is(err, sql.ErrConnDone), errors.Is(err, net.ErrClosed):
		return Problem{
			Status:  http.StatusServiceUnavailable,
			IsAway:  true,
			Message: "the database does not answer",
			Detail:  err.Error(),
			Hint:    "Is it running? scripts/db start starts the private server. Set DATABASE_URL for another one.",
		}
	}
	return Problem{Status: http.StatusInternalServerError, Message: "internal error"}
}

const noSchema = "The database lacks TinyDevCRM's schema: run orchestrator migrate up."

func explainServer(err *pq.Error) Problem {
	isTimeout := slices.Contains(timeouts, string(err.Code))
	problem := Problem{
		Status:  status(string(err.Code)),
		Code:    string(err.Code),
		Message: err.Message,
		Detail:  err.Detail,
		Hint:    err.Hint,
		IsAway:  isTimeout || err.Code.Class() == "08" || slices.Contains([]string{"53300", "57P01", "57P02", "57P03"}, string(err.Code)),
	}
	switch {
	case isTimeout:
		problem.Message = "the connection to the database was lost: " + err.Message
		problem.Hint = "Try again. The role or database has a timeout, such as idle_in_transaction_session_timeout. Remove it with: alter role … reset …"
	case err.Code == "3F000" && err.Message == `schema "tinydevcrm" does not exist`:
		problem.Status = http.StatusServiceUnavailable
		problem.Hint = noSchema
	case problem.Status == http.StatusInternalServerError:
		problem = Problem{Status: problem.Status, Code: problem.Code, Message: "internal error"}
	case err.InternalQuery == "" && strings.Contains(err.Message, "tinydevcrm") &&
		(err.Code == "42P01" || err.Code == "42883"):
		problem.Hint = noSchema
	case problem.Detail == "" && strings.HasPrefix(err.Where, "COPY "):
		// Where COPY stopped: the line, the column and the value.
		problem.Detail = firstLine(err.Where)
	case problem.Detail == "" && err.InternalQuery != "" && err.InternalPosition != "":
		problem.Query = err.InternalQuery
		problem.Position, _ = strconv.Atoi(err.InternalPosition)
		problem.Detail = pointAt(problem.Query, problem.Position)
		// Which function raised it, unless it is a query that was passed to a function of ours.
		if where := firstLine(err.Where); !strings.Contains(where, "tinydevcrm.") {
			problem.Detail += "\n" + where
		}
	case err.Code == "55P03":
		problem.Message, problem.Hint = "another session has locked it", "Try again in a moment."
	}
	if problem.Hint == "" {
		problem.Hint = hint(err)
	}
	return problem
}

// hint is for errors whose cause is not the statement but the server, or the moment at which it ran.
func hint(err *pq.Error) string {
	switch {
	case err.Code == "42501" && strings.HasSuffix(err.Message, "schema tinydevcrm"):
		return "The role of DATABASE_URL is no user of TinyDevCRM. An administrator makes it one: grant tinydevcrm_user to …"
	case err.Code == "25006":
		return "The server is a standby, or is set read-only. DATABASE_URL must name the primary."
	case err.Code == "53300":
		return "All connections are in use. Try again later, or raise max_connections."
	case err.Code == "55P03":
		return "Another session has locked it. Try again in a moment."
	case err.Code == "53100":
		return "The server's disk is full. Free some space and try again."
	case err.Code == "57P03" || err.Code == "57P01":
		return "The server is starting or shutting down. Try again in a moment."
	case err.Code == "57014" && strings.Contains(err.Message, "statement timeout"):
		return "The role or database has a statement_timeout. Remove it with: alter role … reset statement_timeout"
	}
	return ""
}

// pointAt returns the line of a query that holds a character, counted from 1, with a mark below that character,
// as psql does.
func pointAt(query string, position int) string {
	characters := []rune(query)
	if position < 1 || position > len(characters)+1 {
		return ""
	}
	before, after := string(characters[:position-1]), string(characters[position-1:])
	number := 1 + strings.Count(before, "\n")
	before = before[1+strings.LastIndexByte(before, '\n'):]
	before = strings.ReplaceAll(before, "\t", " ")
	label := fmt.Sprintf("LINE %d: ", number)
	blanks := strings.Repeat(" ", len(label)+utf8.RuneCountInString(before))
	return label + before + firstLine(after) + "\n" + blanks + "^"
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
