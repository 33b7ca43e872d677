package dbtest

import (
	"database/sql"
	"fmt"
	"testing"
)

// CreateGates makes the function pass_gate, for queries that take until a test opens the gate of that number.
func CreateGates(t testing.TB, pool *sql.DB) {
	t.Helper()
	Exec(t, pool, `
		create function pass_gate(gate integer) returns text language plpgsql as $$
		begin
		    while not pg_try_advisory_xact_lock_shared(gate) loop
		        perform pg_sleep(0.01);
		    end loop;
		    return 'passed';
		end $$`)
}

// CloseGate closes a gate until the returned function is called or the test ends.
func CloseGate(t testing.TB, pool *sql.DB, gate int) (open func()) {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), nil)
	if err == nil {
		_, err = tx.Exec(fmt.Sprintf("select pg_advisory_xact_lock(%d)", gate))
	}
	if err != nil {
		t.Fatalf("close gate %d: %v", gate, err)
	}
	return func() {
		t.Helper()
		if err := tx.Rollback(); err != nil {
			t.Errorf("open gate %d: %v", gate, err)
		}
	}
}
