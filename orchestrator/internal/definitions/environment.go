package definitions

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// reference is ${NAME}, and what looks like one: $${ stands for ${.
var reference = regexp.MustCompile(`\$?\$\{[^}]*\}?`)

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// An expander replaces references to the environment, and remembers which are not set.
type expander struct {
	getenv  func(string) string
	missing []string
}

// expand replaces the references in a value. where names the place of the value.
func (e *expander) expand(where, text string) (string, bool) {
	isValid := true
	expanded := reference.ReplaceAllStringFunc(text, func(found string) string {
		if strings.HasPrefix(found, "$$") {
			return found[1:]
		}
		named := variable.FindStringSubmatch(found)
		if named == nil {
			isValid = false
			return found
		}
		value := e.getenv(named[1])
		if value == "" {
			e.missing = append(e.missing, where+": "+named[1]+" is not set")
		}
		return value
	})
	return expanded, isValid
}

// problem is the error that names the variables that are not set; nil when all are.
func (e *expander) problem() error {
	if len(e.missing) == 0 {
		return nil
	}
	return &db.UserError{
		Status:  http.StatusBadRequest,
		Message: "the environment lacks what the files refer to",
		Detail:  strings.Join(e.missing, "\n"),
		Hint:    "Set these variables, from your store of secrets.",
	}
}
