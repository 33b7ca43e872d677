package migrate

import (
	"errors"
	"testing"

	"github.com/lib/pq"
)

func TestAfterDeadlocks(t *testing.T) {
	deadlock, other := &pq.Error{Code: "40P01"}, errors.New("other")
	for _, test := range []struct {
		name  string
		errs  []error
		want  error
		calls int
	}{
		{"none", []error{nil}, nil, 1},
		{"two", []error{deadlock, deadlock, nil}, nil, 3},
		{"then another error", []error{deadlock, other}, other, 2},
		{"too many", []error{deadlock, deadlock, deadlock, deadlock, deadlock, nil}, deadlock, maxAttempts},
	} {
		calls := 0
		err := afterDeadlocks(func() error { calls++; return test.errs[calls-1] })
		if !errors.Is(err, test.want) || calls != test.calls {
			t.Errorf("%s: %v after %d calls, want %v after %d", test.name, err, calls, test.want, test.calls)
		}
	}
}
