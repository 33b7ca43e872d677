package web

import (
	"context"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// An importMode is a row of tinydevcrm.import_modes.
type importMode struct{ Name, Label string }

func (m *importMode) fields() []any { return []any{&m.Name, &m.Label} }

func (s *server) fillModes(ctx context.Context, shown *page) error {
	var err error
	shown.Modes, err = db.Collect(ctx, s.pool(ctx), "read the modes", (*importMode).fields,
		"select name, label from tinydevcrm.import_modes order by rank")
	return err
}
