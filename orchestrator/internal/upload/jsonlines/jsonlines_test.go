package jsonlines_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/jsonlines"
)

// readAll returns the records, each as its line and its fields, and the keys.
func readAll(text io.Reader, options jsonlines.Options) (got, keys string, err error) {
	reader := jsonlines.NewReader(text, options)
	var all []string
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return strings.Join(all, " "), "", err
		}
		shown := fmt.Sprint(record.Line)
		for _, field := range record.Fields {
			text := string(field.Text)
			if field.IsQuoted {
				text = "'" + text + "'"
			}
			shown += "," + text
		}
		if record.Fault != "" {
			shown += "!" + record.Fault
		}
		all = append(all, shown)
	}
	var names []string
	for _, column := range reader.Columns() {
		names = append(names, column.Name)
	}
	return strings.Join(all, " "), strings.Join(names, ","), nil
}

func TestNext(t *testing.T) {
	for _, test := range []struct {
		name, text, want, keys string
		isNotByLine            bool
	}{
		{"nothing", "", "", "", false},
		{"blank lines", "\n \n", "", "", false},
		{"lines", `{"a":1}` + "\n\n" + `{"b":"x","a":null}`, "1,1 3,,'x'", "a,b", false},
		{"no keys", "{}\n{ }", "1 2", "", false},
		{"a list", "[\n{\"a\":1},{\"a\":true}\n,\n{\"a\":\"]\"}]\n", "2,1 2,true 4,']'", "a", true},
		{"lists one after the other", `[{"a":1}] [] [{"a":2}]`, "1,1 1,2", "a", true},
		{"nested", `{"a":{"b":["}","\"{"]}}`, `1,'{"b":["}","\"{"]}'`, "a", false},
		{"several lines an object", "{\n\"a\":\n1}\n{\"a\":2}", "1,1 4,2", "a", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, isByLine := range []bool{false, true} {
				if isByLine && test.isNotByLine {
					continue
				}
				for how, source := range map[string]io.Reader{
					"at once":      strings.NewReader(test.text),
					"by the byte":  iotest.OneByteReader(strings.NewReader(test.text)),
					"with the end": iotest.DataErrReader(strings.NewReader(test.text)),
				} {
					got, keys, err := readAll(source, jsonlines.Options{IsByLine: isByLine})
					if err != nil || got != test.want || keys != test.keys {
						t.Errorf("%s, by line %v: got %s of %s, %v, want %s of %s", how, isByLine, got, keys, err, test.want, test.keys)
					}
				}
			}
		})
	}
}

// A number stays the same, and is written as the ladder knows it.
func TestNumbers(t *testing.T) {
	for written, want := range map[string]string{
		"0": "0", "-0": "0", "-0.00": "0.00", "1.50": "1.50", "-7": "-7", "12345678901234567890123": "12345678901234567890123",
		"1e3": "1e+03", "1E3": "1e+03", "-12.50e+2": "-1.25e+03", "0.001e-7": "1e-10", "0e5": "0", "-0.0E-9": "0",
		"123456789012345678e2": "12345678901234567800", "12345678901234567890.5e-3": "12345678901234567.8905", "12345678901234567891e-25": "0.0000012345678901234567891",
		"1e400": "1" + strings.Repeat("0", 400), "1e9999": "1e9999", "1e99999999999999999999": "1e99999999999999999999",
	} {
		if got, _, err := readAll(strings.NewReader(`{"a":`+written+`}`), jsonlines.Options{}); err != nil || got != "1,"+want {
			t.Errorf("%s: got %s, %v, want %s", written, got, err, want)
		}
	}
}

// A line that is no object brings no keys, and the next one is read.
func TestFaults(t *testing.T) {
	text := `{"a":1}` + "\n" + `{"b":2,"c":` + "\n" + `5` + "\n" + `{"a":3}`
	got, keys, err := readAll(strings.NewReader(text), jsonlines.Options{IsByLine: true})
	if want := "1,1 2,!not JSON: the line ends too early 3,!not an object of JSON 4,3"; err != nil || got != want || keys != "a" {
		t.Errorf("got %s of %s, %v, want %s", got, keys, err, want)
	}
}

// In a list, an object that is no JSON is a fault as long as its brackets match.
func TestFaultsInLists(t *testing.T) {
	got, _, err := readAll(strings.NewReader(`[{"a":1},{"a":x},{"a":2}]`), jsonlines.Options{})
	if err != nil || !strings.HasPrefix(got, "1,1 1,!not JSON: ") || !strings.HasSuffix(got, " 1,2") {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestSourceFails(t *testing.T) {
	broken := errors.New("broken")
	_, _, err := readAll(io.MultiReader(strings.NewReader(`{"a":1}`+"\n"), iotest.ErrReader(broken)), jsonlines.Options{IsByLine: true})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// However a text comes in, it is read in the same way.
func FuzzNext(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `[{"a":[1,{"b":"\u00e4"}]},{}]`, "{\"a\":\n\"\\\"\"}{}", `{"a":-0.0e5}`, "\x1e{}"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, isByLine bool) {
		got, keys, err := readAll(strings.NewReader(text), jsonlines.Options{IsByLine: isByLine})
		again, keysAgain, errAgain := readAll(iotest.OneByteReader(strings.NewReader(text)), jsonlines.Options{IsByLine: isByLine})
		if got != again || keys != keysAgain || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Errorf("at once %s of %s, %v; by the byte %s of %s, %v", got, keys, err, again, keysAgain, errAgain)
		}
	})
}
