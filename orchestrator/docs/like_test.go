package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// anything stands for what differs each time.
const anything = "…"

// isLike compares a text with one in which … stands for anything.
func isLike(found, want string) bool {
	if !strings.Contains(want, anything) {
		return found == want
	}
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), anything, `[\s\S]*?`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(found)
}

// differing are times, durations and secrets in JSON.
var differing = regexp.MustCompile(`("(?:[a-z_]+_at|secret)": ?|"duration_ms": ?)(?:"[^"]*"|[0-9.]+)`)

var trailing = regexp.MustCompile(`(?m)[ \t\r]+$`)

// isLikeAnswer compares two answers by their first lines and the JSON that follows.
func isLikeAnswer(found, want string) bool {
	foundHead, foundBody, _ := strings.Cut(found, "\n\n")
	wantHead, wantBody, _ := strings.Cut(want, "\n\n")
	foundJSON, err := readJSON([]byte(foundBody))
	if err != nil {
		return false
	}
	wantJSON, err := readJSON([]byte(wantBody))
	return err == nil && isLike(foundHead, wantHead) && isLikeJSON(foundJSON, wantJSON)
}

func readJSON(text []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	if err == nil && decoder.More() {
		err = fmt.Errorf("more than one value")
	}
	return value, err
}

// isLikeJSON compares values. A text in which … occurs stands for what is like it, and alone for any value but null. A
// key … of an object stands for further ones, and an element … for further elements.
func isLikeJSON(found, want any) bool {
	switch want := want.(type) {
	case string:
		text, isText := found.(string)
		return want == anything && found != nil || isText && isLike(text, want)
	case []any:
		found, isList := found.([]any)
		if isList && len(want) > 0 && want[len(want)-1] == anything && len(found) >= len(want)-1 {
			want = want[:len(want)-1]
			found = found[:len(want)]
		}
		return isList && slices.EqualFunc(found, want, isLikeJSON)
	case map[string]any:
		found, isObject := found.(map[string]any)
		_, hasMore := want[anything]
		if !isObject || !hasMore && len(found) != len(want) {
			return false
		}
		for name, value := range want {
			if has, isThere := found[name]; name != anything && (!isThere || !isLikeJSON(has, value)) {
				return false
			}
		}
		return true
	}
	return found == want
}
