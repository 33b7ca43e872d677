//go:build soak

package soak

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"
)

// A view is a view that exists during the whole run.
type view struct{ name, query, rule, schedule string }

func views() []view {
	return []view{
		{"always", "select count(*) as orders from orders", "always", "1 second"},
		{"totals", "select customer, sum(amount) as total from orders group by customer", "changed", "2 seconds"},
		{"added", "select * from log where amount > 900", "rows_added", "2 seconds"},
		{"keyed", "select * from people where id % 2 = 0", "changed", "1 second"},
		{"digit", "select 1 as one where extract(second from now())::integer % 10 < 5", "became_not_empty", "1 second"},
		{"fails", "select 1 / (extract(second from clock_timestamp())::integer % 7) as quotient", "not_empty", "1 second"},
		{"quiet", "select * from orders where amount < 0", "not_empty", "2 seconds"},
		{"anchor", "select 1 as one", "never", "1 second"},
	}
}

func anyView(chance *rand.Rand) string {
	all := views()
	return all[chance.IntN(len(all))].name
}

func orders(count, mostAmount int) string {
	var text strings.Builder
	text.WriteString("id,customer,amount,note\n")
	for i := range count {
		fmt.Fprintf(&text, "%d,customer %d,%d,\"said, \"\"%x\"\"\"\n", i, rand.IntN(20), rand.IntN(mostAmount), rand.Uint64())
	}
	return text.String()
}

// people have unique ids, so that they can be upserted.
func people(count, of int) string {
	var text strings.Builder
	text.WriteString("id,name,seen\n")
	for _, id := range rand.Perm(of)[:count] {
		fmt.Fprintf(&text, "%d,name %x,2026-01-%02d\n", id, rand.Uint64(), 1+rand.IntN(28))
	}
	return text.String()
}

func (w *workload) upload(ctx context.Context, options url.Values, text string) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, err := form.CreateFormFile("file", "upload.csv")
	if err != nil {
		return err
	}
	if _, err := file.Write([]byte(text)); err != nil {
		return err
	}
	if err := form.Close(); err != nil {
		return err
	}
	return w.send(ctx, "POST", "/upload-file?"+options.Encode(), form.FormDataContentType(), &body)
}

// append appends to the log, and starts a new one when it is long.
func (w *workload) append() func(context.Context, *rand.Rand) error {
	count := 0
	return func(ctx context.Context, _ *rand.Rand) error {
		count++
		mode := "append"
		if count%30 == 0 {
			mode = "replace"
		}
		return w.upload(ctx, url.Values{"table": {"log"}, "mode": {mode}}, orders(50, 1000))
	}
}

// uploadBadFile uploads a file in which each second line is too short, and requires that it is refused.
func (w *workload) uploadBadFile(ctx context.Context, _ *rand.Rand) error {
	err := w.upload(ctx, url.Values{"table": {"orders"}, "mode": {"append"}}, "id,customer,amount,note\n1,c,2,n\n1\n2,c,3,n\n2\n")
	if err != nil && strings.HasPrefix(err.Error(), "422 ") {
		return nil
	}
	if err == nil {
		return fmt.Errorf("it was taken")
	}
	return err
}

// makeAndDrop uploads a table, creates a scheduled view of it, and drops the oldest of them once there are
// enough: each second view by the page, the others by hand with the table.
func (w *workload) makeAndDrop() func(context.Context, *rand.Rand) error {
	var names []string
	count := 0
	return func(ctx context.Context, _ *rand.Rand) error {
		count++
		table := fmt.Sprintf("new_%d", count)
		if err := w.upload(ctx, url.Values{"table": {table}}, orders(100, 1000)); err != nil {
			return fmt.Errorf("%w (upload)", err)
		}
		names = append(names, table)
		created := w.post(ctx, "/matviews", url.Values{
			"name": {"of_" + table}, "query": {"select * from " + table + " where amount > 500"}, "notify_when": {"rows_added"}})
		if created != nil {
			return created
		}
		schedule := url.Values{"relation": {"of_" + table}, "schedule": {fmt.Sprintf("%d seconds", 1+count%3)}}
		if err := w.post(ctx, "/matviews/schedule", schedule); err != nil {
			return err
		}
		if len(names) <= kept {
			return nil
		}
		oldest := names[0]
		if count%2 == 0 {
			// If its creation was interrupted, it does not exist.
			if err := w.post(ctx, "/matviews/drop", url.Values{"relation": {"of_" + oldest}}); err != nil && !strings.HasPrefix(err.Error(), "4") {
				return err
			}
		}
		if _, err := w.pool.ExecContext(ctx, "drop table if exists "+oldest+" cascade"); err != nil {
			return fmt.Errorf("drop: %w", err)
		}
		names = slices.Delete(names, 0, 1)
		return nil
	}
}
