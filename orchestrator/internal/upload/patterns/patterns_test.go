package patterns_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/patterns"
)

var some = []patterns.Pattern{
	{Accepts: `^(?:true|false)$`},
	{Accepts: `^(?:0|-?[1-9][0-9]{0,3})$`},
	{Accepts: `^(?:0|-?[1-9][0-9]*)$`, MaxLength: 6},
	{Accepts: `^(?:-?[0-9]+(?:\.[0-9]{1,3})?)$`},
	{Accepts: `^(?:[0-9a-f]{2}(?:-[0-9a-f]{2}){2})$`},
	{Accepts: `^$`},
	{Accepts: ``},
}

// The standard library is the oracle.
func FuzzMatch(f *testing.F) {
	set, err := patterns.Compile(some)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		"", "0", "-1", "12345", "1234567", "1.5", "1.2345", "true", "True", "false ", "aa-bb-cc", "é", "1\n", "-", "00",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := set.Match([]byte(text))
		for i, pattern := range some {
			want := regexp.MustCompile(pattern.Accepts).MatchString(text) &&
				(pattern.MaxLength == 0 || len(text) <= pattern.MaxLength)
			if accepts := got&(1<<i) != 0; accepts != want {
				t.Errorf("%q accepts %q: got %v, want %v", pattern.Accepts, text, accepts, want)
			}
		}
	})
}

func TestCompileRefuses(t *testing.T) {
	for name, refused := range map[string][]patterns.Pattern{
		"no anchor":              {{Accepts: "a"}},
		"a wide character":       {{Accepts: "^é$"}},
		"any character":          {{Accepts: "^.$"}},
		"a broken expression":    {{Accepts: "^($"}},
		"more than a mask holds": make([]patterns.Pattern, patterns.MaxPatterns+1),
	} {
		if _, err := patterns.Compile(refused); err == nil {
			t.Errorf("%s: it compiles", name)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	set, err := patterns.Compile(some)
	if err != nil {
		b.Fatal(err)
	}
	texts := [][]byte{[]byte("true"), []byte("-1234"), []byte("1.25"), []byte("12-34-ab"), []byte(strings.Repeat("x", 40))}
	for b.Loop() {
		for _, text := range texts {
			set.Match(text)
		}
	}
}
