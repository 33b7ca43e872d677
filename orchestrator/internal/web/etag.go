package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
)

// tagOf returns an entity tag that changes with any of its parts.
func tagOf(parts ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// isKnown reports whether the client already has the version with this tag.
func isKnown(r *http.Request, tag string) bool {
	for given := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		given = strings.TrimPrefix(strings.TrimSpace(given), "W/")
		if given == tag || given == "*" {
			return true
		}
	}
	return false
}

// look changes with the templates and static files, because they change the look of pages.
func look() string {
	hash := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(path)
		fmt.Fprintf(hash, "%q", content)
		return err
	})
	if err != nil {
		panic(err) // they were there when the program was compiled
	}
	return hex.EncodeToString(hash.Sum(nil))
}
