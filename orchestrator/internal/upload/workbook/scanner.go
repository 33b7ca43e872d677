package workbook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

const (
	firstRead = 64 << 10
	// maxToken bounds a tag or a text. Excel has at most 32,767 characters in a cell.
	maxToken = 16 << 20
)

// A token of XML.
type token int

const (
	isStart token = iota + 1
	isEnd
	isText
)

// A scanner reads the tags and texts of an XML file. It takes a sixth of the time of encoding/xml, which would be most of
// that of an import. It reads what Office Open XML allows: no document type, no entities of its own, no namespaces of which
// the prefix matters.
type scanner struct {
	source io.Reader
	buffer []byte
	start  int // of what is not read yet
	atEnd  bool

	// name is that of the tag, without prefix; tag has its attributes. text is that of a text.
	name, tag, text []byte
	// isClosed means that a tag ends itself, so that its end comes next.
	isClosed bool
	unquoted []byte
}

func newScanner(source io.Reader) *scanner { return &scanner{source: source} }

var errMore = errors.New("more is needed")

// next reads a token. It returns io.EOF after the last one. What it returns is valid until the next.
func (s *scanner) next() (token, error) {
	if s.isClosed {
		s.isClosed = false
		return isEnd, nil
	}
	for {
		kind, length, err := s.parse(s.buffer[s.start:])
		switch {
		case err == nil:
			s.start += length
			if kind != 0 {
				return kind, nil
			}
		case !errors.Is(err, errMore):
			return 0, err
		case s.atEnd && len(bytes.TrimSpace(s.buffer[s.start:])) == 0:
			return 0, io.EOF
		case s.atEnd:
			return 0, io.ErrUnexpectedEOF
		case len(s.buffer)-s.start >= maxToken:
			return 0, fmt.Errorf("a text or tag is longer than %d MB", maxToken>>20)
		default:
			if err := s.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// fill reads until the buffer has twice as much to parse.
func (s *scanner) fill() error {
	rest := s.buffer[s.start:]
	wanted := max(2*len(rest), firstRead)
	if cap(s.buffer) < wanted {
		s.buffer = append(make([]byte, 0, wanted), rest...)
	} else {
		s.buffer = s.buffer[:copy(s.buffer[:cap(s.buffer)], rest)]
	}
	s.start = 0
	n, err := io.ReadFull(s.source, s.buffer[len(s.buffer):cap(s.buffer)])
	s.buffer = s.buffer[:len(s.buffer)+n]
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.atEnd, err = true, nil
	}
	return err
}

// parse reads the token at the beginning of data; 0 is for one that means nothing.
func (s *scanner) parse(data []byte) (kind token, length int, err error) {
	if len(data) == 0 {
		return 0, 0, errMore
	}
	if data[0] != '<' {
		end := bytes.IndexByte(data, '<')
		if end < 0 {
			return 0, 0, errMore
		}
		s.text, err = s.unescape(data[:end])
		return isText, end, err
	}
	if len(data) < 2 {
		return 0, 0, errMore
	}
	switch data[1] {
	case '?':
		return s.past(data, "?>")
	case '!':
		return s.parseMark(data)
	case '/':
		end := bytes.IndexByte(data, '>')
		if end < 0 {
			return 0, 0, errMore
		}
		s.name = localName(bytes.TrimSpace(data[2:end]))
		return isEnd, end + 1, nil
	}
	end := endOfTag(data)
	if end < 0 {
		return 0, 0, errMore
	}
	tag := data[1:end]
	if s.isClosed = tag[len(tag)-1] == '/'; s.isClosed {
		tag = tag[:len(tag)-1]
	}
	name := 0
	for name < len(tag) && !isBlank(tag[name]) {
		name++
	}
	s.name, s.tag = localName(tag[:name]), tag[name:]
	return isStart, end + 1, nil
}

// parseMark reads a comment, or text that needs no escapes.
func (s *scanner) parseMark(data []byte) (token, int, error) {
	const begin = "<![CDATA["
	switch {
	case bytes.HasPrefix(data, []byte("<!--")):
		return s.past(data, "-->")
	case bytes.HasPrefix(data, []byte(begin)):
		_, length, err := s.past(data, "]]>")
		if err == nil {
			s.text = data[len(begin) : length-len("]]>")]
		}
		return isText, length, err
	case len(data) < len(begin):
		return 0, 0, errMore
	}
	return 0, 0, errors.New("it has a document type")
}

func (s *scanner) past(data []byte, end string) (token, int, error) {
	at := bytes.Index(data, []byte(end))
	if at < 0 {
		return 0, 0, errMore
	}
	return 0, at + len(end), nil
}

// endOfTag finds the > that is not in quotes; -1 when there is none.
func endOfTag(data []byte) int {
	for at := 1; at < len(data); at++ {
		switch data[at] {
		case '>':
			if at == 1 {
				return -1
			}
			return at
		case '"', '\'':
			length := bytes.IndexByte(data[at+1:], data[at])
			if length < 0 {
				return -1
			}
			at += length + 1
		}
	}
	return -1
}

func localName(name []byte) []byte { return name[bytes.IndexByte(name, ':')+1:] }

// attribute returns the text of an attribute, whose name has no prefix; nil when there is none.
func (s *scanner) attribute(name string) []byte {
	for rest := s.tag; ; {
		rest = trimLeft(rest)
		at := 0
		for at < len(rest) && rest[at] != '=' && !isBlank(rest[at]) {
			at++
		}
		found := rest[:at]
		rest = trimLeft(rest[at:])
		if len(rest) == 0 || rest[0] != '=' {
			return nil
		}
		if rest = trimLeft(rest[1:]); len(rest) == 0 {
			return nil
		}
		end := 1
		for end < len(rest) && rest[end] != rest[0] {
			end++
		}
		if end == len(rest) {
			return nil
		}
		if string(found) == name {
			return rest[1:end]
		}
		rest = rest[end+1:]
	}
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }

func trimLeft(text []byte) []byte {
	for len(text) > 0 && isBlank(text[0]) {
		text = text[1:]
	}
	return text
}

// unescape replaces the five entities and those that are numbers.
func (s *scanner) unescape(text []byte) ([]byte, error) {
	if bytes.IndexByte(text, '&') < 0 {
		return text, nil
	}
	s.unquoted = s.unquoted[:0]
	for {
		at := bytes.IndexByte(text, '&')
		if at < 0 {
			s.unquoted = append(s.unquoted, text...)
			return s.unquoted, nil
		}
		s.unquoted = append(s.unquoted, text[:at]...)
		end := bytes.IndexByte(text[at:], ';')
		if end < 0 {
			return nil, errors.New("an & without its ;")
		}
		char, isKnown := entity(string(text[at+1 : at+end]))
		if !isKnown {
			return nil, fmt.Errorf("an unknown entity &%s;", text[at+1:at+end])
		}
		s.unquoted = utf8.AppendRune(s.unquoted, char)
		text = text[at+end+1:]
	}
}

func entity(name string) (char rune, isKnown bool) {
	switch name {
	case "amp":
		return '&', true
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	if len(name) < 2 || name[0] != '#' {
		return 0, false
	}
	digits, base := name[1:], 10
	if digits[0] == 'x' || digits[0] == 'X' {
		digits, base = digits[1:], 16
	}
	code, err := strconv.ParseUint(digits, base, 21)
	return rune(code), err == nil
}
