// Package migrate applies the embedded migrations by golang-migrate, in the table that the stock
// migrate program uses, so that either can go on where the other stopped.
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
}

// Open takes one connection of the pool for a Migrator, until Close.
func Open(ctx context.Context, pool *sql.DB) (*Migrator, error) {
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
	// On a Citus coordinator all of ours stays there; the files say themselves what the workers need.
	// Elsewhere the setting is nothing.
	if _, err := conn.ExecContext(ctx, "set citus.enable_ddl_propagation = 'off'"); err != nil {
		conn.Close()
		return nil, fmt.Errorf("prepare to migrate: %w", err)
	}
	// The stock program's table is in public, whatever the search_path of this connection.
	driver, err := postgres.WithConnection(ctx, conn, &postgres.Config{SchemaName: "public"})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("prepare to migrate: %w", err)
	}
	m, err := migrate.NewWithInstance("embedded", source, "postgres", driver)
	if err != nil {
		driver.Close()
		return nil, fmt.Errorf("prepare to migrate: %w", err)
	}
	return &Migrator{conn: conn, migrate: m, versions: versions}, nil
}

// IsCurrent says that the database has all migrations, which a role that may not migrate can find out
// too; false when it cannot.
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

// Close gives the connection back.
func (m *Migrator) Close() error {
	// For whoever gets the connection next. One that is broken is not given to anybody.
	_, err := m.conn.ExecContext(context.Background(), "reset citus.enable_ddl_propagation")
	if errors.Is(err, driver.ErrBadConn) {
		err = nil
	}
	return errors.Join(err, errors.Join(m.migrate.Close()))
}

// Up applies the next steps migrations, or all when steps is 0. Having none to apply is no error.
func (m *Migrator) Up(steps int) error {
	if steps == 0 {
		return m.settle(m.migrate.Up(), -1)
	}
	return m.settle(m.migrate.Steps(steps), -1)
}

// Down takes the last steps migrations back, or all when steps is 0.
func (m *Migrator) Down(steps int) error {
	if steps == 0 {
		return m.settle(m.migrate.Down(), +1)
	}
	return m.settle(m.migrate.Steps(-steps), +1)
}

// Version is that of the last migration applied, 0 when there is none; dirty says that it broke off.
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

// settle ends a run. Each file is one transaction, so when the server refuses one, nothing of it is
// there: the version goes back to where it was instead of staying dirty, and the next run can just
// try again. The version marked dirty is the one aimed at, and back is the direction from it to the
// one that still holds.
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

// neighbour is the version before or after the given one; 0 stands for none.
func (m *Migrator) neighbour(version, direction int) int {
	all := append([]int{0}, m.versions...)
	for i, v := range all {
		if v == version && i+direction >= 0 && i+direction < len(all) {
			return all[i+direction]
		}
	}
	return version
}

// refusedBy finds the server's own error in golang-migrate's, which does not unwrap. Nil when the
// outcome is not known to be a rollback, as when the connection was lost.
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
