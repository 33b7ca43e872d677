package main

import (
	"context"
	"database/sql"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/clock"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/fresh"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/watchdog"
)

// webhookConns are for webhooks to receive and acknowledge by.
const webhookConns = 2

// pools are connections of their own for what must go on however busy the page is.
type pools struct{ log, webhooks, operations, watchdog, clock, fresh, sources *sql.DB }

func (p *program) openPools(ctx context.Context) (pools, error) {
	var opened pools
	for _, pool := range []struct {
		opened   **sql.DB
		maxConns int
	}{{&opened.log, 1}, {&opened.webhooks, webhookConns}, {&opened.operations, ops.MaxConns}, {&opened.watchdog, watchdog.MaxConns}, {&opened.clock, clock.MaxConns}} {
		if pool.opened == &opened.clock && !p.hasClock {
			continue
		}
		var err error
		if *pool.opened, err = db.OpenImpatient(ctx, p.databaseURL, pool.maxConns); err != nil {
			opened.close()
			return pools{}, err
		}
	}
	// A refresh and an import take as long as they do.
	for _, pool := range []struct {
		opened   **sql.DB
		maxConns int
	}{{&opened.fresh, fresh.MaxConns}, {&opened.sources, source.MaxConns}} {
		var err error
		if *pool.opened, err = db.Open(ctx, p.databaseURL, pool.maxConns); err != nil {
			opened.close()
			return pools{}, err
		}
	}
	return opened, nil
}

func (s pools) close() {
	for _, pool := range []*sql.DB{s.log, s.webhooks, s.operations, s.watchdog, s.clock, s.fresh, s.sources} {
		if pool != nil {
			pool.Close()
		}
	}
}
