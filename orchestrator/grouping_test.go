package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

// A posted is the body of a webhook's request.
type posted struct {
	Type          string
	Data          struct{ Matview string }
	AlsoFailed    []struct{ Matview string } `json:"also_failed"`
	AlsoRecovered []struct{ Matview string } `json:"also_recovered"`
}

func TestFiftyFailuresAreOnePost(t *testing.T) {
	t.Parallel()
	const views = 50
	pool, server := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.drop_matview('v')")
	dbtest.Exec(t, pool, "create table numbers as select 1 as n")
	dbtest.Exec(t, pool, `
		select tinydevcrm.create_matview('v' || number, 'select 1 / n as n from numbers', 'never')
		  from generate_series(1, $1) as number`, views)
	hook, _ := newWebhook(t, pool, "hook", always(http.StatusOK))
	// All views have to be refreshed within it.
	dbtest.Exec(t, pool, "update tinydevcrm.settings set failure_grouping = '10 seconds'")
	background(t, server.URL, upWithWebhooks...)

	refreshAll := func(want string) {
		t.Helper()
		for _, name := range dbtest.Column[string](t, pool, "select relation::text from tinydevcrm.matviews order by id") {
			if got := dbtest.Value[string](t, pool, "select outcome from tinydevcrm.refresh_matview($1::text::regclass)", name); got != want {
				t.Fatalf("%s: %s, want %s", name, got, want)
			}
		}
		dbtest.Eventually(t, dbtest.Deadline, want+" is delivered for each view", func() bool {
			return dbtest.Value[int](t, pool, `
				select count(*)
				  from tinydevcrm.deliveries
				  join tinydevcrm.matview_refresh_events as events
				    on events.id = deliveries.event_id
				  join tinydevcrm.webhooks
				    on webhooks.subscription_id = deliveries.subscription_id
				 where events.outcome = $1 and deliveries.state = 'acknowledged'`, want) == views
		})
	}
	dbtest.Exec(t, pool, "update numbers set n = 0")
	refreshAll("failed")
	dbtest.Exec(t, pool, "update numbers set n = 1")
	refreshAll("recovered")

	var got []posted
	for _, request := range hook.all() {
		var next posted
		if err := json.Unmarshal(request.body, &next); err != nil {
			t.Fatalf("%s: %v", request.body, err)
		}
		got = append(got, next)
	}
	if len(got) != 2 || got[0].Type != "matview.failed" || got[1].Type != "matview.recovered" {
		t.Fatalf("got %d posts, want one failure and one recovery: %+v", len(got), got)
	}
	if n := len(got[0].AlsoFailed); n != views-1 {
		t.Errorf("the failure lists %d other views, want %d", n, views-1)
	}
	if n := len(got[1].AlsoRecovered); n != views-1 {
		t.Errorf("the recovery lists %d other views, want %d", n, views-1)
	}
}

// A failure that joins a delivery goes with it, even when its transaction ends after the delivery is due.
func TestJoiningFailureIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	pool, _ := newServer(t)
	dbtest.Exec(t, pool, "create table numbers as select 0 as n")
	for _, name := range []string{"a", "b"} {
		dbtest.Exec(t, pool, "create materialized view "+name+" as select 1 / n as n from numbers with no data")
		dbtest.Exec(t, pool, "select tinydevcrm.watch_matview($1::text::regclass)", name)
	}
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hook', 'https://example.com/')")
	receive := func() []string {
		t.Helper()
		return dbtest.Column[string](t, pool, `
			select posts.body -> 'data' ->> 'matview' || coalesce(posts.body -> 'also_failed' -> 0 ->> 'matview', '')
			  from tinydevcrm.webhooks
			 cross join lateral tinydevcrm._receive_posts(webhooks.subscription_id, 10, '1 minute') as posts`)
	}

	dbtest.Exec(t, pool, "update tinydevcrm.settings set failure_grouping = '2 seconds'")
	dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview('a')")
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "select tinydevcrm.refresh_matview('b')"); err != nil {
		t.Fatal(db.Explain(err))
	}
	// Until it no longer waits for others.
	dbtest.Exec(t, pool, "select pg_sleep(extract(epoch from max(visible_at) - clock_timestamp())) from tinydevcrm.deliveries where visible_at < 'infinity'")
	if got := receive(); len(got) != 0 {
		t.Fatalf("received %q while another failure joins it", got)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, 5*time.Second, "both are received", func() bool {
		got := receive()
		if len(got) > 0 && got[0] != "public.apublic.b" {
			t.Fatalf("received %q", got)
		}
		return len(got) == 1
	})
}

