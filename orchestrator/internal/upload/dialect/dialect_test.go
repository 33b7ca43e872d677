package dialect_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/dialect"
)

// shown is a dialect without its encoding, in one line.
func shown(d dialect.Dialect) string {
	var delimiter strings.Builder
	encoder := json.NewEncoder(&delimiter)
	encoder.SetEscapeHTML(false)
	encoder.Encode(d.Delimiter)
	parts := []string{strings.TrimSpace(delimiter.String()), d.Quote, d.Escape, d.LineEnd, "f", fmt.Sprint(d.SkipLines)}
	if d.HasHeader {
		parts[4] = "t"
	}
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}

// find fails the test when a text is refused.
func find(t *testing.T, text string, given dialect.Given) dialect.Dialect {
	t.Helper()
	found, err := dialect.Find([]byte(text), given)
	if err != nil {
		t.Fatalf("%q is refused: %v", text, err)
	}
	return found
}

// Each sample: the text, and what it has: delimiter, quote, escape, line end, whether there is a header, lines above it.
func samples() []struct{ name, text, want string } {
	return []struct{ name, text, want string }{
		{"commas", "a,b\n1,2\n", "\",\" \" \" LF t 0"},
		{"no line end at the end", "a,b\n1,2", "\",\" \" \" LF t 0"},
		{"semicolons", "a;b\n1;2\n3;4\n", "\";\" \" \" LF t 0"},
		{"semicolons and quoted decimal commas", "a;b\n\"1,5\";2\n\"1,6\";3\n", "\";\" \" \" LF t 0"},
		{"semicolons and decimal commas", "a;b\n1,5;2,25\n1,6;3,75\n", "\";\" \" \" LF t 0"},
		{"semicolons and decimal commas only", "1,5;2,5\n1,6;3,7\n", "\";\" \" \" LF f 0"},
		{"semicolons and sentences", "1;One, two, three\n2;Four, five, six\n", "\";\" \" \" LF f 0"},
		{"tabs", "a\tb\n1\t2\n", "\"\\t\" \" \" LF t 0"},
		{"tabs and blanks", "id\tfull name\n1\tJohn Smith\n2\tJane Doe\n", "\"\\t\" \" \" LF t 0"},
		{"tabs and commas", "city\tpeople\nParis, France\t2,102,650\nBonn, Germany\t330,579\n", "\"\\t\" \" \" LF t 0"},
		{"bars", "id|name|note\n1|Ann|x, y\n2|Bob|z\n", "\"|\" \" \" LF t 0"},
		{"bars around times", "at|what\n2024-01-31 10:00:00|a;b\n2024-02-01 11:00:00|c;d\n", "\"|\" \" \" LF t 0"},
		{"blanks", "x y\n1 2.5\n3 4.5\n", "\" \" \" \" LF t 0"},
		{"blanks and a quoted name", "name age\n\"Ann Lee\" 31\nBob 7\n", "\" \" \" \" LF t 0"},
		{"commas and blanks", "name, age\nAnn, 31\nBob, 7\n", "\", \" \" \" LF t 0"},
		{"commas and blanks and quotes", "name, age\n\"Lee, Ann\", 31\n\"Day,Bob\", 7\n", "\", \" \" \" LF t 0"},
		{"some blanks after commas", "name,note\nAnn, hello\nBob, bye\n", "\",\" \" \" LF t 0"},
		{"two blanks after a comma", "name, age\nAnn,  31\nBob, 7\n", "\",\" \" \" LF t 0"},
		{"one comma and blank", "name, age\n", "\",\" \" \" LF t 0"},
		{"a delimiter at the end of each record but the header", "a,b\n1,2,\n3,4,\n5,6,\n", "\",\" \" \" LF t 0"},
		{"records of different widths", "a,b,c\n1,2,3\n4,5\n6,7,8\n", "\",\" \" \" LF t 0"},
		{"an empty last column", "a,b,c\n1,2,\n3,4,\n", "\",\" \" \" LF t 0"},
		{"one column", "name\nAnn\nBob\n", "\",\" \" \" LF t 0"},
		{"one column of names with commas", "name\nSmith, John\nDoe, Jane\n", "\";\" \" \" LF t 0"},
		{"one column of addresses", "address\n1 Main St, Springfield, IL\n2 Oak St, Shelby, OH\n3 Elm St, Ogden, UT\n", "\";\" \" \" LF t 0"},
		{"one column of quoted commas", "name\n\"Smith, John\"\n\"Doe, Jane\"\n", "\",\" \" \" LF t 0"},
		{"one column with every delimiter", "note\na, b\nc; d\ne|f\ng\th\n", "\"\\u001f\" \" \" LF t 0"},
		{"one column of two words", "full name\nJohn Smith\nJane Doe\n", "\",\" \" \" LF t 0"},
		{"one column of numbers", "1\n2\n3\n", "\",\" \" \" LF f 0"},
		{"one column of decimal commas", "amount\n1,5\n2,25\n", "\";\" \" \" LF t 0"},
		{"one column of times", "2024-01-31 10:00:00\n2024-02-01 11:00:00\n", "\",\" \" \" LF f 0"},
		{"one column of times under two words", "Start time\n2024-01-31 10:00\n2024-02-01 11:00\n", "\",\" \" \" LF t 0"},
		{"one column with a blank line in it", "name\nAnn\n\nBob\n", "\",\" \" \" LF t 0"},
		{"one word", "x", "\",\" \" \" LF t 0"},
		{"line feeds in quotes", "id,note\n1,\"two\nlines\"\n2,\"three\n\nlines, yes\"\n", "\",\" \" \" LF t 0"},
		{"a line feed in a quoted name", "\"two\nlines\",b\n1,2\n", "\",\" \" \" LF t 0"},
		{"everything quoted", "\"a\";\"b\"\r\n\"1\";\"2\"\r\n", "\";\" \" \" CRLF t 0"},
		{"doubled quotes", "a,b\n\"say \"\"hi\"\"\",1\n\"say \"\"ho\"\", he said\",2\n", "\",\" \" \" LF t 0"},
		{"apostrophes", "'a','b'\n'x, y','1'\n'it''s','2'\n", "\",\" ' ' LF t 0"},
		{"one column in apostrophes", "'name'\n'a, b'\n'c, d'\n", "\",\" ' ' LF t 0"},
		{"apostrophes in words", "a,b\nit's,1\ndon't,2\n", "\",\" \" \" LF t 0"},
		{"apostrophes before words", "a,b\n'tis,1\n'twas,2\n", "\",\" \" \" LF t 0"},
		{"apostrophes in quotes", "a,b\n\"'x'\",'y'\n\"z\",'w'\n", "\",\" \" \" LF t 0"},
		{"inches", "screen,price\n15\" wide,1\n17\" wide,2\n", "\",\" \" \" LF t 0"},
		{"backslashes before quotes", "a,b\n\"say \\\"hi\\\", he said\",1\n\"no\",2\n", "\",\" \" \\ LF t 0"},
		{"a backslash before the last quote", "a,b\n\"\\\"hi\\\"\",1\n\"say \\\"ho\\\"\",2\n", "\",\" \" \\ LF t 0"},
		{"backslashes in JSON", "id;doc\n1;\"{\\\"a\\\": 1, \\\"b\\\": [2]}\"\n2;\"{}\"\n", "\";\" \" \\ LF t 0"},
		{"folders of Windows", "dir,n\n\"C:\\dir\\\",1\n\"D:\\x\\\",2\n", "\",\" \" \" LF t 0"},
		{"folders of Windows beside doubled quotes", "dir,n\n\"C:\\dir\\\",\"say \"\"x\"\"\"\n\"D:\\x\\\",\"y\"\n", "\",\" \" \" LF t 0"},
		{"CRLF", "a,b\r\n1,2\r\n", "\",\" \" \" CRLF t 0"},
		{"CRLF and line feeds in quotes", "\"a\nb\",c\r\n1,\"x\ny\"\r\n", "\",\" \" \" CRLF t 0"},
		{"LF and CRLF in quotes", "\"a\r\nb\",c\n1,2\n", "\",\" \" \" LF t 0"},
		{"CR", "a,b\r1,2\r3,4\r", "\",\" \" \" CR t 0"},
		{"CR and line feeds in quotes", "a,b\r1,\"x\ny\"\r3,4\r", "\",\" \" \" CR t 0"},
		{"CR in a cell", "a,b\nx\ry,2\nz,4\n", "\",\" \" \" LF t 0"},
		{"text only", "name,city\nAnn,Rome\nBob,Oslo\n", "\",\" \" \" LF t 0"},
		{"numbers only", "1,2\n3,4\n", "\",\" \" \" LF f 0"},
		{"the index of pandas", ",a,b\n0,x,1.5\n1,y,2.5\n", "\",\" \" \" LF t 0"},
		{"a nameless series of pandas", ",0\n0,1.5\n1,2.5\n", "\",\" \" \" LF f 0"},
		{"a value missing from the first row", "1,\n2,5\n3,6\n", "\",\" \" \" LF f 0"},
		{"a word in the first row", "2024-01-01,err\n2024-01-02,5\n2024-01-03,6\n", "\",\" \" \" LF f 0"},
		{"sep= and a letter", "sep=x\nfoo\nbar\n", "\",\" \" \" LF t 0"},
		{"CRLF above a table of CR", "title\r\n\r\na,b,c\r1,2,3\r4,5,6\r7,8,9\r10,11,12\r", "\",\" \" \" CR t 2"},
		{"years as names", "Country,2019,2020\nFrance,1.5,2.5\nItaly,3.5,4.5\n", "\",\" \" \" LF t 0"},
		{"years as values", "2019,5.5\n2020,6.5\n", "\",\" \" \" LF f 0"},
		{"dates without a header", "Ann,2024-01-31\nBob,2024-02-01\n", "\",\" \" \" LF f 0"},
		{"dates with a header", "who,31.01.2024\nAnn,1\nBob,2\n", "\",\" \" \" LF t 0"},
		{"booleans", "true,p\nfalse,q\n", "\",\" \" \" LF f 0"},
		{"uuids", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,p\nb0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12,q\n", "\",\" \" \" LF f 0"},
		{"missing numbers", "a,b\nNA,x\n,y\n3,z\n", "\",\" \" \" LF t 0"},
		{"a header only", "id,name,born\n", "\",\" \" \" LF t 0"},
		{"one record of numbers", "1,2.5,2024-01-31\n", "\",\" \" \" LF f 0"},
		{"one record with a number", "1,Ann\n", "\",\" \" \" LF f 0"},
		{"one record with years", "Country,2019,2020\n", "\",\" \" \" LF t 0"},
		{"blank lines", "\n \n\na,b\n1,2\n", "\",\" \" \" LF t 3"},
		{"blank lines above one column", "\r\n\r\nname\r\nAnn\r\n", "\",\" \" \" CRLF t 2"},
		{"sep=", "sep=;\r\na;b\r\n1,5;2\r\n", "\";\" \" \" CRLF t 1"},
		{"sep= against the look of it", "sep=|\na,b\n1,2\n", "\"|\" \" \" LF t 1"},
		{"sep= and a tab in quotes", "\"sep=\t\"\na\tb\n1\t2\n", "\"\\t\" \" \" LF t 1"},
		{"sep= and a title", "sep=,\nSales\n\na,b\n1,2\n3,4\n5,6\n", "\",\" \" \" LF t 3"},
		{"a title", "Sales of 2024\nid,name,price\n1,x,2.5\n2,y,3.5\n", "\",\" \" \" LF t 1"},
		{"a title and a blank line", "Sales, all of them\n\nid,name,price\n1,x,2.5\n2,y,3.5\n", "\",\" \" \" LF t 2"},
		{"a title above two columns", "Sales\n\nid,price\n1,2.5\n2,3.5\n", "\",\" \" \" LF t 2"},
		{"a title that a spreadsheet padded", "Sales,,\n,,\nid,name,price\n1,x,2.5\n2,y,3.5\n", "\",\" \" \" LF t 2"},
		{"a title of two lines in quotes", "\"Sales\nof 2024\"\nid,name,price\n1,x,2.5\n2,y,3.5\n", "\",\" \" \" LF t 2"},
		{"a bank statement", "Kontoauszug\r\n\"IBAN:\";\"DE02 1203\"\r\n\"Stand vom:\";\"31.01.2024\"\r\n\r\n\"Tag\";\"Empfänger\";\"Betrag\"\r\n\"30.01.2024\";\"Müller, Ann\";\"-1.234,50\"\r\n\"31.01.2024\";\"Bäcker\";\"-4,20\"\r\n", "\";\" \" \" CRLF t 4"},
		{"comments", "# made by x, y, z\n# on 2024-01-31\nid,name\n1,x\n2,y\n", "\",\" \" \" LF t 2"},
		{"a header that looks like a comment", "##made by x\n#id\tname\n1\tx\n2\ty\n", "\"\\t\" \" \" LF t 1"},
		{"colours", "#ffffff,white\n#000000,black\n", "\",\" \" \" LF t 0"},
		{"records of other widths above the table", "some title\nversion,1.1\npos,52.2,-174.2\nDate,North,East,Up,Q\n2007-05-10,3.0,1.5,2.5,1\n2007-05-11,3.1,1.6,2.6,1\n", "\",\" \" \" LF t 3"},
		{"comments within", "x,y,z\n# a\n1,2,3\n# b\n# c\n4,5,6\n", "\",\" \" \" LF t 0"},
		{"more comments than records", "# a\n# b, c\n# d\n# e\nx,y\n1,2\n", "\",\" \" \" LF t 4"},
		{"a comment as wide as the table", "# made, today\nx,y\n1,2\n3,4\n", "\",\" \" \" LF t 1"},
		{"a comment that is the header", "# x,y\n1,2\n3,4\n", "\",\" \" \" LF t 0"},
		{"names and values that a spreadsheet padded", "From:,2024-01-01,,\nTo:,2024-01-31,,\nid,name,price,tax\n1,x,2.5,1\n2,y,3.5,1\n", "\",\" \" \" LF t 2"},
		{"a header with nameless columns", "id,name,,\n1,x,3,4\n2,y,5,6\n3,z,7,8\n", "\",\" \" \" LF t 0"},
		{"row names without a name", "a,b\nr1,1,2\nr2,3,4\nr3,5,6\n", "\",\" \" \" LF t 0"},
		{"a line feed in a quoted name below a title", "Sales\n\"Day\n(UTC)\",n,m\n2024-01-31,1,2\n2024-02-01,3,4\n", "\",\" \" \" LF t 1"},
		{"double bars", "id||name||n\n1||x||2\n3||y||4\n", "\"||\" \" \" LF t 0"},
		{"bars and a wave", "id|~|name\n1|~|x\n2|~|y, z\n", "\"|~|\" \" \" LF t 0"},
		{"an empty column between bars", "1||2\n3||4\n", "\"|\" \" \" LF f 0"},
		{"double colons", "1::31::2.5\n1::32::3.0\n", "\"::\" \" \" LF f 0"},
		{"waves", "id~name\n1~x\n2~y\n", "\"~\" \" \" LF t 0"},
		{"broken bars", "id¦name\n1¦x\n2¦y\n", "\"¦\" \" \" LF t 0"},
		{"control characters", "id\x01name\n1\x01x\n2\x01y\n", "\"\\u0001\" \" \" LF t 0"},
		{"colons", "root:x:0:/root\nann:x:1000:/home/ann\n", "\":\" \" \" LF f 0"},
		{"one column of times of day", "10:00:00\n11:30:00\n", "\",\" \" \" LF f 0"},
		{"one cell in apostrophes", "id,title\n1,Changes\n2,'Heroes'\n", "\",\" \" \" LF t 0"},
		{"one column of apostrophes among others", "id,title\n1,'Changes'\n2,'Heroes'\n", "\",\" \" \" LF t 0"},
		{"a column in apostrophes, with its name", "id,'title'\n1,'Changes'\n2,'Heroes'\n", "\",\" ' ' LF t 0"},
		{"quotes that begin cells and end none", "0\t\"\n0\t!\n0\t\"\n", "\"\\t\" LF f 0"},
		{"a line feed and a delimiter in quotes", "a,b\n1,\"x\n2,y\"\n", "\",\" \" \" LF t 0"},
		{"two carriage returns before a line feed", "a,b\r\r\n1,2\r\r\n", "\",\" \" \" CRLF t 0"},
		{"carriage returns and a line feed", "a\r1\r2\n3\r4\r", "\",\" \" \" CR t 0"},
		{"too few records below a title", "Sales\n\nid,name,price\n", "\";\" \" \" LF t 0"},
	}
}

