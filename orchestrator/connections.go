package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/clock"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/fresh"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/ops"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/source"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/watchdog"
)

const (
	// listeners is how many connections listen.
	listeners = 1
	// webhookConns are for webhooks to receive and acknowledge by.
	webhookConns = 2
	// mostRuns is how many jobs the clock runs at once, each on a connection of its own.
	mostRuns = 8
	// aside are the connections for short statements that must go on however busy the page is: the log, webhooks, checks.
	aside = 1 + webhookConns + ops.MaxConns
)

// A connections is how many of them each part of the program may open. They are fewest where that is enough to work.
type connections struct{ page, aside, sources, runs, users int }

func (c connections) count() int {
	return c.page + c.aside + c.sources + c.runs + c.users*login.ConnsPerUser
}

func (p *program) connectionsFlag(command *cobra.Command) {
	command.Flags().IntVar(&p.maxConns, "max-connections", 0,
		"how many connections to the database to open at most, those of the users of --auth included (default: as many as are of use)")
}

// shareConnections gives each part as many connections as are of use, or its share of --max-connections.
func (p *program) shareConnections() (connections, error) {
	fixed := listeners + watchdog.MaxConns + fresh.MaxConns
	fewest := connections{page: 4, aside: 2, sources: 3}
	most := connections{page: db.MaxConns, aside: aside, sources: source.MaxConns}
	if p.hasClock {
		fixed += clock.MaxConns
		fewest.runs, most.runs = 1, mostRuns
	}
	if p.cronURL != "" { // which takes one instead
		fewest.runs, most.runs = 1, 1
	}
	if p.hasUsers {
		fewest.users, most.users = 1, login.MaxUsers
	}
	if p.maxConns == 0 {
		return most, nil
	}
	if least := fixed + fewest.count(); p.maxConns < least {
		return fewest, badUsage(fmt.Sprintf("Write a number from %d on.", least), "%d connections are too few", p.maxConns)
	}
	// One after the other gets one more, as long as there are some.
	got := fewest
	left := p.maxConns - fixed - fewest.count()
	for hasGrown := true; hasGrown; {
		hasGrown = false
		for _, part := range []struct {
			size       *int
			most, cost int
		}{
			{&got.page, most.page, 1}, {&got.aside, most.aside, 1}, {&got.sources, most.sources, 1}, {&got.runs, most.runs, 1},
			{&got.users, most.users, login.ConnsPerUser},
		} {
			if *part.size < part.most && part.cost <= left {
				*part.size++
				left -= part.cost
				hasGrown = true
			}
		}
	}
	return got, nil
}

// pools are connections of their own for what must go on however busy the page is.
type pools struct{ log, webhooks, operations, watchdog, clock, fresh, sources *sql.DB }

// openPools opens them. With few connections the log, webhooks and checks share some.
func (p *program) openPools(ctx context.Context, share connections) (pools, error) {
	var opened pools
	direct, usual := p.direct(), p.access()
	type wanted struct {
		opened   **sql.DB
		maxConns int
		open     func(context.Context, int) (*sql.DB, error)
	}
	all := []wanted{
		// What needs a session of its own.
		{&opened.watchdog, watchdog.MaxConns, direct.OpenImpatient},
		// A refresh and an import take as long as they do.
		{&opened.fresh, fresh.MaxConns, usual.Open},
		{&opened.sources, share.sources, usual.Open},
	}
	if p.hasClock {
		all = append(all, wanted{&opened.clock, clock.MaxConns, direct.OpenImpatient})
	}
	if share.aside < aside {
		all = append(all, wanted{&opened.log, share.aside, usual.OpenImpatient})
	} else {
		all = append(all, wanted{&opened.log, 1, usual.OpenImpatient}, wanted{&opened.webhooks, webhookConns, usual.OpenImpatient},
			wanted{&opened.operations, ops.MaxConns, usual.OpenImpatient})
	}
	for _, pool := range all {
		var err error
		if *pool.opened, err = pool.open(ctx, pool.maxConns); err != nil {
			opened.close()
			return pools{}, err
		}
	}
	if opened.webhooks == nil {
		opened.webhooks, opened.operations = opened.log, opened.log
	}
	return opened, nil
}

func (s pools) all() []*sql.DB {
	return slices.DeleteFunc([]*sql.DB{s.log, s.webhooks, s.operations, s.watchdog, s.clock, s.fresh, s.sources},
		func(pool *sql.DB) bool { return pool == nil })
}

func (s pools) close() {
	for _, pool := range s.all() {
		pool.Close()
	}
}
