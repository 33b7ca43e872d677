package jsonlines

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

const firstRead = 256 << 10

// A SyntaxError is the error for a text after which no further object can be found.
type SyntaxError struct {
	Line int64
	What string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// errMore means that the buffer ends within an object.
var errMore = errors.New("more is needed")

// A splitter cuts a text into objects.
type splitter struct {
	source io.Reader
	// isByLine means that each line is an object. Otherwise objects may have several lines, and stand in lists.
	isByLine bool
	isInList bool
	// isAfter means that an object of the list was read, and a comma or the end of the list must follow.
	isAfter bool

	buffer []byte // what has been read and not yet cut
	start  int    // where the rest begins in it
	atEnd  bool
	line   int64 // at start
}

// next returns the text of an object and its line, io.EOF after the last, or a *SyntaxError. The text is valid until
// the next call.
func (s *splitter) next() (text []byte, line int64, err error) {
	for {
		text, line, err = s.cut()
		if !errors.Is(err, errMore) {
			return text, line, err
		}
		if len(s.buffer)-s.start > records.MaxRecord {
			return nil, 0, &SyntaxError{s.line, fmt.Sprintf("an object is longer than %d MB", records.MaxRecord>>20)}
		}
		if err := s.fill(); err != nil {
			return nil, 0, err
		}
	}
}

func (s *splitter) cut() (text []byte, line int64, err error) {
	if s.isByLine {
		return s.cutLine()
	}
	for ; s.start < len(s.buffer); s.start++ {
		switch b := s.buffer[s.start]; {
		case b == '\n':
			s.line++
		case isBlank(b):
		case b == '[' && !s.isInList:
			s.isInList = true
		case b == ']' && s.isInList:
			s.isInList, s.isAfter = false, false
		case b == ',' && s.isAfter:
			s.isAfter = false
		case b == '{' && !s.isAfter:
			return s.cutObject()
		default:
			return nil, 0, s.unexpected(b)
		}
	}
	switch {
	case !s.atEnd:
		return nil, 0, errMore
	case s.isInList:
		return nil, 0, &SyntaxError{s.line, "the list does not close"}
	}
	return nil, 0, io.EOF
}

// isBlank reports whether a byte may stand between values. RFC 7464 has a record separator before each.
func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' || b == 0x1e }

func (s *splitter) unexpected(b byte) error {
	what := "an object must begin here"
	switch {
	case s.isAfter:
		what = "a comma or ] must follow the object"
	case b == '[':
		what = "a list stands where an object must be"
	case b == '"':
		what = "a text stands where an object must be"
	case b == '-' || b >= '0' && b <= '9':
		what = "a number stands where an object must be"
	}
	return &SyntaxError{s.line, what}
}

// cutObject finds the end of the object that begins at start. Whether its text is JSON is seen later.
func (s *splitter) cutObject() (text []byte, line int64, err error) {
	depth, isText := 0, false
	for at := s.start; at < len(s.buffer); at++ {
		b := s.buffer[at]
		switch {
		case isText && b == '\\':
			at++
		case b == '"':
			isText = !isText
		case isText:
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			if depth--; depth > 0 {
				break
			}
			text, line = s.buffer[s.start:at+1], s.line
			s.line += int64(bytes.Count(text, []byte{'\n'}))
			s.start = at + 1
			s.isAfter = s.isInList
			return text, line, nil
		}
	}
	if s.atEnd {
		return nil, 0, &SyntaxError{s.line, "the object does not close"}
	}
	return nil, 0, errMore
}

func (s *splitter) cutLine() (text []byte, line int64, err error) {
	for {
		rest := s.buffer[s.start:]
		end := bytes.IndexByte(rest, '\n')
		switch {
		case end >= 0:
		case !s.atEnd:
			return nil, 0, errMore
		case len(rest) == 0:
			return nil, 0, io.EOF
		default:
			end = len(rest)
		}
		text, line = trimmed(rest[:end]), s.line
		s.start = min(s.start+end+1, len(s.buffer))
		s.line++
		if len(text) > 0 {
			return text, line, nil
		}
	}
}

func trimmed(text []byte) []byte {
	for len(text) > 0 && isBlank(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && isBlank(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	return text
}

// fill reads until the buffer has twice as much, so that a long object is searched only a few times.
func (s *splitter) fill() error {
	rest := s.buffer[s.start:]
	wanted := max(2*len(rest), firstRead)
	if cap(s.buffer) < wanted {
		s.buffer = append(make([]byte, 0, wanted), rest...)
	} else {
		s.buffer = s.buffer[:copy(s.buffer[:cap(s.buffer)], rest)]
	}
	s.start = 0
	n, err := io.ReadAtLeast(s.source, s.buffer[len(s.buffer):cap(s.buffer)], max(len(rest), 1))
	s.buffer = s.buffer[:len(s.buffer)+n]
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.atEnd = true
		return nil
	}
	return err
}
