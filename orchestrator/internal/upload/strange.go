package upload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/words"
)

// checkText refuses a file that is of another kind, and says which: its beginning shows that.
func checkText(sample []byte) error {
	for _, kind := range []struct{ begins, name, hint string }{
		{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", "In Excel: File, Save As, CSV UTF-8."},
		{"%PDF-", "a PDF", "Ask for the data as CSV."},
		{"PAR1", "a Parquet file", "Convert it: duckdb -c \"copy 'FILE' to 'FILE.csv'\"."},
		{"SQLite format 3\x00", "an SQLite database", "Export a table: sqlite3 -csv -header FILE 'select * from TABLE'."},
		{"BZh", "compressed by bzip2", "Unpack it: bunzip2 FILE."},
		{"\xfd7zXZ\x00", "compressed by xz", "Unpack it: unxz FILE."},
		{"\x28\xb5\x2f\xfd", "compressed by zstd", "Unpack it: unzstd FILE."},
		{"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it, and import the CSV files in it."},
		{"{\\rtf", "an RTF document", "Save it as CSV."},
	} {
		if bytes.HasPrefix(sample, []byte(kind.begins)) {
			return strange(kind.name, kind.hint)
		}
	}
	if bytes.HasPrefix(sample, []byte("PK\x03\x04")) {
		return strangeZip(sample)
	}
	start := strings.ToLower(string(bytes.TrimLeft(bytes.TrimPrefix(sample[:min(len(sample), 1000)], []byte("\ufeff")), " \t\r\n")))
	for _, tag := range []string{"<!doctype html", "<html", "<table", "<head", "<body"} {
		if strings.HasPrefix(start, tag) {
			return strange("HTML", "It may be a page that asks for a log-in. Download the CSV itself, or save the table as CSV.")
		}
	}
	if strings.HasPrefix(start, "<?xml") {
		return strange("XML", "Save it as CSV.")
	}
	return nil
}

// strangeZip names what a zip archive holds, as far as the sample shows its files.
func strangeZip(sample []byte) error {
	var names []string
	for rest := sample; ; {
		at := bytes.Index(rest, []byte("PK\x03\x04"))
		if at < 0 || len(rest) < at+30 {
			break
		}
		rest = rest[at:]
		length := int(binary.LittleEndian.Uint16(rest[26:]))
		if len(rest) < 30+length {
			break
		}
		names = append(names, string(rest[30:30+length]))
		rest = rest[30+length:]
	}
	has := func(prefix string) bool {
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	}
	switch {
	case has("xl/"):
		return strange("an Excel workbook", "In Excel: File, Save As, CSV UTF-8.")
	case has("word/"):
		return strange("a Word document", "Save its table as CSV.")
	case has("mimetype") && bytes.Contains(sample[:min(len(sample), 200)], []byte("opendocument.spreadsheet")):
		return strange("an OpenDocument spreadsheet", "In LibreOffice: File, Save As, Text CSV.")
	}
	names = withoutFolders(names)
	what := "a zip of " + words.Count(int64(len(names)), "file")
	if len(sample) == sampleSize {
		what = "a zip"
	}
	if len(names) > 0 {
		what += fmt.Sprintf(": %s", printable([]byte(strings.Join(names[:min(len(names), 5)], ", "))))
	}
	return strange(what, "Unpack it, and import the CSV files in it.")
}

func withoutFolders(names []string) []string {
	var files []string
	for _, name := range names {
		if !strings.HasSuffix(name, "/") {
			files = append(files, name)
		}
	}
	return files
}

func strange(what, hint string) error {
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD005",
		Message: "this is no CSV file; it is " + what,
		Hint:    hint,
	}
}
