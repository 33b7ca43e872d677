package deliver

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/lib/pq"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

const (
	// maxAsking is how many endpoints receive by one statement, and maxPosts how many posts, give or take those of one
	// endpoint.
	maxAsking = 32
	maxPosts  = 1000
	// slowAfter is how long a statement takes whose endpoints each receive by one of their own from then on.
	slowAfter = time.Second
)

// A post is a delivery that is being posted to an endpoint.
type post struct {
	deliveryID, matviewID int64
	to                    webhook.Endpoint
	message               webhook.Message
	isTooLong             bool
	// early is by how many seconds it precedes its own retry, because it probes an endpoint that is down.
	early float64
}

// A demand is what an endpoint can take.
type demand struct {
	service       *service
	count, length int64
	// received gets the answer.
	received chan received
}

// A received is what was received for a demand.
type received struct {
	posts []post
	err   error
}

// receivePosts does not wait for the disk: when a crash undoes a claim, the delivery is received again.
const receivePosts = `
	select subscription_id, delivery_id, matview_id, message_id, body, is_too_long, url, secrets,
	       extract(epoch from early)::double precision, format, headers
	  from tinydevcrm._receive_posts_of($1, $2, $3, make_interval(secs => $4), $5, $6, $7)
	 where set_config('synchronous_commit', 'off', true) = 'off'`

// receive receives the next deliveries of an endpoint, in the order of each view. Endpoints that wait for that at the
// same time receive by one statement.
func (w *Webhooks) receive(s *service, count, length int64) ([]post, error) {
	d := &demand{service: s, count: count, length: length, received: make(chan received, 1)}
	w.mu.Lock()
	w.demands = append(w.demands, d)
	if w.receiving < maxReceiving {
		w.receiving++
		// The endpoint waits for its demand, so Run still waits for the endpoints.
		w.endpoints.Go(func() { w.receiveAll(s.ctx) })
	}
	w.mu.Unlock()
	r := <-d.received
	return r.posts, r.err
}

// receiveAll serves demands until there are none.
func (w *Webhooks) receiveAll(ctx context.Context) {
	for {
		demands := w.nextDemands()
		if len(demands) == 0 {
			return
		}
		w.serveDemands(ctx, demands)
	}
}

// nextDemands takes what one statement serves; without any it notes that the caller ends. Owners take turns. One whose
// owner has used their share of the bytes gets nothing.
func (w *Webhooks) nextDemands() []*demand {
	w.mu.Lock()
	defer w.mu.Unlock()
	inTurns(w.demands)
	var taken []*demand
	for i, d := range w.demands {
		switch {
		case !w.bytes.hasRoom(d.service.owner):
			w.isCrowded = true
			d.received <- received{}
			continue
		case len(taken) > 0 && (d.service.isAlone || len(taken) == maxAsking):
			w.demands = w.demands[i:]
			return taken
		}
		taken = append(taken, d)
		if d.service.isAlone {
			w.demands = w.demands[i+1:]
			return taken
		}
	}
	w.demands = nil
	if len(taken) == 0 {
		w.receiving--
	}
	return taken
}

// inTurns sorts demands so that the owners take turns, and those of one owner stay in order.
func inTurns(demands []*demand) {
	turns := make(map[*demand]int, len(demands))
	count := make(map[int64]int)
	for _, d := range demands {
		turns[d] = count[d.service.owner]
		count[d.service.owner]++
	}
	slices.SortStableFunc(demands, func(a, b *demand) int { return turns[a] - turns[b] })
}

// serveDemands receives by one statement. When that fails or is slow, those whose demands these are receive alone from
// now on, because one of them may be the cause.
func (w *Webhooks) serveDemands(ctx context.Context, demands []*demand) {
	began := time.Now()
	found, err := w.receiveBatch(ctx, demands)
	w.mu.Lock()
	defer w.mu.Unlock()
	isSlow := err != nil || time.Since(began) > slowAfter
	var again []*demand
	for _, d := range demands {
		posts, isReached := found[d.service.subscriptionID]
		wasAlone := len(demands) == 1
		d.service.isAlone = d.service.isAlone || isSlow && !wasAlone
		switch {
		case err != nil && wasAlone:
			d.received <- received{err: err}
		case err != nil || !isReached:
			again = append(again, d)
		default:
			for _, p := range posts {
				w.bytes.add(d.service.owner, len(p.message.Body))
			}
			d.received <- received{posts: posts}
		}
	}
	w.demands = append(again, w.demands...)
}

// receiveBatch returns the posts of each demand that the statement has reached.
func (w *Webhooks) receiveBatch(ctx context.Context, demands []*demand) (map[int64][]post, error) {
	var ids, counts, lengths []int64
	found := make(map[int64][]post, len(demands))
	for _, d := range demands {
		id := d.service.subscriptionID
		ids, counts, lengths = append(ids, id), append(counts, d.count), append(lengths, d.length)
		found[id] = nil
	}
	type row struct {
		post
		subscriptionID       int64
		deliveryID, viewID   sql.Null[int64]
		messageID, url, form sql.Null[string]
		isTooLong            sql.Null[bool]
		early                sql.Null[float64]
		headers              []byte
	}
	fields := func(r *row) []any {
		return []any{&r.subscriptionID, &r.deliveryID, &r.viewID, &r.messageID, &r.message.Body, &r.isTooLong, &r.url,
			pq.Array(&r.to.Secrets), &r.early, &r.form, &r.headers}
	}
	rows, err := db.Collect(ctx, w.pool, "receive deliveries", fields, receivePosts, pq.Array(ids), pq.Array(counts),
		pq.Array(lengths), postTimeout.Seconds(), maxBody, maxReceived, maxPosts)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if !r.deliveryID.Valid {
			delete(found, r.subscriptionID)
			continue
		}
		if r.headers != nil {
			if err := db.JSON(&r.to.Headers).Scan(r.headers); err != nil {
				return nil, err
			}
		}
		r.post.deliveryID, r.matviewID, r.message.ID = r.deliveryID.V, r.viewID.V, r.messageID.V
		r.post.isTooLong, r.to.URL, r.post.early, r.to.Format = r.isTooLong.V, r.url.V, r.early.V, r.form.V
		found[r.subscriptionID] = append(found[r.subscriptionID], r.post)
	}
	return found, nil
}
