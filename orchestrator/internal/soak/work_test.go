//go:build soak

package soak

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
)

const (
	// steadyHook is the webhook that finally accepts every message.
	steadyHook = "hook"
	// kept is how many of the things that are created during the run exist at once.
	kept = 6
)

// A workload is what people and programs do with an installation.
type workload struct {
	pool   *sql.DB
	pages  []string
	client *http.Client
	tally  *tally
	hook   *httptest.Server
	seed   uint64
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// A task is repeated, with this pause on average.
type task struct {
	name  string
	pause time.Duration
	do    func(ctx context.Context, chance *rand.Rand) error
}

func newWorkload(t *testing.T, pool *sql.DB, pages []string, seed uint64) *workload {
	t.Helper()
	w := &workload{
		pool:  pool,
		pages: pages,
		// It has a client of its own, whose connections close when it is done.
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}},
		tally:  newTally(),
		seed:   seed,
	}
	w.hook = httptest.NewServer(http.HandlerFunc(w.answerHook))
	w.hook.URL = dbtest.ByName(w.hook.URL)
	t.Cleanup(w.hook.Close)
	return w
}

// start creates what exists during the whole run, and starts the tasks.
func (w *workload) start(t *testing.T) {
	t.Helper()
	for table, text := range map[string]string{"orders": orders(500, 500), "log": orders(100, 1e6), "people": people(1000, 1000)} {
		if err := w.upload(t.Context(), url.Values{"table": {table}}, text); err != nil {
			t.Fatal(err)
		}
	}
	for _, view := range views() {
		// The view that fails at times may fail now.
		dbtest.Eventually(t, dbtest.Deadline, view.name+" is made", func() bool {
			_, err := w.pool.ExecContext(t.Context(),
				"select tinydevcrm.create_matview($1, $2, $3)", view.name, view.query, view.rule)
			return err == nil
		})
		dbtest.Exec(t, w.pool, "select tinydevcrm.schedule_matview($1::text::regclass, $2)", view.name, view.schedule)
	}
	dbtest.Exec(t, w.pool, "create unique index on keyed (id)")
	dbtest.Exec(t, w.pool, "create unique index on people (id)")
	dbtest.Exec(t, w.pool, "select tinydevcrm.create_webhook($1, $2)", steadyHook, w.hook.URL)
	dbtest.Exec(t, w.pool, "select tinydevcrm.create_webhook('dead', $1, 'always')", w.hook.URL+"/dead")
	dbtest.Exec(t, w.pool, "select tinydevcrm.create_subscription('worker')")
	dbtest.Exec(t, w.pool, "select tinydevcrm.create_subscription('forgotten', 'totals')")

	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	for i, task := range w.tasks() {
		chance := rand.New(rand.NewPCG(w.seed, uint64(100+i)))
		w.group.Go(func() {
			for ctx.Err() == nil {
				err := task.do(ctx, chance)
				if ctx.Err() != nil {
					return
				}
				w.tally.add(task.name, err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(float64(task.pause) * 2 * chance.Float64())):
				}
			}
		})
	}
}

func (w *workload) end() {
	w.cancel()
	w.group.Wait()
	w.client.CloseIdleConnections()
}

func (w *workload) tasks() []task {
	return []task{
		{"upload: new, with a view, and drop", 1500 * time.Millisecond, w.makeAndDrop()},
		{"upload: append", 2 * time.Second, w.append()},
		{"upload: replace", 3 * time.Second, func(ctx context.Context, chance *rand.Rand) error {
			return w.upload(ctx, url.Values{"table": {"orders"}, "mode": {"replace"}}, orders(200+chance.IntN(300), 500))
		}},
		{"upload: upsert", 3 * time.Second, func(ctx context.Context, chance *rand.Rand) error {
			return w.upload(ctx, url.Values{"table": {"people"}, "mode": {"upsert"}, "key": {"id"}}, people(200, 1000))
		}},
		{"upload: preview", 3 * time.Second, func(ctx context.Context, chance *rand.Rand) error {
			return w.upload(ctx, url.Values{"dry_run": {"1"}}, people(50, 50))
		}},
		{"upload: refused", 5 * time.Second, w.uploadBadFile},
		{"schedule: change", time.Second, w.reschedule},
		{"refresh by hand", time.Second, func(ctx context.Context, chance *rand.Rand) error {
			return w.post(ctx, "/matviews/refresh", url.Values{"relation": {anyView(chance)}})
		}},
		{"page", 400 * time.Millisecond, w.lookAtPage},
		{"query preview", 2 * time.Second, func(ctx context.Context, chance *rand.Rand) error {
			return w.post(ctx, "/matviews/preview", url.Values{"query": {"select * from orders order by amount"}})
		}},
		{"stream", time.Second, w.followStream},
		{"subscription: make and drop", 1500 * time.Millisecond, w.subscribeAndDrop()},
		{"subscription: receive", time.Second, w.receive},
	}
}

// checkAllWasDone requires that each kind of work was done, and that most of it succeeded.
func (w *workload) checkAllWasDone(t *testing.T) {
	t.Helper()
	w.tally.mu.Lock()
	defer w.tally.mu.Unlock()
	for what, count := range w.tally.counts {
		failed := 0
		for reason, times := range count.failed {
			failed += times
			if strings.HasPrefix(reason, "500 ") {
				t.Errorf("%s: %d × %s", what, times, reason)
			}
		}
		if count.done < 2*failed || count.done == 0 {
			t.Errorf("%s was done %d times and failed %d times", what, count.done, failed)
		}
	}
}

