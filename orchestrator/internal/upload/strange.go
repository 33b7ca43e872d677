package upload

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// checkText refuses a file that is of another kind, and says which: its beginning shows that.
func checkText(sample []byte) error {
	for _, kind := range []struct{ begins, name, hint string }{
		{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", "In Excel: File, Save As, Excel Workbook (xlsx) or CSV UTF-8."},
		{"%PDF-", "a PDF", "Ask for the data as CSV."},
		{"SQLite format 3\x00", "an SQLite database", "Export a table: sqlite3 -csv -header FILE 'select * from TABLE'."},
		{"\xfd7zXZ\x00", "compressed by xz", "Unpack it: unxz FILE."},
		{"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it, and import the CSV files in it."},
		{"{\\rtf", "an RTF document", "Save it as CSV."},
	} {
		if bytes.HasPrefix(sample, []byte(kind.begins)) {
			return strange(kind.name, kind.hint)
		}
	}
	if what, hint := documentIn(sample); what != "" {
		return strange(what, hint)
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

const workbookDocument = "an Excel workbook"

// documentIn names the document that a zip archive holds, as far as the sample shows its files; empty when it is none.
func documentIn(sample []byte) (what, hint string) {
	if !bytes.HasPrefix(sample, []byte("PK\x03\x04")) {
		return "", ""
	}
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
		return workbookDocument, "Leave out --format csv."
	case has("word/"):
		return "a Word document", "Save its table as CSV."
	case has("mimetype") && bytes.Contains(sample[:min(len(sample), 200)], []byte("opendocument.spreadsheet")):
		return "an OpenDocument spreadsheet", "In LibreOffice: File, Save As, Excel (xlsx) or Text CSV."
	}
	return "", ""
}

func strange(what, hint string) error {
	return &db.UserError{
		Status:  http.StatusUnprocessableEntity,
		Code:    "TD005",
		Message: "this is no CSV file; it is " + what,
		Hint:    hint,
	}
}
