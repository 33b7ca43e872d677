package upload

import (
	"bytes"
	"io"
	"strings"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/dialect"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/jsonlines"
)

const linesFormat, listFormat = "jsonl", "json"

// isJSONLines reports whether the first line is an object of JSON. By its name alone, a file is one when nothing in it
// says otherwise.
func isJSONLines(sample []byte, named string) bool {
	start := startOf(sample)
	first, _, isWhole := bytes.Cut(start, []byte{'\n'})
	if !bytes.HasPrefix(start, []byte{'{'}) {
		return named == linesFormat && !bytes.HasPrefix(start, []byte{'['})
	}
	record, err := jsonlines.NewReader(bytes.NewReader(first), jsonlines.Options{IsByLine: true}).Next()
	return err == nil && record.Fault == "" || !isWhole && len(sample) == sampleSize && hasObject(start)
}

// isJSON reports whether a file begins with an object of several lines, or with a list of objects.
func isJSON(sample []byte, named string) bool {
	start := startOf(sample)
	inList, isList := bytes.CutPrefix(start, []byte{'['})
	inList = bytes.TrimLeft(inList, " \t\r\n")
	switch {
	case isList && len(inList) > 0 && (inList[0] == ']' || hasObject(inList)):
		return true
	case hasObject(start):
		// What follows the first line shows that this is no cell of a CSV file.
		rest := bytes.TrimLeft(start[1:], " \t")
		return len(rest) > 0 && (rest[0] == '\n' || rest[0] == '\r') || named == listFormat || named == linesFormat
	}
	return named == listFormat
}

// hasObject reports whether a text begins like an object: with a key, or with none.
func hasObject(start []byte) bool {
	rest, isObject := bytes.CutPrefix(start, []byte{'{'})
	rest = bytes.TrimLeft(rest, " \t\r\n")
	return isObject && len(rest) > 0 && (rest[0] == '"' || rest[0] == '}')
}

// startOf is the beginning of a text of JSON in UTF-8.
func startOf(sample []byte) []byte {
	text, _, err := transform.Bytes(unicode.BOMOverride(transform.Nop), sample)
	if err != nil && text == nil {
		return nil
	}
	return bytes.TrimLeft(text, " \t\r\n\x1e")
}

func openJSONLines(text io.Reader, request Request) (namedReader, error) {
	return openJSON(text, request, true)
}

func openJSONList(text io.Reader, request Request) (namedReader, error) {
	return openJSON(text, request, false)
}

func openJSON(text io.Reader, request Request, isByLine bool) (namedReader, error) {
	options := jsonlines.Options{
		IsByLine: isByLine,
		IsJSON: func(key string) bool {
			given := strings.ToLower(request.Types[key])
			return given == "json" || given == "jsonb"
		},
	}
	decoded := io.Reader(transform.NewReader(text, unicode.BOMOverride(transform.Nop)))
	if request.Encoding != "" {
		var err error
		if decoded, options.IsDecoded, err = dialect.Decode(text, request.Encoding); err != nil {
			return nil, err
		}
	}
	return jsonlines.NewReader(withoutMarks(decoded), options), nil
}
