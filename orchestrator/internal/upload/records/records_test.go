package records_test

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/records"
)

func readAll(t *testing.T, source io.Reader, dialect records.Dialect) (fields [][]string, lines []int64, err error) {
	t.Helper()
	reader := records.NewReader(source, dialect, false)
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return fields, lines, nil
		}
		if err != nil {
			return fields, lines, err
		}
		var row []string
		for _, field := range record.Fields {
			row = append(row, string(field.Text))
		}
		fields = append(fields, row)
		lines = append(lines, record.Line)
	}
}

var comma = records.Dialect{Delimiter: ",", Quote: '"'}

func TestNext(t *testing.T) {
	blank := records.Dialect{Delimiter: ", ", Quote: '"'}
	backslash := records.Dialect{Delimiter: ";", Quote: '"', Escape: '\\'}
	cr := records.Dialect{Delimiter: ",", Quote: '\'', EndsInCR: true}
	tests := []struct {
		name    string
		dialect records.Dialect
		text    string
		fields  [][]string
		lines   []int64
	}{
		{"nothing", comma, "", nil, nil},
		{"lines", comma, "a,b\n1,2", [][]string{{"a", "b"}, {"1", "2"}}, []int64{1, 2}},
		{"CRLF", comma, "a\r\n\r\nb\r\n", [][]string{{"a"}, {""}, {"b"}}, []int64{1, 2, 3}},
		{"a last delimiter", comma, "a,\n,", [][]string{{"a", ""}, {"", ""}}, []int64{1, 2}},
		{"quotes", comma, "\"a\",\"b,\"\n\"\"\"\",\"\"", [][]string{{"a", "b,"}, {`"`, ""}}, []int64{1, 2}},
		{"lines in quotes", comma, "\"a\n\nb\",c\nd,e", [][]string{{"a\n\nb", "c"}, {"d", "e"}}, []int64{1, 4}},
		{"quotes within", comma, "a\"b,\" c\"\n", [][]string{{`a"b`, ` c`}}, []int64{1}},
		{"text after a quote", comma, "\"a\"b\"c,d\n", [][]string{{`ab"c`, "d"}}, []int64{1}},
		{"a carriage return in a line", comma, "a\rb,c\n", [][]string{{"a\rb", "c"}}, []int64{1}},
		{"a comma and a blank", blank, "a, b,c, \"d, e\"\n", [][]string{{"a", "b,c", "d, e"}}, []int64{1}},
		{"backslashes", backslash, `"a\"b";"c\\";"d\e";f\"g`, [][]string{{`a"b`, `c\`, `d\e`, `f\"g`}}, []int64{1}},
		{"doubled in spite of backslashes", backslash, `"a""b";""`, [][]string{{`a"b`, ""}}, []int64{1}},
		{"CR", cr, "a,'b\n'\rc,d\r\ne,f\r", [][]string{{"a", "b\n"}, {"c", "d"}, {"e", "f"}}, []int64{1, 3, 4}},
		{"CR and LF", cr, "a\r1\r2\n3\r\n4\r", [][]string{{"a"}, {"1"}, {"2"}, {"3"}, {"4"}}, []int64{1, 2, 3, 4, 5}},
		{"several carriage returns", comma, "a,b\r\r\n\"1\",\"2\"\r\r\n3,4\r\r", [][]string{{"a", "b"}, {"1", "2"}, {"3", "4"}}, []int64{1, 2, 3}},
		{"blanks around quotes", records.Dialect{Delimiter: ",", Quote: '"', HasBlanks: true}, "a,  \"b, c\" , d\n \"x\"\n",
			[][]string{{"a", "b, c", " d"}, {"x"}}, []int64{1, 2}},
		{"no quote", records.Dialect{Delimiter: "\t"}, "0\t\"\n0\t!\n0\t\"\n", [][]string{{"0", `"`}, {"0", "!"}, {"0", `"`}}, []int64{1, 2, 3}},
		{"a long delimiter", records.Dialect{Delimiter: "|~|", Quote: '"'}, "a|~|b|\n\"x|~|y\"|~|2", [][]string{{"a", "b|"}, {"x|~|y", "2"}}, []int64{1, 2}},
		{"a delimiter of two bytes", records.Dialect{Delimiter: "¦", Quote: '"'}, "a¦Âb\n1¦2", [][]string{{"a", "Âb"}, {"1", "2"}}, []int64{1, 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for how, source := range map[string]io.Reader{
				"at once":      strings.NewReader(test.text),
				"by the byte":  iotest.OneByteReader(strings.NewReader(test.text)),
				"with the end": iotest.DataErrReader(strings.NewReader(test.text)),
			} {
				fields, lines, err := readAll(t, source, test.dialect)
				if err != nil || !reflect.DeepEqual(fields, test.fields) || !reflect.DeepEqual(lines, test.lines) {
					t.Errorf("%s: got %q on lines %d, %v; want %q on %d", how, fields, lines, err, test.fields, test.lines)
				}
			}
		})
	}
}

func TestOpenQuote(t *testing.T) {
	_, _, err := readAll(t, strings.NewReader("a,b\n1,\"x\ny\"\n2,\"\n3,4\n"), comma)
	var open *records.OpenQuoteError
	if !errors.As(err, &open) || open.Line != 4 || open.IsLong {
		t.Errorf("got %v, want an open quote on line 4", err)
	}
}

func TestTooManyFields(t *testing.T) {
	wide := strings.Repeat(",", records.MaxFields)
	_, _, err := readAll(t, strings.NewReader("a\n"+wide+"\n"), comma)
	var tooWide *records.WideError
	if !errors.As(err, &tooWide) || tooWide.Line != 2 {
		t.Errorf("got %v, want line 2 as too wide", err)
	}
}

func TestSkipLinesTakesCRLFAsOne(t *testing.T) {
	reader := records.NewReader(iotest.OneByteReader(strings.NewReader("title\r\n\r\na\r1\r")),
		records.Dialect{Delimiter: ",", Quote: '"', EndsInCR: true}, false)
	if err := reader.SkipLines(2); err != nil {
		t.Fatal(err)
	}
	if record, err := reader.Next(); err != nil || string(record.Raw) != "a" || record.Line != 3 {
		t.Errorf("got %+v, %v", record, err)
	}
}

func TestSourceFails(t *testing.T) {
	broken := errors.New("broken")
	source := io.MultiReader(strings.NewReader("a\nb\nc"), iotest.ErrReader(broken))
	fields, _, err := readAll(t, source, comma)
	if !errors.Is(err, broken) || len(fields) > 2 {
		t.Errorf("got %q and %v, want two records and %v", fields, err, broken)
	}
}

func TestIsBad(t *testing.T) {
	reader := records.NewReader(strings.NewReader("a\n\x00\n\xff\né\n"), comma, false)
	for _, want := range []bool{false, true, true, false} {
		record, err := reader.Next()
		if err != nil || record.IsBad != want {
			t.Errorf("%q: got %v, %v, want %v", record.Raw, record.IsBad, err, want)
		}
	}
}
