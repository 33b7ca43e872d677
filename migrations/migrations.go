// Package migrations holds TinyDevCRM's schema: the SQL files of this folder, for golang-migrate.
package migrations

import "embed"

// Files are the migrations, NNNNNN_verb_object.{up,down}.sql, as the stock migrate program reads
// them from this folder.
//
//go:embed [0-9]*.sql
var Files embed.FS
