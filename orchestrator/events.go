package main

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lib/pq"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
)

const (
	// tailedEvents is how many events events tail prints at first, sinceEvents how many with --since at most.
	tailedEvents = 20
	sinceEvents  = 10_000
	// idMargin is how far before the last printed event it looks for missed ones: ids are assigned before the commit,
	// so smaller ones may appear later.
	idMargin = 1000
)

func (p *program) eventsCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "events COMMAND",
		Short: "Show the events that notify",
	}
	tail := tail{program: p}
	show := &cobra.Command{
		Use:         "tail",
		Annotations: map[string]string{untilStopped: "yes"},
		Short:       "Print the last events that notify, and with --follow each new one",
		Long: "Print the last 20 events that notify, or those of a time, oldest first, and with --follow each new one.\n\n" +
			"It only looks: subscriptions get their events as ever. To receive events, each once:\n" +
			"orchestrator subscription receive.",
		Example: "  orchestrator events tail --follow\n" +
			"  orchestrator events tail --since 24h --matview big_orders --json",
	}
	show.Flags().StringVar(&tail.matview, "matview", "", "only events of this materialized view")
	show.Flags().DurationVar(&tail.since, "since", 0, "age of the oldest event, such as 90m or 24h (default: the last 20 events)")
	show.Flags().BoolVarP(&tail.follows, "follow", "f", false, "print each new event until you press Ctrl-C")
	show.Flags().BoolVar(&tail.asJSON, "json", false, "print each event as a line of JSON, with its rows")
	show.RunE = p.query(tail.run)
	command.AddCommand(show)
	return command
}

// A tail prints events as they are recorded.
type tail struct {
	*program
	matview         string
	since           time.Duration
	follows, asJSON bool

	// key is the name of the view in events.
	key     string
	printed []int64
}

// A tailed is an event, as a line.
type tailed struct {
	id                          int64
	startedAt, outcome, inBrief string
	isFailure                   bool
	json                        string
}

func (e *tailed) fields() []any {
	return []any{&e.id, &e.startedAt, &e.outcome, &e.inBrief, &e.isFailure, &e.json}
}

// tailedColumns are those of a tailed. The second parameter is whether the JSON is wanted.
const tailedColumns = `
	select events.id, to_char(events.started_at, 'YYYY-MM-DD HH24:MI:SSOF'), events.outcome,
	       described.title || case when described.severity in ('change', 'recovery') then '' else ': ' || described.summary end,
	       described.severity = 'failure', coalesce(case when $2 then tinydevcrm.event_json(events)::text end, '')
`

func (t *tail) run(pool *sql.DB, command *cobra.Command, _ []string) error {
	ctx := command.Context()
	if t.matview != "" {
		if err := pool.QueryRowContext(ctx, "select tinydevcrm._matview_key($1::text::regclass::text)", t.matview).Scan(&t.key); err != nil {
			return fmt.Errorf("%s: %w", command.CommandPath(), err)
		}
	}
	if !t.follows {
		_, err := t.printLatest(ctx, pool)
		return err
	}
	hub := listen.NewHub(t.direct(), logger(t.stderr))
	// It listens before it reads: an event of the meantime is then found twice rather than not at all.
	ids, cancel := hub.Subscribe()
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return hub.Run(ctx) })
	group.Go(func() error { return hub.Probe(ctx, pool) })
	group.Go(func() error { return t.follow(ctx, pool, ids) })
	return group.Wait()
}

func (t *tail) follow(ctx context.Context, pool *sql.DB, ids <-chan int64) error {
	newest, err := t.printLatest(ctx, pool)
	if err != nil {
		return err
	}
	for id := range ids {
		if id == listen.Missed {
			err = t.printMissed(ctx, pool, newest)
		} else if !slices.Contains(t.printed, id) {
			err = t.print(ctx, pool, tailedColumns+`
				  from tinydevcrm._list_events_by_id(null, array[$3::bigint], nullif($1, ''), null, true) as events
				 cross join tinydevcrm._describe_event(events) as described`, id)
		}
		// What is missed while the database is away is printed when the hub listens again.
		if err != nil && !db.Explain(err).IsAway {
			return err
		}
		if len(t.printed) > 2*idMargin {
			t.printed = slices.Delete(t.printed, 0, len(t.printed)-idMargin)
		}
	}
	return nil
}

// printLatest prints the last events, or those of --since, and returns the id of the newest one.
func (t *tail) printLatest(ctx context.Context, pool *sql.DB) (newest int64, err error) {
	limit, seconds := tailedEvents, math.Inf(1)
	if t.since > 0 {
		limit, seconds = sinceEvents, t.since.Seconds()
	}
	err = t.print(ctx, pool, tailedColumns+`
		  from tinydevcrm._list_latest_events(null, 0, $3, nullif($1, '')) as events
		 cross join tinydevcrm._describe_event(events) as described
		 where $4 = 'Infinity'::double precision or events.started_at > now() - make_interval(secs => $4)
		 order by events.id`, limit, seconds)
	if len(t.printed) > 0 {
		newest = slices.Max(t.printed)
	} else if err == nil && !t.follows {
		fmt.Fprintln(t.stderr, "no event has notified; orchestrator matview schedule refreshes a view again and again")
	}
	return newest, err
}

// printMissed prints the events after the newest of the first ones that are not printed yet.
func (t *tail) printMissed(ctx context.Context, pool *sql.DB, newest int64) error {
	if len(t.printed) > 0 {
		newest = max(newest, slices.Max(t.printed)-idMargin)
	}
	return t.print(ctx, pool, tailedColumns+`
		  from tinydevcrm._list_latest_events(null, $3, 10000, nullif($1, '')) as events
		 cross join tinydevcrm._describe_event(events) as described
		 where events.id <> all ($4)
		 order by events.id`, newest, pq.Array(t.printed))
}

// print prints the events of a query, whose first parameters are the view and whether JSON is wanted.
func (t *tail) print(ctx context.Context, pool *sql.DB, query string, arguments ...any) error {
	found, err := db.Collect(ctx, pool, "read the events", (*tailed).fields, query, append([]any{t.key, t.asJSON}, arguments...)...)
	if err != nil {
		return err
	}
	painter := t.painterOf(t.stdout)
	for _, e := range found {
		t.printed = append(t.printed, e.id)
		line := e.json
		if !t.asJSON {
			outcome := alarming(fmt.Sprintf("%-9s", e.outcome), e.isFailure)
			line = fmt.Sprintf("%s  %s  %s", e.startedAt, painter.paint(outcome.colour, outcome.text), printable(e.inBrief))
		}
		if _, err := fmt.Fprintln(t.stdout, line); err != nil {
			return fmt.Errorf("print an event: %w", err)
		}
	}
	return nil
}