// A user may end a delivery that others join. It takes them along, or is refused where it cannot see them.
func TestJoiningFailureEndsWithItsLeader(t *testing.T) {
	pool, _ := newServer(t)
	dbtest.Exec(t, pool, "create table numbers as select 0 as n")
	dbtest.Exec(t, pool, "update tinydevcrm.settings set failure_grouping = '1 minute'")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('hook', 'https://example.com/')")
	for level, want := range map[sql.IsolationLevel]string{
		sql.LevelReadCommitted:  "acknowledged acknowledged",
		sql.LevelRepeatableRead: "pending pending",
	} {
		dbtest.Exec(t, pool, "delete from tinydevcrm.matview_refresh_events")
		names := []string{fmt.Sprintf("a%d", level), fmt.Sprintf("b%d", level)}
		for _, name := range names {
			dbtest.Exec(t, pool, "create materialized view "+name+" as select 1 / n as n from numbers with no data")
			dbtest.Exec(t, pool, "select tinydevcrm.watch_matview($1::text::regclass)", name)
		}
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview($1::text::regclass)", names[0])
		joining, err := pool.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer joining.Rollback()
		if _, err := joining.ExecContext(t.Context(), "select tinydevcrm.refresh_matview($1::text::regclass)", names[1]); err != nil {
			t.Fatal(db.Explain(err))
		}
		const end = "update tinydevcrm.deliveries set state = 'acknowledged' where is_leading"
		ended := make(chan error, 1)
		go func() {
			tx, err := pool.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
			if err == nil {
				_, err = tx.ExecContext(t.Context(), end)
			}
			if err == nil {
				err = tx.Commit()
			} else if tx != nil {
				tx.Rollback()
			}
			ended <- err
		}()
		dbtest.Eventually(t, dbtest.Deadline, "it waits for the failure that joins", func() bool {
			return dbtest.Value[bool](t, pool, "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query = $1)", end)
		})
		if err := joining.Commit(); err != nil {
			t.Fatal(err)
		}
		var refusal *pq.Error
		if err := <-ended; level == sql.LevelReadCommitted && err != nil ||
			level == sql.LevelRepeatableRead && (!errors.As(err, &refusal) || refusal.Code != "40001") {
			t.Errorf("%v: %v", level, err)
		}
		if got := dbtest.Value[string](t, pool, "select string_agg(state, ' ') from tinydevcrm.deliveries"); got != want {
			t.Errorf("%v: the deliveries are %s, not %s", level, got, want)
		}
	}
}

// A delivery that is made pending by hand stays with the one that carries it, which is not carried itself meanwhile.
func TestRejoiningDeliveryIsNotLeftBehind(t *testing.T) {
	pool, _ := newServer(t)
	dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v' || i, 'select 1 as n') from generate_series(1, 3) as i")
	dbtest.Exec(t, pool, "select tinydevcrm.create_webhook('digest', 'https://example.com/', digest => 'hourly')")
	for _, name := range []string{"v1", "v2", "v3"} {
		dbtest.Exec(t, pool, "select tinydevcrm.refresh_matview($1::text::regclass)", name)
	}
	const nth = "(select id from tinydevcrm.deliveries order by event_id limit 1 offset $1)"
	dbtest.Exec(t, pool, "update tinydevcrm.deliveries set is_gathered = true where id = "+nth, 1)
	dbtest.Exec(t, pool, "update tinydevcrm.deliveries set state = 'acknowledged' where id = "+nth, 2)
	tx, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "update tinydevcrm.deliveries set state = 'pending' where id = "+nth, 2); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, pool, "update tinydevcrm.deliveries set is_gathered = true where id = "+nth, 0)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := dbtest.Value[string](t, pool, `
		select string_agg(coalesce(leader.is_leading::text, 'none'), ' ' order by delivery.event_id)
		  from tinydevcrm.deliveries as delivery
		  left join tinydevcrm.deliveries as leader on leader.event_id = delivery.leader_event_id`); got != "true true true" {
		t.Errorf("the leaders are %s", got)
	}
}
