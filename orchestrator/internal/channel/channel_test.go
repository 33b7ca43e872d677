package channel_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

// Each receiver takes each message, by the rules that it documents; testdata shows how they look.
func TestReceiversTakeWhatTheyDocument(t *testing.T) {
	tx, urls := created(t)
	if len(urls) != len(rules) {
		t.Fatalf("%d formats are tested, there are %d", len(rules), len(urls))
	}
	for format, of := range urls {
		r := receive(t, format, rules[format])
		at := r.at(t, of)
		for name, c := range cases() {
			t.Run(format+"/"+name, func(t *testing.T) {
				if err := send(t.Context(), format, at, notification(t, tx, format, c)); err != nil {
					t.Errorf("refused: %v\n%s", err, r.got.body)
				}
				compare(t, filepath.Join("testdata", format, name+".json"), r.got.body)
			})
		}
		for name, c := range long() {
			t.Run(format+"/"+name, func(t *testing.T) {
				if err := send(t.Context(), format, at, notification(t, tx, format, c)); err != nil {
					t.Errorf("refused: %v\n%.3000s", err, r.got.body)
				}
			})
		}
	}
}

func compare(t *testing.T, path string, body []byte) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, body, "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs; go test -update writes it anew:\n%s", path, got.Bytes())
	}
}

// The rows of a message are those of the event, in order, up to where the receiver's limit is.
func TestRowsAreCutWithTheirNumber(t *testing.T) {
	tx, urls := created(t)
	for format, of := range urls {
		if format == "json" {
			// It has the whole event.
			continue
		}
		t.Run(format, func(t *testing.T) {
			r := receive(t, format, rules[format])
			rows := rowsOf(200)
			c := testCase{event: event{"outcome": "refreshed", "row_count": 5000, "columns": []string{"number", "customer"}, "rows": rows}}
			if err := send(t.Context(), format, r.at(t, of), notification(t, tx, format, c)); err != nil {
				t.Fatal(err)
			}
			shown := strings.Count(string(r.got.body), "Birch")
			if shown < 5 || !strings.Contains(string(r.got.body), "and "+number(5000-shown)+" more") {
				t.Errorf("%d rows are shown, and not how many more:\n%s", shown, r.got.body)
			}
		})
	}
}

func number(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}
