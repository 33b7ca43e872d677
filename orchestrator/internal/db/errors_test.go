package db_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// An error of any length comes whole, as one of lib/pq, and leaves nothing behind for the next user of the connection,
// wherever it occurs.
func TestLongErrors(t *testing.T) {
	const (
		raise     = "do $$ begin raise exception '%', repeat('x', 40000); end $$"
		afterRows = "select pg_temp.raise(n, '') from generate_series(1, 3) as n"
		patience  = 5 * time.Second
	)
	ways := map[string]func(context.Context, *sql.Conn) error{
		"a statement": func(ctx context.Context, conn *sql.Conn) error {
			_, err := conn.ExecContext(ctx, raise)
			return err
		},
		"a query with parameters": func(ctx context.Context, conn *sql.Conn) error {
			var got string
			return conn.QueryRowContext(ctx, "select pg_temp.raise($1, '')", 2).Scan(&got)
		},
		"a query that has given rows": func(ctx context.Context, conn *sql.Conn) error {
			rows, err := conn.QueryContext(ctx, afterRows)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
			}
			return rows.Err()
		},
		"a commit": func(ctx context.Context, conn *sql.Conn) error {
			tx, err := conn.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, "insert into deferred values (1)"); err != nil {
				return err
			}
			return tx.Commit()
		},
		"a transaction": func(ctx context.Context, conn *sql.Conn) error {
			tx, err := conn.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			_, err = tx.ExecContext(ctx, raise)
			return err
		},
	}
	databaseURL := dbtest.URL(t)
	opened := map[string]func(context.Context, string, int) (*sql.DB, error){
		"Open": db.Open, "OpenImpatient": db.OpenImpatient,
	}
	for how, open := range opened {
		pool, err := open(t.Context(), databaseURL, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		for name, way := range ways {
			t.Run(how+": "+name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				conn, err := pool.Conn(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, statement := range []string{`
					create or replace function pg_temp.raise(n integer, text) returns integer language plpgsql as $$
					begin
					    if n > 1 then
					        raise exception '%', repeat('x', 40000);
					    end if;
					    return n;
					end
					$$`, `
					create or replace function pg_temp.refuse() returns trigger language plpgsql as $$
					begin
					    return pg_temp.raise(2, '');
					end
					$$`,
					"create temporary table if not exists deferred (n integer)",
					"drop trigger if exists refuse on deferred",
					`create constraint trigger refuse after insert on deferred deferrable initially deferred
					 for each row execute function pg_temp.refuse()`,
				} {
					if _, err := conn.ExecContext(ctx, statement); err != nil {
						t.Fatal(err)
					}
				}
				err = way(ctx, conn)
				conn.Close()
				if problem := db.Explain(err); problem.Code != "P0001" || problem.Message != strings.Repeat("x", 40000) {
					t.Errorf("got %s %.100q of %.100v", problem.Code, problem.Message, err)
				}
				var one int
				if err := pool.QueryRowContext(ctx, "select 1").Scan(&one); err != nil || one != 1 {
					t.Errorf("the next user of the pool gets %d, %v", one, err)
				}
			})
		}
	}
}

// The server ends a statement of an impatient pool before the pool gives it up.
func TestTheServerEndsLongStatements(t *testing.T) {
	pool, err := db.OpenImpatient(t.Context(), dbtest.URL(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if timeout := dbtest.Value[string](t, pool, "show statement_timeout"); timeout != "25s" {
		t.Errorf("statement_timeout is %s", timeout)
	}
}
