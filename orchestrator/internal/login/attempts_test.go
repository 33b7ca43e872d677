package login_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
)

// statusOf is the HTTP status of an attempt to log in.
func statusOf(t *testing.T, users *login.Users, name, password, address string) int {
	t.Helper()
	_, release, err := users.Login(t.Context(), name, password, address)
	var mistake *db.UserError
	switch {
	case err == nil:
		release()
		return 200
	case errors.As(err, &mistake):
		return mistake.Status
	}
	t.Fatalf("%s logs in: %v", name, err)
	return 0
}

func TestLogins(t *testing.T) {
	t.Parallel()
	const home, patience = "192.0.2.1:1", 25 * time.Second
	server := dbtest.NewServer(t)
	super, err := db.Open(t.Context(), server.URL, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close()
	for _, statement := range []string{
		"create role ann login password 'secret'", "create role bob login password 'secret'",
		"create role eve login password 'secret'",
		"create role root superuser login password 'secret'", "create role deputy login password 'secret' in role root",
	} {
		dbtest.Exec(t, super, statement)
	}
	databaseURL := "postgres://" + server.ListenOn("md5") + ":5432/postgres?sslmode=disable"
	open := func(letSupers bool) *login.Users {
		users, err := login.NewUsers(t.Context(), super, databaseURL, letSupers, login.MaxUsers)
		if err != nil {
			t.Fatal(err)
		}
		return users
	}
	users := open(false)

	t.Run("many passwords for one name from everywhere", func(t *testing.T) {
		if status := statusOf(t, users, "ann", "secret", home); status != 200 {
			t.Fatalf("ann logs in: %d", status)
		}
		statuses := map[int]int{}
		for i := range 200 {
			statuses[statusOf(t, users, "bob", "wrong", fmt.Sprintf("198.51.100.%d:1", i))]++
			statuses[statusOf(t, users, "ann", "wrong", fmt.Sprintf("198.51.100.%d:1", i))]++
		}
		if tried := statuses[401]; tried > 120 || tried < 100 {
			t.Errorf("%d of 400 passwords were tried: %v", tried, statuses)
		}
		// A user whom others have locked out can log in from where they were before.
		fresh, cancel := context.WithCancel(t.Context())
		cancel()
		_ = users.Run(fresh)
		if status := statusOf(t, users, "ann", "secret", "192.0.2.1:2"); status != 200 {
			t.Errorf("ann, at home: %d", status)
		}
	})
	t.Run("wrong passwords behind the owner's proxy", func(t *testing.T) {
		users := open(false)
		const proxy = "203.0.113.1:1"
		if status := statusOf(t, users, "ann", "secret", proxy); status != 200 {
			t.Fatalf("ann logs in: %d", status)
		}
		limited := 0
		for range 20 {
			if statusOf(t, users, "ann", "wrong", proxy) == 429 {
				limited++
			}
		}
		if limited < 8 {
			t.Errorf("%d of 20 wrong passwords were limited", limited)
		}
		// Without the pools of who is active, as two minutes later.
		over, cancel := context.WithCancel(t.Context())
		cancel()
		_ = users.Run(over)
		if status := statusOf(t, users, "ann", "secret", proxy); status != 200 {
			t.Errorf("ann, with the right password: %d", status)
		}
	})
	t.Run("many passwords from one network", func(t *testing.T) {
		statuses := map[int]int{}
		for i := range 200 {
			statuses[statusOf(t, users, "eve", "wrong", fmt.Sprintf("[2001:db8::%x]:1", i+1))]++
		}
		if tried := statuses[401]; tried > 20 {
			t.Errorf("%d of 200 passwords were tried: %v", tried, statuses)
		}
	})
	t.Run("superusers", func(t *testing.T) {
		for _, name := range []string{"root", "deputy"} {
			for _, password := range []string{"secret", "wrong"} {
				_, _, err := users.Login(t.Context(), name, password, home)
				if problem := db.Explain(err); problem.Status != 401 || problem.Message != "superusers do not log in here" {
					t.Errorf("%s with %s: %+v", name, password, problem)
				}
			}
		}
		if status := statusOf(t, open(true), "root", "secret", home); status != 200 {
			t.Errorf("where they may: %d", status)
		}
	})
	t.Run("who is in already, and may not be any more", func(t *testing.T) {
		for name, statement := range map[string]string{
			"a changed password":      "alter role %s password 'another'",
			"a locked role":           "alter role %s nologin",
			"a password that is over": "alter role %s valid until '2000-01-01'",
			"a dropped role":          "drop role %s",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				role := strings.ReplaceAll(name, " ", "_")
				dbtest.Exec(t, super, fmt.Sprintf("create role %s login password 'secret'", role))
				if status := statusOf(t, users, role, "secret", home); status != 200 {
					t.Fatalf("it logs in: %d", status)
				}
				dbtest.Exec(t, super, fmt.Sprintf(statement, role))
				dbtest.Eventually(t, patience, "it is out", func() bool {
					return statusOf(t, users, role, "secret", home) == 401
				})
			})
		}
	})
}
