//go:build faults

package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/login"
)

// However many users there are, with scheduled views and open pages, the number of connections is bounded:
// those of the orchestrator itself, of the active users, and of pg_cron.
func TestConnectionsDoNotGrowWithUsers(t *testing.T) {
	const count, own, cron = 200, 16, 20
	users := make([]string, count)
	for i := range users {
		users[i] = fmt.Sprintf("user%d", i)
	}
	s := newSite(t, users...)
	for _, user := range users {
		dbtest.Exec(t, s.super, "set session authorization "+user)
		dbtest.Exec(t, s.super, "set search_path = "+user)
		dbtest.Exec(t, s.super, `
			select tinydevcrm.schedule_matview(tinydevcrm.create_matview('v' || i, 'select clock_timestamp() as at', 'never'), '1 minute')
			  from generate_series(1, 5) as i`)
		dbtest.Exec(t, s.super, "reset session authorization")
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	streams := make([]<-chan string, count)
	slots := make(chan struct{}, 40)
	for i, user := range users {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if status, body := s.get(user, "/"); status != 200 {
				t.Errorf("%s gets %d: %s", user, status, body)
			}
			streams[i] = s.follow(ctx, user)
		})
	}
	opened := make(chan struct{})
	go func() { group.Wait(); close(opened) }()

	most := 0
	end := time.After(75 * time.Second)
	for isOver := false; !isOver; {
		most = max(most, dbtest.Value[int](t, s.super, "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"))
		select {
		case <-end:
			isOver = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	<-opened
	bound := own + login.MaxUsers*login.ConnsPerUser + cron
	t.Logf("at most %d connections, bound %d", most, bound)
	if most > bound {
		t.Errorf("%d connections, want %d at most", most, bound)
	}
	if rounds := dbtest.Value[int](t, s.super, "select count(*) from tinydevcrm.matview_refresh_events where schedule_id is not null"); rounds < 5*count {
		t.Errorf("%d scheduled refreshes, want %d at least", rounds, 5*count)
	}

	dbtest.Exec(t, s.super, "update tinydevcrm.matviews set notify_when = 'always' where relation = 'user7.v1'::regclass")
	dbtest.Exec(t, s.super, "select tinydevcrm.refresh_matview('user7.v1')")
	if name := <-streams[7]; name != "user7.v1" {
		t.Errorf("user7 is notified of %s", name)
	}
	for i, stream := range streams {
		if len(stream) > 0 {
			t.Errorf("user%d is notified of %s", i, <-stream)
		}
	}
}
