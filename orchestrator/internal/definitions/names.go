package definitions

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	viewsFolder = "views"
	viewEnding  = ".sql"
)

// reserved are names that Windows gives to devices, with any ending.
var reserved = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$`)

// viewPath is the file of a view. Characters that a file system refuses, or that it or Git may change, are written as
// %XX; with hidesCase capital letters too.
func viewPath(schema, name string, hidesCase bool) string {
	return path.Join(viewsFolder, encode(schema, hidesCase), encode(name, hidesCase)+viewEnding)
}

func encode(name string, hidesCase bool) string {
	isReserved := reserved.MatchString(name)
	isNormal := norm.NFC.IsNormalString(name)
	var b strings.Builder
	for i, r := range name {
		isEdge := i == 0 || i+len(string(r)) == len(name)
		isPlain := r == '_' || r == '-' || r == '.' && !isEdge ||
			(unicode.IsLetter(r) || unicode.IsDigit(r)) && (r < unicode.MaxASCII || isNormal)
		if isPlain && !(i == 0 && isReserved) && !(hidesCase && unicode.ToLower(r) != r) {
			b.WriteRune(r)
			continue
		}
		for _, octet := range []byte(string(r)) {
			fmt.Fprintf(&b, "%%%02X", octet)
		}
	}
	return b.String()
}

// viewPaths gives each view a file. Views whose names differ only in case have files whose names differ in more.
func viewPaths(views []Definition) []string {
	same := make(map[string]int)
	for _, view := range views {
		same[strings.ToLower(viewPath(view.Schema, view.Relname, false))]++
	}
	paths := make([]string, len(views))
	for i, view := range views {
		paths[i] = viewPath(view.Schema, view.Relname, false)
		if same[strings.ToLower(paths[i])] > 1 {
			paths[i] = viewPath(view.Schema, view.Relname, true)
		}
	}
	return paths
}

// readViewPath is the view of a file: the path without its ending, in which %XX is a byte.
func readViewPath(file string) (schema *string, name string, err error) {
	parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(file, viewsFolder+"/"), viewEnding), "/")
	for i, part := range parts {
		decoded, err := url.PathUnescape(part)
		if err != nil || decoded == "" || !utf8.ValidString(decoded) || strings.ContainsRune(decoded, 0) {
			return nil, "", refuse(file, 0, "A % that is part of a name is written as %25.", "this is not the file of a view")
		}
		parts[i] = decoded
	}
	switch len(parts) {
	case 1:
		return nil, parts[0], nil
	case 2:
		return &parts[0], parts[1], nil
	}
	return nil, "", refuse(file, 0, "Write it as views/NAME.sql or views/SCHEMA/NAME.sql.", "this is not the file of a view")
}
