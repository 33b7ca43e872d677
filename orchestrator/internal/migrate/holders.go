package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
)

const (
	// golang-migrate's table, from whose name it makes the number of its lock.
	schemaName, tableName = "public", "schema_migrations"
	// lookAfter is the time between two looks at who holds the lock.
	lookAfter = time.Second
)

// endHolders ends users' sessions that hold golang-migrate's advisory lock, which everyone can take and nobody but a
// Migrator needs. It looks until stop is called, with a connection of its own, because the Migrator's waits for the
// lock.
func endHolders(ctx context.Context, pool *sql.DB) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			// A role that may not do this waits, as golang-migrate alone does.
			_ = endHoldersOnce(ctx, pool)
			select {
			case <-ctx.Done():
			case <-time.After(lookAfter):
			}
		}
	}()
	return func() { cancel(); <-ended }
}

func endHoldersOnce(ctx context.Context, pool *sql.DB) error {
	var name string
	if err := pool.QueryRowContext(ctx, "select current_database()").Scan(&name); err != nil {
		return fmt.Errorf("read the database's name: %w", err)
	}
	lock, err := database.GenerateAdvisoryLockId(name, schemaName, tableName)
	if err != nil {
		return fmt.Errorf("number the lock of migrations: %w", err)
	}
	// The group role and the watchdog's function may not exist yet.
	_, err = pool.ExecContext(ctx, `
		select pg_terminate_backend(locks.pid)
		  from pg_locks as locks
		  join pg_stat_activity as activity
		    on activity.pid = locks.pid
		  join pg_roles as users
		    on users.rolname = 'tinydevcrm_user'
		 where locks.locktype = 'advisory'
		   and locks.granted
		   and locks.objsubid = 1
		   and locks.database = (select oid from pg_database where datname = current_database())
		   and (locks.classid::bigint << 32) | locks.objid::bigint = $1
		   and pg_has_role(activity.usesysid, users.oid, 'member')
		   and not pg_has_role(activity.usesysid, current_user, 'member')`, lock)
	if err != nil {
		return fmt.Errorf("end sessions that hold the lock of migrations: %w", err)
	}
	return nil
}
