// Package trial sends the tests of subscriptions, and asks for one and waits for its outcome.
package trial

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	// atOnce is how many tests are sent at once, each of another owner.
	atOnce = 16
	// lookAfter is how often we look for tests whose notification was lost.
	lookAfter = 10 * time.Second
	// recordWithin bounds how long an outcome takes to record.
	recordWithin = 5 * time.Second
	// askAfter is how often a program that waits looks for the outcome, and waitFor how long: longer than an attempt.
	askAfter = 100 * time.Millisecond
	waitFor  = 30 * time.Second
)

// A PostFunc makes one attempt at a message, as channel.Sender.Post does.
type PostFunc func(context.Context, webhook.Endpoint, webhook.Message) (*webhook.Answer, error)

// A Runner sends the tests that were asked for.
type Runner struct {
	pool   *sql.DB
	post   PostFunc
	logger *slog.Logger
	// running has a place for each test that is being sent. Its end sends a signal.
	running, ended chan struct{}
}

// NewRunner returns a Runner that calls post for each test.
func NewRunner(pool *sql.DB, post PostFunc, logger *slog.Logger) *Runner {
	return &Runner{
		pool:    pool,
		post:    post,
		logger:  logger,
		running: make(chan struct{}, atOnce),
		ended:   make(chan struct{}, 1),
	}
}

// A test is a row of tinydevcrm._receive_tests().
type test struct {
	id           int64
	subscription string
	to           webhook.Endpoint
	message      webhook.Message
}

func (t *test) fields() []any {
	return []any{&t.id, &t.subscription, &t.message.ID, &t.message.Body, &t.to.URL, pq.Array(&t.to.Secrets), &t.to.Format,
		db.JSON(&t.to.Headers)}
}

// Run sends tests until ctx ends, and then waits for those that are being sent.
func (r *Runner) Run(ctx context.Context, wake <-chan int64) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	pauses := retry.NewPauses(lookAfter)
	for {
		tests, err := db.Collect(ctx, r.pool, "look for tests", (*test).fields, `
			select test_id, subscription, message_id, body, url, secrets, format, headers
			  from tinydevcrm._receive_tests($1)`, cap(r.running)-len(r.running))
		if err != nil {
			if ctx.Err() == nil {
				r.logger.Warn("cannot look for tests of subscriptions; trying again", "error", err)
			}
			if !pauses.Wait(ctx) {
				return nil
			}
			continue
		}
		pauses.Reset()
		for _, t := range tests {
			r.running <- struct{}{}
			sending.Go(func() { r.send(ctx, t) })
		}
		timer := time.NewTimer(lookAfter)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-r.ended:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// send sends a test and records the outcome.
func (r *Runner) send(ctx context.Context, t test) {
	defer func() {
		<-r.running
		select {
		case r.ended <- struct{}{}:
		default:
		}
	}()
	// A number that no owner has: a test shares no connection.
	t.to.Owner = -t.id
	begin := time.Now()
	answer, err := r.post(ctx, t.to, t.message)
	took := time.Since(begin)

	var status int
	var body string
	var reason sql.Null[string]
	var refusal *webhook.Refusal
	if answer != nil {
		status, body = answer.Status, string(answer.Body)
	}
	if errors.As(err, &refusal) {
		status, body = refusal.Status, refusal.Body
	}
	if err != nil {
		reason = sql.Null[string]{V: printable(err.Error()), Valid: true}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if _, err := r.pool.ExecContext(ctx, "select tinydevcrm._finish_test($1, $2, make_interval(secs => $3), $4, $5)",
		t.id, status, took.Seconds(), printable(body), reason); err != nil {
		r.logger.Warn("cannot record the outcome of a test", "subscription", t.subscription, "error", err)
	}
}

// printable is a text that a database and a terminal accept.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// An Outcome is how a test has ended.
type Outcome struct {
	Subscription string `json:"subscription"`
	// Status is that of the answer; 0 when there was none.
	Status       int     `json:"status"`
	Milliseconds float64 `json:"duration_ms"`
	// Answer is the start of the answer's body.
	Answer string `json:"answer"`
	// Error says why the message was not accepted; empty when it was.
	Error string `json:"error"`
}

// String is the outcome on one line, without the answer.
func (o Outcome) String() string {
	took := time.Duration(o.Milliseconds * float64(time.Millisecond)).Round(time.Millisecond)
	switch {
	case o.Error != "":
		return fmt.Sprintf("the test was refused after %v: %s", took, o.Error)
	case o.Status == 0:
		return fmt.Sprintf("the test was accepted after %v", took)
	}
	return fmt.Sprintf("the test was accepted after %v with status %d", took, o.Status)
}

// Ask asks for a test of a subscription, which an orchestrator sends, and waits for the outcome.
func Ask(ctx context.Context, pool *sql.DB, subscription string) (Outcome, error) {
	var id int64
	err := pool.QueryRowContext(ctx, "select tinydevcrm.test_subscription($1)", subscription).Scan(&id)
	if err != nil {
		return Outcome{}, fmt.Errorf("test %q: %w", subscription, err)
	}
	ticker := time.NewTicker(askAfter)
	defer ticker.Stop()
	for end := time.Now().Add(waitFor); time.Now().Before(end); {
		outcome := Outcome{Subscription: subscription}
		err := pool.QueryRowContext(ctx, `
			select coalesce(status, 0), coalesce(extract(epoch from duration)::double precision * 1000, 0),
			       coalesce(answer, ''), coalesce(error, '')
			  from tinydevcrm.subscription_tests
			 where id = $1
			   and is_finished`, id,
		).Scan(&outcome.Status, &outcome.Milliseconds, &outcome.Answer, &outcome.Error)
		if err == nil {
			return outcome, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return Outcome{}, fmt.Errorf("wait for the test of %q: %w", subscription, err)
		}
		select {
		case <-ctx.Done():
			return Outcome{}, fmt.Errorf("wait for the test of %q: %w", subscription, ctx.Err())
		case <-ticker.C:
		}
	}
	return Outcome{}, &db.UserError{
		Status:  http.StatusGatewayTimeout,
		Message: fmt.Sprintf("no orchestrator has sent the test within %v", waitFor),
		Hint:    "orchestrator up sends it. See whether it runs on this database.",
	}
}
