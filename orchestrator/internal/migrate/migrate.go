// Package migrate applies the embedded migrations by golang-migrate. It uses the table of the stock migrate
// program, so that either program can continue where the other stopped.
package migrate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/postgres"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/migrations"
)

// A Migrator changes the schema of one database.
type Migrator struct {
	conn     *sql.Conn
	migrate  *migrate.Migrate
	versions []int
	// stop ends the search for users who hold the lock.
	stop func()
}

// MaxConns is the size that the pool must have: one connection migrates, one ends sessions that hold it up.
const MaxConns = 2

// A Setting is one of the session that migrates.
type Setting string

// Clock means that the orchestrator runs the schedules.
const Clock Setting = "tinydevcrm_own.clock = 'on'"

// Open takes one connection of the pool for a Migrator, until Close. With Clock, the database needs no pg_cron.
func Open(ctx context.Context, pool *sql.DB, settings ...Setting) (*Migrator, error) {
	source, err := iofs.New(migrations.Files, ".")
	if err != nil {
		return nil, fmt.Errorf("read the embedded migrations: %w", err)
	}
	versions, err := listVersions(migrations.Files)
	if err != nil {
		return nil, err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	if err := checkOwnSession(ctx, conn, pool); err != nil {
		conn.Close()
		return nil, err
	}
	// On a Citus coordinator all our objects stay on the coordinator; the files themselves create what the
	// workers need. Elsewhere the setting has no effect.
	for _, setting := range append(settings, "citus.enable_ddl_propagation = 'off'") {
		if _, err := conn.ExecContext(ctx, "set "+string(setting)); err != nil {
			conn.Close()
			return nil, fmt.Errorf("prepare to migrate: %w", err)
		}
	}
	stop := endHolders(ctx, pool)
	// The stock program's table is in schema public, whatever the search_path of this connection.
	driver, err := postgres.WithConnection(ctx, conn, &postgres.Config{SchemaName: schemaName, MigrationsTable: tableName})
	if err != nil {
		stop()
		conn.Close()
		return nil, fmt.Errorf("prepare to migrate: %w", err)
	}
	m, err := migrate.NewWithInstance("embedded", source, "postgres", driver)
	if err != nil {
		stop()
		driver.Close()
		return nil, fmt.Errorf("prepare to migrate: %w", err)
	}
	return &Migrator{conn: conn, migrate: m, versions: versions, stop: stop}, nil
}

// IsCurrent reports whether the database has all migrations. A role that may not migrate can call it too. It is
// false when the version cannot be read.
func IsCurrent(ctx context.Context, pool *sql.DB) bool {
	latest, err := Latest()
	if err != nil {
		return false
	}
	var version int
	var dirty bool
	err = pool.QueryRowContext(ctx, "select version, dirty from public.schema_migrations").Scan(&version, &dirty)
	return err == nil && version == latest && !dirty
}

// Latest is the version of the last embedded migration.
func Latest() (int, error) {
	versions, err := listVersions(migrations.Files)
	if err != nil {
		return 0, err
	}
	return versions[len(versions)-1], nil
}

// Close returns the connection to the pool.
func (m *Migrator) Close() error {
	m.stop()
	// This is for the next user of the connection. The pool does not reuse a broken one.
	_, err := m.conn.ExecContext(context.Background(), "reset citus.enable_ddl_propagation; reset tinydevcrm_own.clock")
	if errors.Is(err, driver.ErrBadConn) {
		err = nil
	}
	return errors.Join(err, errors.Join(m.migrate.Close()))
}

// Up applies the next steps migrations, or all when steps is 0. It is no error when there are none to apply.
func (m *Migrator) Up(steps int) error {
	if steps == 0 {
		return afterDeadlocks(func() error { return m.settle(m.migrate.Up(), -1) })
	}
	return m.settle(m.migrate.Steps(steps), -1)
}

// Down reverts the last steps migrations, or all when steps is 0.
func (m *Migrator) Down(steps int) error {
	if steps == 0 {
		return afterDeadlocks(func() error { return m.settle(m.migrate.Down(), +1) })
	}
	return m.settle(m.migrate.Steps(-steps), +1)
}

// afterDeadlocks runs all migrations that are left once more when the server has ended a deadlock with a job, such as
// upkeep, by refusing ours.
func afterDeadlocks(run func() error) error {
	for attempt := 1; ; attempt++ {
		err := run()
		var refusal *pq.Error
		if attempt == maxAttempts || !errors.As(err, &refusal) || refusal.Code != "40P01" {
			return err
		}
	}
}

const maxAttempts = 5

// Version is that of the last applied migration, 0 when there is none. dirty means that it failed halfway.
func (m *Migrator) Version() (version int, dirty bool, err error) {
	v, dirty, err := m.migrate.Version()
	if errors.Is(err, migrate.ErrNilVersion) {
		return 0, false, nil
	}
	return int(v), dirty, err
}

// Latest is the version of the last embedded migration.
func (m *Migrator) Latest() int {
	return m.versions[len(m.versions)-1]
}

// Force sets the version without applying anything, and clears dirty.
func (m *Migrator) Force(version int) error {
	if version == 0 {
		version = database.NilVersion
	}
	return m.migrate.Force(version)
}

// settle ends a run. Each file is one transaction, so nothing of a file that the server refused is left. The
// version is set back to what it was instead of staying dirty, so that the next run can try again. The dirty
// version is that of the failed file; back is the direction from it to the version that holds.
func (m *Migrator) settle(err error, back int) error {
	if err == nil || errors.Is(err, migrate.ErrNoChange) {
		return nil
	}
	refusal := refusedBy(err)
	if refusal == nil {
		return err
	}
	if version, dirty, versionErr := m.Version(); versionErr == nil && dirty {
		if forceErr := m.Force(m.neighbour(version, back)); forceErr != nil {
			return errors.Join(refusal, forceErr)
		}
	}
	return refusal
}

// neighbour is the version before or after the given one; 0 means none.
func (m *Migrator) neighbour(version, direction int) int {
	all := append([]int{0}, m.versions...)
	for i, v := range all {
		if v == version && i+direction >= 0 && i+direction < len(all) {
			return all[i+direction]
		}
	}
	return version
}

// refusedBy finds the server's error in that of golang-migrate, which does not unwrap. It is nil when a
// rollback is not certain, as when the connection was lost.
func refusedBy(err error) error {
	var (
		wrapped database.Error
		pointer *database.Error
		refusal *pq.Error
	)
	switch {
	case errors.As(err, &wrapped):
		err = wrapped.OrigErr
	case errors.As(err, &pointer):
		err = pointer.OrigErr
	}
	if errors.As(err, &refusal) && refusal.Code.Class() != "08" && refusal.Code.Class() != "57" {
		return refusal
	}
	return nil
}

func listVersions(files fs.FS) ([]int, error) {
	names, err := fs.Glob(files, "*.up.sql")
	if err != nil {
		return nil, fmt.Errorf("list the embedded migrations: %w", err)
	}
	versions := make([]int, 0, len(names))
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", name, err)
		}
		versions = append(versions, version)
	}
	return versions, nil
}