// --- Requests to the page ---

func (w *workload) send(ctx context.Context, method, path, contentType string, body io.Reader) error {
	page := w.pages[rand.IntN(len(w.pages))]
	request, err := http.NewRequestWithContext(ctx, method, page+path, body)
	if err != nil {
		return err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return fmt.Errorf("no answer")
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("half an answer")
	}
	if response.StatusCode >= 400 {
		return fmt.Errorf("%d %s", response.StatusCode, strings.Join(strings.Fields(string(text)), " "))
	}
	return nil
}

func (w *workload) post(ctx context.Context, path string, form url.Values) error {
	return w.send(ctx, http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

func (w *workload) lookAtPage(ctx context.Context, chance *rand.Rand) error {
	paths := []string{"/", "/matviews", "/subscriptions", "/events", "/events?of=public.always", "/?search=a", "/views", "/tables",
		"/matviews/keyed", "/matviews/totals?format=csv", "/schedules/describe?schedule=5+minutes",
		"/static/kit.css", "/views/public.added", "/subscriptions/" + steadyHook}
	return w.send(ctx, http.MethodGet, paths[chance.IntN(len(paths))], "", nil)
}

// followStream reads server-sent events for some seconds.
func (w *workload) followStream(ctx context.Context, chance *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(2+chance.IntN(10))*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.pages[chance.IntN(len(w.pages))]+"/events/stream", nil)
	if err != nil {
		return err
	}
	response, err := w.client.Do(request)
	if err != nil {
		return fmt.Errorf("no answer")
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	if _, err := io.Copy(io.Discard, response.Body); ctx.Err() == nil {
		return fmt.Errorf("the stream ended: %v", err)
	}
	return nil
}

func (w *workload) reschedule(ctx context.Context, chance *rand.Rand) error {
	view := url.Values{"relation": {anyView(chance)}}
	switch chance.IntN(10) {
	case 0:
		return w.post(ctx, "/matviews/unschedule", view)
	case 1:
		// A view without a schedule cannot be paused.
		view.Set("schedule", "5 seconds")
		if err := w.post(ctx, "/matviews/schedule", view); err != nil {
			return err
		}
		if err := w.post(ctx, "/matviews/pause", view); err != nil {
			return err
		}
		return w.post(ctx, "/matviews/resume", view)
	}
	schedules := []string{"1 second", "2 seconds", "3 seconds", "10 seconds", "1 minute", "*/2 * * * *"}
	view.Set("schedule", schedules[chance.IntN(len(schedules))])
	return w.post(ctx, "/matviews/schedule", view)
}

// --- Webhooks and workers ---

// answerHook accepts most messages, sometimes slowly, and none below /dead.
func (w *workload) answerHook(response http.ResponseWriter, request *http.Request) {
	io.Copy(io.Discard, request.Body)
	switch chance := rand.IntN(40); {
	case strings.HasPrefix(request.URL.Path, "/dead"), chance < 2:
		w.tally.add("webhook refused", nil)
		response.WriteHeader(http.StatusInternalServerError)
	case chance == 2:
		time.Sleep(500 * time.Millisecond)
		fallthrough
	default:
		w.tally.add("webhook delivered", nil)
		response.WriteHeader(http.StatusOK)
	}
}

// receive is a worker in SQL that rejects some deliveries, and ignores some.
func (w *workload) receive(ctx context.Context, chance *rand.Rand) error {
	rows, err := w.pool.QueryContext(ctx,
		"select delivery_id from tinydevcrm.receive_events('worker', 100, interval '10 seconds')")
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	for _, id := range ids {
		query := "select tinydevcrm.acknowledge_events(array[$1::bigint])"
		switch chance.IntN(20) {
		case 0:
			continue
		case 1:
			query = "select tinydevcrm.reject_event($1, 'not now', interval '1 second')"
		}
		if _, err := w.pool.ExecContext(ctx, query, id); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		w.tally.add("events acknowledged or rejected", nil)
	}
	return nil
}

// subscribeAndDrop creates a subscription each time, each second time a webhook, and drops the oldest once
// there are enough.
func (w *workload) subscribeAndDrop() func(context.Context, *rand.Rand) error {
	var names []string
	count := 0
	return func(ctx context.Context, chance *rand.Rand) error {
		count++
		form := url.Values{"new_subscription": {fmt.Sprintf("s%d", count)}, "new_matview": {anyView(chance)}}
		if count%2 == 0 {
			form.Set("url", w.hook.URL)
			form.Del("new_matview")
		}
		if err := w.post(ctx, "/subscriptions", form); err != nil {
			return err
		}
		names = append(names, form.Get("new_subscription"))
		if len(names) <= kept {
			return nil
		}
		oldest := url.Values{"subscription": {names[0]}}
		if err := w.post(ctx, "/subscriptions/pause", oldest); err != nil {
			return err
		}
		if err := w.post(ctx, "/subscriptions/drop", oldest); err != nil {
			return err
		}
		names = slices.Delete(names, 0, 1)
		return nil
	}
}
