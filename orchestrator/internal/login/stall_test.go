package login_test

import (
	"context"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
)

// A server that sends nothing more delays a user's statement only a little longer than its context, and the
// same holds for a connection that is being made.
func TestStalledServerHoldsUpNoUser(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	const patience, within = time.Second, 8 * time.Second
	server := dbtest.NewServer(t)
	super, err := db.Open(t.Context(), server.URL, 1)
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, super, "create role ann login password 'secret'")
	defer super.Close()
	address := server.ListenOn("md5")
	between := dbtest.NewProxy(t, address+":5432")
	users, err := login.NewUsers(t.Context(), super, between.URL(), false, login.MaxUsers)
	if err != nil {
		t.Fatal(err)
	}
	pool, release, err := users.Login(t.Context(), "ann", "secret", "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if name := dbtest.Value[string](t, pool, "select session_user"); name != "ann" {
		t.Fatalf("the pool is that of %s", name)
	}

	between.Stall()
	defer between.Flow()
	for _, name := range []string{"a connection that was there", "a new connection, the first being given up"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := pool.ExecContext(ctx, "select 1")
				ended <- err
			}()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("a stalled server has answered")
				}
			case <-time.After(within):
				t.Fatalf("the statement goes on after %s", within)
			}
		})
	}
}
