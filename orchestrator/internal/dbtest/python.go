package dbtest

import (
	"database/sql"
	"testing"
)

// lendPython lets the first role of a rented server create functions in PL/Python, as no provider does.
func lendPython(t testing.TB, super *sql.DB) {
	t.Helper()
	for _, statement := range []string{
		"create extension if not exists plpython3u",
		"update pg_language set lanpltrusted = true where lanname = 'plpython3u'",
		"grant usage on language plpython3u to rented",
	} {
		if _, err := super.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
