package main

import (
	"strings"
	"sync"
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload"
)

// Of imports that make the same table at once, one makes it and the others are told so.
func TestImportsOfOneNameAtOnce(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	for range 5 {
		results := make(chan error, 4)
		var group sync.WaitGroup
		for range cap(results) {
			group.Go(func() {
				_, err := upload.Load(t.Context(), pool, strings.NewReader("a\n1\n"), upload.Request{Source: "t.csv"})
				results <- err
			})
		}
		group.Wait()
		close(results)
		made := 0
		for err := range results {
			if err == nil {
				made++
			} else if code := db.Explain(err).Code; code != "TD004" {
				t.Errorf("refused by %s: %v", code, err)
			}
		}
		if made != 1 {
			t.Errorf("%d imports made the table, want 1", made)
		}
		dbtest.Exec(t, pool, "drop table t")
	}
}

// Dropping a view waits for a refresh that is under way, and neither breaks the other.
func TestDropWhileRefreshing(t *testing.T) {
	pool, _ := dbtest.Schema(t)
	for range 5 {
		dbtest.Exec(t, pool, "select tinydevcrm.create_matview('v', 'select pg_sleep(0.1)::text as slept')")
		started := make(chan struct{})
		outcome := make(chan string, 1)
		go func() {
			defer close(outcome)
			close(started)
			var result string
			err := pool.QueryRowContext(t.Context(), "select outcome from tinydevcrm.refresh_matview('v')").Scan(&result)
			if err != nil {
				result = err.Error()
			}
			outcome <- result
		}()
		<-started
		dbtest.Eventually(t, dbtest.Deadline, "the refresh runs", func() bool {
			return dbtest.Value[bool](t, pool, `
				select exists (
				    select from pg_locks where relation = 'v'::regclass and mode = 'AccessExclusiveLock' and granted
				)`)
		})
		dbtest.Exec(t, pool, "select tinydevcrm.drop_matview('v')")
		if result := <-outcome; result != "refreshed" {
			t.Errorf("the refresh ended as %s", result)
		}
	}
}
