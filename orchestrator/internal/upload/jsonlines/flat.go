package jsonlines

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// parseFlat reads the fields of an object of which the keys are known and the values are not nested, in one go. It returns
// false when parse must read the object: then there is something else in it, or it is no JSON. Numbers and texts are what
// parse makes of them.
func (r *Reader) parseFlat(text []byte) bool {
	if text[0] != '{' || !utf8.Valid(text) {
		return false
	}
	at := skipBlanks(text, 1)
	for next := 0; ; next++ {
		var isKnown bool
		if next, at, isKnown = r.flatKey(text, at, next); !isKnown {
			return false
		}
		if at = skipBlanks(text, at); at == len(text) || text[at] != ':' {
			return false
		}
		if at = r.flatValue(text, skipBlanks(text, at+1), next); at < 0 {
			return false
		}
		at = skipBlanks(text, at)
		switch {
		case at == len(text):
			return false
		case text[at] == '}':
			return at == len(text)-1
		case text[at] != ',':
			return false
		}
		at = skipBlanks(text, at+1)
	}
}

func skipBlanks(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r') {
		at++
	}
	return at
}

// flatKey finds the column of the key at a place. Objects mostly have their keys in the same order, so likely is looked at
// first.
func (r *Reader) flatKey(text []byte, at, likely int) (column, end int, isKnown bool) {
	if likely < len(r.keys) && bytes.HasPrefix(text[at:], r.keys[likely].written) {
		column, end = likely, at+len(r.keys[likely].written)
	} else {
		if at == len(text) || text[at] != '"' {
			return 0, 0, false
		}
		// Keys with escapes are those of parse.
		end = textEnd(text, at+1)
		if end == len(text) || text[end] != '"' {
			return 0, 0, false
		}
		end++
		if column, isKnown = r.byKey[string(text[at:end])]; !isKnown {
			return 0, 0, false
		}
	}
	if r.keys[column].seen == r.count || r.keys[column].isJSON {
		return 0, 0, false
	}
	r.keys[column].seen = r.count
	return column, end, true
}

// flatValue reads the value at a place into a field. It returns where it ends; -1 when parse must read it.
func (r *Reader) flatValue(text []byte, at, column int) (end int) {
	if at == len(text) {
		return -1
	}
	field, key := &r.record.Fields[column], &r.keys[column]
	key.kind = isOther
	switch b := text[at]; {
	case b == '"':
		field.IsQuoted = true
		field.Text, end = r.flatText(text, at+1)
		return end
	case b == '-' || isDigit(b):
		var hasExponent bool
		if end, hasExponent = numberEnd(text, at); end < 0 {
			return -1
		}
		field.Text = text[at:end]
		if hasExponent || b == '-' && text[at+1] == '0' {
			from := len(r.values)
			r.values = appendNumber(r.values, field.Text)
			field.Text = r.values[from:]
		}
		return end
	case bytes.HasPrefix(text[at:], []byte("true")):
		end = at + len("true")
	case bytes.HasPrefix(text[at:], []byte("false")):
		end = at + len("false")
	case bytes.HasPrefix(text[at:], []byte("null")):
		key.kind = isNull
		return at + len("null")
	default:
		return -1
	}
	field.Text = text[at:end]
	return end
}

// flatText reads a text after its quote, at the place where it begins.
func (r *Reader) flatText(text []byte, at int) (value []byte, end int) {
	begin, from := at, len(r.values)
	for {
		end := textEnd(text, at)
		switch {
		case end == len(text):
			return nil, -1
		case text[end] == '"' && at == begin:
			return text[at:end], end + 1
		case text[end] == '"':
			r.values = append(r.values, text[at:end]...)
			return r.values[from:], end + 1
		case text[end] != '\\' || end+1 == len(text):
			return nil, -1
		}
		r.values = append(r.values, text[at:end]...)
		if at = r.unescape(text, end+1); at < 0 {
			return nil, -1
		}
	}
}

// unescape appends the character of an escape after its backslash. It returns the place after it; -1 for half a character
// and for what is no text.
func (r *Reader) unescape(text []byte, at int) int {
	escaped := text[at]
	switch escaped {
	case '"', '\\', '/':
	case 'b':
		escaped = '\b'
	case 'f':
		escaped = '\f'
	case 'n':
		escaped = '\n'
	case 'r':
		escaped = '\r'
	case 't':
		escaped = '\t'
	case 'u':
		if len(text) < at+5 {
			return -1
		}
		var unit [2]byte
		if _, err := hex.Decode(unit[:], text[at+1:at+5]); err != nil {
			return -1
		}
		character := rune(unit[0])<<8 | rune(unit[1])
		if character == 0 || utf16.IsSurrogate(character) {
			return -1
		}
		r.values = utf8.AppendRune(r.values, character)
		return at + 5
	default:
		return -1
	}
	r.values = append(r.values, escaped)
	return at + 1
}

// textEnd is the place of the next quote, backslash or control character. It looks at eight bytes at a time, as in Sean
// Eron Anderson's Bit Twiddling Hacks.
func textEnd(text []byte, at int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; at+8 <= len(text); at += 8 {
		word := binary.LittleEndian.Uint64(text[at:])
		quotes, backslashes := word^('"'*ones), word^('\\'*ones)
		found := ((quotes-ones)&^quotes | (backslashes-ones)&^backslashes | (word-' '*ones)&^word) & highs
		if found != 0 {
			return at + bits.TrailingZeros64(found)/8
		}
	}
	for at < len(text) && text[at] != '"' && text[at] != '\\' && text[at] >= ' ' {
		at++
	}
	return at
}

func isDigit(b byte) bool { return b-'0' <= 9 }

// numberEnd is where the number of JSON at a place ends; -1 when it is none.
func numberEnd(text []byte, at int) (end int, hasExponent bool) {
	if text[at] == '-' {
		at++
	}
	digits := func() (isThere bool) {
		from := at
		for at < len(text) && isDigit(text[at]) {
			at++
		}
		return at > from
	}
	if at < len(text) && text[at] == '0' {
		at++
	} else if !digits() {
		return -1, false
	}
	if at < len(text) && text[at] == '.' {
		if at++; !digits() {
			return -1, false
		}
	}
	if at < len(text) && text[at]|0x20 == 'e' {
		hasExponent = true
		if at++; at < len(text) && (text[at] == '+' || text[at] == '-') {
			at++
		}
		if !digits() {
			return -1, false
		}
	}
	return at, hasExponent
}
