package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path"

	"github.com/yingw787/tinydevcrm-mvp/migrations"
)

// Rehearse applies the migrations that are missing, calls look, and takes everything back. It changes nothing: all of
// it is one transaction.
func Rehearse(ctx context.Context, pool *sql.DB, look func(*sql.Tx) error, settings ...Setting) error {
	names, err := fs.Glob(migrations.Files, "*.up.sql")
	if err != nil {
		return fmt.Errorf("list the embedded migrations: %w", err)
	}
	versions, err := listVersions(migrations.Files)
	if err != nil {
		return err
	}
	applied, err := appliedVersion(ctx, pool)
	if err != nil {
		return err
	}

	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin the rehearsal: %w", err)
	}
	// What the connection cannot roll back, the server does when the connection ends.
	defer func() { _ = tx.Rollback() }()
	// As Open: on a Citus coordinator. Another rehearsal, or a migration, may hold a lock.
	// The table is golang-migrate's, in a schema where not everyone may create one.
	if _, err := tx.ExecContext(ctx, `
		set local citus.enable_ddl_propagation = 'off';
		set local lock_timeout = '10s';
		create table if not exists public.schema_migrations (version bigint)`); err != nil {
		return fmt.Errorf("prepare the rehearsal: %w", err)
	}
	for _, setting := range settings {
		if _, err := tx.ExecContext(ctx, "set local "+string(setting)); err != nil {
			return fmt.Errorf("prepare the rehearsal: %w", err)
		}
	}
	for i, name := range names {
		if versions[i] <= applied {
			continue
		}
		text, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			return fmt.Errorf("read migration %s: %w", name, err)
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("migration %s: %w", path.Base(name), err)
		}
	}
	return look(tx)
}

// appliedVersion is 0 where no migration has been applied.
func appliedVersion(ctx context.Context, pool *sql.DB) (version int, err error) {
	var exists bool
	err = pool.QueryRowContext(ctx, "select to_regclass('public.schema_migrations') is not null").Scan(&exists)
	if err == nil && exists {
		err = pool.QueryRowContext(ctx, "select coalesce(max(version), 0) from public.schema_migrations").Scan(&version)
	}
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return version, nil
}