func TestFind(t *testing.T) {
	for _, sample := range samples() {
		t.Run(sample.name, func(t *testing.T) {
			found := find(t, sample.text, dialect.Given{})
			if got := shown(found); got != sample.want {
				t.Fatalf("%q: got %s, want %s", sample.text, got, sample.want)
			}

			// What was found can be given, and a byte order mark changes nothing.
			given := dialect.Given{Delimiter: found.Delimiter, Quote: found.Quote, Escape: found.Escape,
				HasHeader: &found.HasHeader, SkipLines: &found.SkipLines}
			if given.Quote == "" {
				given.Quote = "none"
			}
			if got := shown(find(t, "\ufeff"+sample.text, given)); got != sample.want {
				t.Errorf("%q, given that: got %s, want %s", sample.text, got, sample.want)
			}
		})
	}
}

func TestFindWithGiven(t *testing.T) {
	is := func(value bool) *bool { return &value }
	lines := func(count int) *int { return &count }
	for _, test := range []struct {
		name, text string
		given      dialect.Given
		want       string
	}{
		{"a delimiter", "a;b,c\n1;2,3\n", dialect.Given{Delimiter: ","}, "\",\" \" \" LF t 0"},
		{"tab", "a;b\n1;2\n", dialect.Given{Delimiter: "tab"}, "\"\\t\" \" \" LF t 0"},
		{"TAB", "a;b\n1;2\n", dialect.Given{Delimiter: "TAB"}, "\"\\t\" \" \" LF t 0"},
		{"\\t", "a;b\n1;2\n", dialect.Given{Delimiter: "\\t"}, "\"\\t\" \" \" LF t 0"},
		{"space", "a;b\n1;2\n", dialect.Given{Delimiter: "space"}, "\" \" \" \" LF t 0"},
		{"comma and blank", "a,b\n1,2\n", dialect.Given{Delimiter: ", "}, "\", \" \" \" LF t 0"},
		{"a delimiter of its own kind", "a^b\n1^2\n", dialect.Given{Delimiter: "^"}, "\"^\" \" \" LF t 0"},
		{"a delimiter and a title", "Sales\n\na~b\n1~2\n3~4\n", dialect.Given{Delimiter: "~"}, "\"~\" \" \" LF t 2"},
		{"a delimiter against sep=", "sep=;\na,b\n1,2\n", dialect.Given{Delimiter: ","}, "\",\" \" \" LF t 1"},
		{"an apostrophe", "a,b\n'x;y',1\n'z',2\n", dialect.Given{Quote: "'"}, "\",\" ' ' LF t 0"},
		{"a quote that would delimit", "a|b\n1|2\n", dialect.Given{Quote: "|"}, "\",\" | | LF t 0"},
		{"doubled quotes", "a,b\n\"\\\"x\\\"\",1\n", dialect.Given{Escape: "\""}, "\",\" \" \" LF t 0"},
		{"a backslash", "a,b\n\"x\",1\n", dialect.Given{Escape: "\\"}, "\",\" \" \\ LF t 0"},
		{"another escape", "a,b\n\"x^\"y, z\",1\n\"w\",2\n", dialect.Given{Escape: "^"}, "\",\" \" ^ LF t 0"},
		{"no header", "a,b\n1,2\n", dialect.Given{HasHeader: is(false)}, "\",\" \" \" LF f 0"},
		{"a header", "1,2\n3,4\n", dialect.Given{HasHeader: is(true)}, "\",\" \" \" LF t 0"},
		{"no lines to skip", "Sales\n\na,b\n1,2\n3,4\n5,6\n", dialect.Given{Delimiter: ",", SkipLines: lines(0)}, "\",\" \" \" LF t 0"},
		{"lines to skip", "x;y\nz\na,b\n1,2\n", dialect.Given{SkipLines: lines(2)}, "\",\" \" \" LF t 2"},
		{"lines to skip, up to a value", "a,b\n1,2\n3,4\n", dialect.Given{SkipLines: lines(1)}, "\",\" \" \" LF f 1"},
		{"sep= among the lines to skip", "sep=|\nx\na|b,c\n1|2,3\n", dialect.Given{SkipLines: lines(2)}, "\"|\" \" \" LF t 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := shown(find(t, test.text, test.given)); got != test.want {
				t.Errorf("%q: got %s, want %s", test.text, got, test.want)
			}
		})
	}
}

