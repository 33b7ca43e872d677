package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
)

// TagOf returns an entity tag that changes with any of its parts.
func TagOf(parts ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// IsKnown reports whether the client already has the version with this tag.
func IsKnown(r *http.Request, tag string) bool {
	for given := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		given = strings.TrimPrefix(strings.TrimSpace(given), "W/")
		if given == tag || given == "*" {
			return true
		}
	}
	return false
}
