package workbook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// sharedStrings are texts that cells refer to by number.
type sharedStrings struct {
	texts []byte
	ends  []uint32
}

// at returns the text of a number.
func (s *sharedStrings) at(number []byte) ([]byte, error) {
	i, err := strconv.Atoi(string(number))
	if err != nil || i < 0 || i >= len(s.ends) {
		return nil, fmt.Errorf("it has no shared text %q", number)
	}
	start := uint32(0)
	if i > 0 {
		start = s.ends[i-1]
	}
	return s.texts[start:s.ends[i]], nil
}

// readStrings reads the shared texts. A text may consist of several, each with a look of its own; rPh says how it is spoken.
func (w *Workbook) readStrings(name string) error {
	content, err := w.open(name)
	if err != nil {
		return err
	}
	defer content.Close()
	scan := newScanner(content)
	s := &w.strings
	isWanted, isSpoken := false, false
	for {
		kind, err := scan.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case kind == isText && isWanted && !isSpoken:
			s.texts = appendText(s.texts, scan.text)
		case kind == isText:
		case string(scan.name) == "t":
			isWanted = kind == isStart
		case string(scan.name) == "rPh":
			isSpoken = kind == isStart
		case string(scan.name) == "si" && kind == isEnd:
			s.ends = append(s.ends, uint32(len(s.texts)))
		}
		if len(s.texts)+4*len(s.ends) > MaxStrings {
			return fmt.Errorf("the texts that its cells share have more than %d MB; save the sheet as CSV", MaxStrings>>20)
		}
	}
}

// appendText replaces what stands for characters that XML does not have: _x000D_ is a carriage return.
func appendText(to, text []byte) []byte {
	for {
		at := bytes.Index(text, []byte("_x"))
		if at < 0 || len(text) < at+7 {
			return append(to, text...)
		}
		code, err := strconv.ParseUint(string(text[at+2:at+6]), 16, 16)
		if err != nil || text[at+6] != '_' {
			to, text = append(to, text[:at+2]...), text[at+2:]
			continue
		}
		to = utf8.AppendRune(append(to, text[:at]...), rune(code))
		text = text[at+7:]
	}
}