func TestFindEncodings(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"ASCII", "a,b", "UTF8"},
		{"UTF-8", "caf\xc3\xa9,b\n", "UTF8"},
		{"UTF-8 with a mark", "\xef\xbb\xbf\xc3\xa9,b\n", "UTF8"},
		{"Windows-1252", "caf\xe9,\x80\n", "WIN1252"},
		{"Windows-1252 with a byte that it has not", "a,b\xe9\n\x81,c\n", "WIN1252"},
		{"Windows-1252, German", "a,b\nM\xfcller,K\xf6ln\n", "WIN1252"},
		{"Windows-1251", "\xe8\xec\xff,b\n\xc8\xe2\xe0\xed,1\n", "WIN1251"},
		{"Windows-1250", "a,b\nJi\xf8\xed,\xa3\xf3d\x9f\n", "WIN1250"},
		{"Mac Roman", "a,b\nM\x9fller,K\x9aln\nJos\x8e,n\n", "MACINTOSH"},
		{"Shift JIS", "\x96\xbc\x91O,b\n\x91\xbe\x98Y,\x93\x8c\x8b\x9e\n\x82\xb3\x82\xad\x82\xe7,1\n", "SJIS"},
		{"GBK", "\xd0\xd5\xc3\xfb,b\n\xd5\xc5\xc8\xfd,\xb1\xb1\xbe\xa9\n", "GBK"},
		{"bytes of no language", "a,b\noo\xff\xffg,1\n", "WIN1252"},
		{"one letter", "a,b\n1\xa9", "WIN1252"},
		{"UTF-16 without a mark", "a\x00,\x00b\x00\n\x00\xe9\x00,\x001\x00\n\x00", "UTF16LE"},
		{"UTF-16 without a mark, big end first", "\x00a\x00,\x00b\x00\n\x00\xe9\x00,\x001\x00\n", "UTF16BE"},
		{"UTF-16, little end first", "\xff\xfea\x00,\x00b\x00\n\x00\xe9\x00,\x001\x00\n\x00", "UTF16LE"},
		{"UTF-16, big end first", "\xfe\xff\x00a\x00,\x00b\x00\n\x00\xe9\x00,\x001\x00\n", "UTF16BE"},
		{"UTF-8 cut within a character", "a,b\n\xc3\xa9,\xc3", "UTF8"},
		{"UTF-8 cut within its only character", "a,b\n1\xe2\x82", "UTF8"},
		{"UTF-16 cut within a character", "\xff\xfea\x00,\x00b\x00\n\x00\xe9", "UTF16LE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if found := find(t, test.text, dialect.Given{}); found.Encoding != test.want || found.Delimiter != "," {
				t.Errorf("got %s, delimiter %q, want %s", found.Encoding, found.Delimiter, test.want)
			}
		})
	}

	for _, name := range []string{"LATIN1", "LATIN9", "WIN1250", "windows-1252", "WIN866", "KOI8R", "ISO_8859_5", "EUC_JP", "SJIS",
		"GB18030", "Utf8"} {
		if found := find(t, "a;b\n1;2\n", dialect.Given{Encoding: name}); found.Encoding != name || found.Delimiter != ";" {
			t.Errorf("given %s: got %s, delimiter %q", name, found.Encoding, found.Delimiter)
		}
	}

	// In Shift JIS, the second byte of a character may be that of a bar.
	if found := find(t, "\x82|,\x83|\n\x92|,\x94|\n\x96|,\x97|\n", dialect.Given{Encoding: "SJIS"}); found.Delimiter != "," {
		t.Errorf("the sample is not read in the encoding that is given: delimiter %q", found.Delimiter)
	}
	for _, given := range []string{"", "UTF16LE"} {
		text := "a\x00;\x00b\x00\n\x001\x00;\x002\x00"
		if given == "" {
			text = "\xff\xfe" + text
		}
		if got := shown(find(t, text, dialect.Given{Encoding: given})); got != `";" " " LF t 0` {
			t.Errorf("UTF-16, given %q: got %s", given, got)
		}
	}
	bad := strings.Repeat("N,Orléans\n", 100) + "K\xf6ln,1\n"
	if found := find(t, bad, dialect.Given{}); found.Encoding != "UTF8" {
		t.Errorf("one bad byte makes it %s", found.Encoding)
	}
}

