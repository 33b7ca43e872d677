package jsonlines_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/jsonlines"
)

// pieces are what lines are made of, right and wrong ones.
var pieces = []string{`"a"`, `"b"`, `"é"`, `"\u0061"`, `"c\"d"`, `:`, `,`, `{`, `}`, `[`, `]`, ` `, "\t", "\r", "\x01", "\x00", `null`, `true`,
	`false`, `tru`, `nulll`, `0`, `-0`, `-0.0`, `01`, `-`, `1.`, `.5`, `1.50`, `1e3`, `1E+2`, `-2e-7`, `1e`, `12345678901234567890`,
	`""`, `"007"`, `"x\n\t\b\f\r\/\\\""`, `"\u00e9"`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\u12"`, `"\u00zz"`, `"\x"`, `"\`, `"open`,
	"\"\xff\"", `"😀 long enough for several words of eight"`, `"a quote in the ninth \" place"`}

// objects makes a line, mostly an object.
func object(r *rand.Rand) string {
	pick := func() string { return pieces[r.IntN(len(pieces))] }
	var b strings.Builder
	if r.IntN(8) == 0 {
		for range r.IntN(12) {
			b.WriteString(pick())
		}
		return b.String()
	}
	b.WriteString("{")
	for i, key := range []string{`"a"`, `"b"`, `"é"`, `"c\"d"`} {
		if i > 0 {
			b.WriteString([]string{",", ",", ", ", " ,\t"}[r.IntN(4)])
		}
		if r.IntN(15) == 0 {
			key = pick()
		}
		b.WriteString(key + []string{":", ":", ": ", " : "}[r.IntN(4)] + pick())
	}
	b.WriteString("}")
	if r.IntN(20) == 0 {
		b.WriteString(pick())
	}
	return b.String()
}

// The quick way reads what the tokens say: the same fields, faults and columns, for right and wrong lines.
func TestFlatObjectsAreReadAsByTokens(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(25, 7))
	lines := []string{`{"a":1,"b":2,"é":3,"c\"d":4}`}
	for range 100_000 {
		lines = append(lines, object(r))
	}
	text := strings.Join(lines, "\n")
	for _, isJSON := range []func(string) bool{nil, func(key string) bool { return key == "b" }} {
		options := jsonlines.Options{IsByLine: true, IsJSON: isJSON}
		quick, byTokens := jsonlines.NewReader(strings.NewReader(text), options), jsonlines.NewReader(strings.NewReader(text), options)
		for {
			got, err := quick.Next()
			want, wantErr := byTokens.NextByTokens()
			if errors.Is(err, io.EOF) && errors.Is(wantErr, io.EOF) {
				break
			}
			if err != nil || wantErr != nil {
				t.Fatal(err, wantErr)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%q is read as\n%v %q, by tokens as\n%v %q", got.Raw, got.Fields, got.Fault, want.Fields, want.Fault)
			}
		}
		if got, want := fmt.Sprint(quick.Columns()), fmt.Sprint(byTokens.Columns()); got != want {
			t.Errorf("%s, by tokens %s", got, want)
		}
	}
}

// Usual objects go the quick way.
func TestUsualObjectsAreFlat(t *testing.T) {
	t.Parallel()
	reader := jsonlines.NewReader(strings.NewReader(`{"a":1,"b":2}`), jsonlines.Options{IsByLine: true})
	if _, err := reader.Next(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		`{"a":1.5,"b":"x"}`:                  true,
		`{ "b" : null , "a" : "é\u00e9\n" }`: true,
		`{"b":false}`:                        true,
		`{"a":1e5,"b":-0}`:                   true,
		`{}`:                                 false,
		`{"a":1,"a":2}`:                      false,
		`{"a":[1]}`:                          false,
		`{"c":1}`:                            false,
	} {
		if got := reader.IsFlat(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
