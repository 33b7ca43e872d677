package upload_test

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

func TestOptionType(t *testing.T) {
	tests := []struct {
		name  string
		given []string
		// want is nil when the options are refused.
		want map[string]string
	}{
		{"one", []string{"zip=text"}, map[string]string{"zip": "text"}},
		{"several in one", []string{"zip=text; amount=numeric(10,2)"},
			map[string]string{"zip": "text", "amount": "numeric(10,2)"}},
		{"several of them", []string{"zip=text", "amount=numeric"}, map[string]string{"zip": "text", "amount": "numeric"}},
		{"the last one counts", []string{"n=text;n=integer", "n=bigint"}, map[string]string{"n": "bigint"}},
		{"blanks around all", []string{`  zip = text ; "a;b" = integer `}, map[string]string{"zip": "text", "a;b": "integer"}},
		{"a semicolon at the end", []string{"zip=text; "}, map[string]string{"zip": "text"}},
		{"an equals sign in a name", []string{"a=b=text"}, map[string]string{"a=b": "text"}},
		{"a blank within a name", []string{"post code=text"}, map[string]string{"post code": "text"}},
		{"a quoted name", []string{`"a;b"=text;"say ""x"""=text; zip=text`},
			map[string]string{"a;b": "text", `say "x"`: "text", "zip": "text"}},
		{"quoted blanks", []string{`" a "=text`}, map[string]string{" a ": "text"}},
		{"equals signs in quotes", []string{`"a=b;c=d"=integer`}, map[string]string{"a=b;c=d": "integer"}},
		{"a quoted quote before an equals sign", []string{`"a""=b"=text`}, map[string]string{`a"=b`: "text"}},
		{"nothing but a quote", []string{`""""=text`}, map[string]string{`"`: "text"}},
		{"letters of several bytes", []string{`"größe;€"=numeric`}, map[string]string{"größe;€": "numeric"}},
		{"a quote within a plain name", []string{`a"b=text`}, map[string]string{`a"b`: "text"}},

		{"nothing between semicolons", []string{"zip=text;;n=text"}, nil},
		{"no type", []string{"zip"}, nil},
		{"an empty type", []string{"zip="}, nil},
		{"a blank type", []string{"zip= ;n=text"}, nil},
		{"no name", []string{"=text"}, nil},
		{"an empty quoted name", []string{`""=text`}, nil},
		{"a quote that does not close", []string{`"zip=text`}, nil},
		{"a quote that closes twice", []string{`"zip""=text`}, nil},
		{"text after the quote", []string{`"zip"x=text`}, nil},
		{"a quoted name alone", []string{`"zip"`}, nil},
		{"a quote alone", []string{`"`}, nil},
		{"one of them broken", []string{`zip=text;"n`}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request, err := upload.NewRequest("x.csv", url.Values{"type": test.given})
			if test.want == nil {
				var refused *db.UserError
				if !errors.As(err, &refused) || refused.Status != 422 || refused.Code != "TD007" ||
					!strings.Contains(refused.Hint, "column=type") {
					t.Errorf("it gives %v, %v", request.Types, err)
				}
				return
			}
			if err != nil || !maps.Equal(request.Types, test.want) {
				t.Errorf("it gives %v, %v, want %v", request.Types, err, test.want)
			}
		})
	}
}

func TestOptionKey(t *testing.T) {
	request, err := upload.NewRequest("x.csv", url.Values{"key": {"a, b", "c"}})
	if err != nil || !slices.Equal(request.Key, []string{"a", "b", "c"}) {
		t.Errorf("the key is %v, %v", request.Key, err)
	}
}
