package guard

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	excerptLimit = 200
	maxSeconds   = int64(math.MaxInt64 / time.Second)
)

// Explain says in one line why a request has no answer, without its URL, which may hold a token.
func (n *Network) Explain(err error) string {
	var proxy ProxyError
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &proxy):
		return proxy.Error()
	case IsPrivate(err):
		return "the address is private; --allow-webhooks-to allows it"
	case errors.As(err, &name):
		return "the host name cannot be resolved: " + Excerpt(name.Err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no connection within %v", n.connectWithin)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	}
	// The error that wraps the cause says that there was a connection, and to which address.
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		err = cause
	}
	return Excerpt(err.Error())
}

// RetryAfter reads a number of seconds or a date; anything else counts as none.
func RetryAfter(value string, now time.Time) time.Duration {
	// A number that is out of range is returned as the largest or smallest possible one.
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(max(seconds, 0), maxSeconds)) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(date.Sub(now), 0)
}

// Excerpt returns one short line that a terminal and a database accept.
func Excerpt(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if len(text) > excerptLimit {
		text = strings.ToValidUTF8(text[:excerptLimit], "") + "…"
	}
	return text
}