func TestFindWarns(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a language", "a,b\nM\xfcller,K\xf6ln\n", ""},
		{"letters of no language", "a,b\n\x81\xff,1", "the encoding is a guess: "},
		{"a column that has delimiters", "note\na, b\nc, d\n", "the file has one column: "},
		{"a column", "note\nx\ny\n", ""},
		{"two line ends", "a\r1\r2\n3\r4\r", "some lines end in CR and some in LF"},
		{"one line", "id,name\n", "the file has one line, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(find(t, test.text, dialect.Given{}).Warnings, "|")
			if (got == "") != (test.want == "") || !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFindBlanksAroundQuotes(t *testing.T) {
	for text, want := range map[string]bool{
		"a,b\n1, \"x, y\"\n2,z\n": true, "a,b\n1, x\n2,z\n": false, "a,b\n1, \"x\" y\n2,z\n": false,
	} {
		if got := find(t, text, dialect.Given{}).HasBlanks; got != want {
			t.Errorf("%q: got %t", text, got)
		}
	}
}

// A sample may end anywhere.
func TestFindInCutSamples(t *testing.T) {
	for text, want := range map[string]string{
		"id,note,n\n1,\"a, b\",2\n2,\"three; four; five\nsix|seven, ei":                   `"," " " LF t 0`,
		"id,note,n\n1,\"a; b\nc; d\n":                                                     `"," " " LF t 0`,
		"\"id\";\"at\"\r\n\"1\";\"2024-01-31\"\r\n\"2\";\"2024-02-01\"\r\n\"3\";\"2024-0": `";" " " CRLF t 0`,
		"a, b\n1, 2\n3, \"four,five":                                                      `", " " " LF t 0`,
	} {
		if got := shown(find(t, text, dialect.Given{})); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	whole := "sep=;\r\n\r\nArt;Größe;Notiz\r\n1;1,5;\"Er sagte \"\"ja\"\", dann; nein\"\r\n" +
		"2;2,5;\"zwei\nZeilen, mehr\"\r\n3;3,5;x\r\n"
	for size := 68; size <= len(whole); size++ {
		found := find(t, whole[:size], dialect.Given{})
		if got := shown(found); found.Encoding != "UTF8" || got != `";" " " CRLF t 2` {
			t.Errorf("the first %d bytes: got %s %s", size, found.Encoding, got)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	lines := func(count int) *int { return &count }
	for _, test := range []struct {
		text          string
		given         dialect.Given
		code, message string
	}{
		{"", dialect.Given{}, "TD005", "the file is empty"},
		{" \t\r\n\n", dialect.Given{}, "TD005", "the file is empty"},
		{"\ufeff\r\n ", dialect.Given{}, "TD005", "the file is empty"},
		{"\xff\xfe \x00\n\x00", dialect.Given{}, "TD005", "the file is empty"},
		{"a,b\n\n", dialect.Given{SkipLines: lines(1)}, "TD005", "the file is empty"},
		{"a,b\n\n", dialect.Given{SkipLines: lines(9)}, "TD005", "the file is empty"},
		{"\x89PNG\r\n\x1a\n\x00\x00\r", dialect.Given{}, "TD005", "the file is not text: it has a byte of value 0"},
		{"\xff\xfea\x00\x00\x00b\x00", dialect.Given{}, "TD005", "the file is not text: it has a byte of value 0"},
		{"a", dialect.Given{Encoding: " "}, "TD007", "the encoding has no name"},
		{"a", dialect.Given{Encoding: "klingon"}, "TD007", `there is no encoding "klingon"`},
		{"a", dialect.Given{Delimiter: "-----------"}, "TD007", `delimiter "-----------" is not one to ten characters`},
		{"a", dialect.Given{Delimiter: ",\""}, "TD007", `delimiter ",\"" has a quote`},
		{"a", dialect.Given{Delimiter: "\n"}, "TD007", `delimiter "\n" is not one to ten characters`},
		{"a", dialect.Given{Delimiter: "'"}, "TD007", `delimiter "'" has a quote`},
		{"a", dialect.Given{Quote: `""`}, "TD007", `quote "\"\"" is not one character`},
		{"a", dialect.Given{Escape: "ab"}, "TD007", `escape "ab" is not one character`},
		{"a", dialect.Given{Delimiter: "|", Quote: "|"}, "TD007", `delimiter and quote are both "|"`},
		{"a", dialect.Given{Delimiter: "|", Escape: "|"}, "TD007", `delimiter and escape are both "|"`},
	} {
		_, err := dialect.Find([]byte(test.text), test.given)
		if err == nil {
			t.Errorf("%q, %+v is not refused", test.text, test.given)
			continue
		}
		if problem := db.Explain(err); problem.Code != test.code || problem.Message != test.message || problem.Hint == "" {
			t.Errorf("%q, %+v: got %+v, want %s %s", test.text, test.given, problem, test.code, test.message)
		}
	}
}
