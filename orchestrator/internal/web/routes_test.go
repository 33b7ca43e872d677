package web_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// useRoutes creates what the routes act on: a table, a view that notifies at each refresh, and a subscription
// with a delivery. It returns the subscription's name and the delivery.
func (f *fixture) useRoutes() (subscription, delivery string) {
	f.t.Helper()
	subscription = f.schema + " mine"
	f.exec("create table numbers as select n, 'row ' || n as name from generate_series(1, 12) as n")
	f.exec(`select tinydevcrm.create_matview('Odd view', 'select * from numbers', 'always')`)
	f.exec(`select tinydevcrm.create_subscription($1)`, subscription)
	f.refresh(`"Odd view"`)
	return subscription, fmt.Sprint(f.number(`
		select max(deliveries.id)
		  from tinydevcrm.deliveries
		  join tinydevcrm.subscriptions
		    on subscriptions.id = subscription_id
		 where name = $1`, subscription))
}

// A program gets exactly this JSON. … stands for a value that differs each time.
func TestProgramGetsJSON(t *testing.T) {
	f := newFixture(t)
	subscription, delivery := f.useRoutes()
	name, odd := fmt.Sprintf("%q", subscription), `"Odd view"`
	describe := func(schedule string) request {
		return get("/schedules/describe?" + url.Values{"schedule": {schedule}}.Encode())
	}

	tests := []struct {
		name    string
		request request
		status  int
		want    string
	}{
		{"a preview", post("/matviews/preview", "query", `select n, null as "no ""thing", name || 'é' as name from numbers order by n limit 2;`),
			200, `{"columns":[{"name":"n","type":"integer"},{"name":"no \"thing","type":"text"},{"name":"name","type":"text"}],` +
				`"rows":[["1",null,"row 1é"],["2",null,"row 2é"]]}`},
		{"a preview without rows", post("/matviews/preview", "query", "select n from numbers where false"),
			200, `{"columns":[{"name":"n","type":"integer"}],"rows":[]}`},
		{"a preview without columns", post("/matviews/preview", "query", "select"), 200, `{"columns":[],"rows":[[]]}`},
		{"a preview of values", post("/matviews/preview", "query", "values (1.50, true)"),
			200, `{"columns":[{"name":"column1","type":"numeric"},{"name":"column2","type":"boolean"}],"rows":[["1.50","true"]]}`},

		{"a period", describe("1 hour"),
			200, `{"schedule":"0 * * * *","words":"every hour","time_zone":"…","next_due_at":["…","…","…"]}`},
		{"seconds", describe("5 seconds"),
			200, `{"schedule":"5 seconds","words":"every 5 seconds","time_zone":"…","next_due_at":["…","…","…"]}`},
		{"fields of cron", describe("0 7 * * 1"),
			200, `{"schedule":"0 7 * * 1","words":"every Monday at 07:00","time_zone":"…","next_due_at":["…","…","…"]}`},
		{"a day that never comes", describe("0 0 30 2 *"),
			422, `{"error":{"code":"TD003","message":"'0 0 30 2 *' is never due: no such day comes","hint":"Check the days and the months. $ is the last day of a month: \"0 7 $ * *\"."}}`},
		{"words and a time zone", describe("Weekdays at 9:00 europe/berlin"),
			200, `{"schedule":"0 9 * * 1-5","words":"Monday to Friday at 09:00","time_zone":"Europe/Berlin","next_due_at":["…","…","…"]}`},

		{"on change", describe("when it changes"),
			200, `{"schedule":"on change","words":"when a table that it reads has changed","time_zone":null,"next_due_at":[]}`},

		{"a rule", post("/matviews/watch", "relation", odd, "notify_when", "changed",
			"ignored_columns", " name , ,", "notify_interval", "90 minutes", "notify_after", "2", "notify_deadline", "26 hours"), 200, `{"relation":"\"Odd view\""}`},
		{"a replay", get("/rules/replay?relation=%22Odd+view%22&notify_when=empty&notify_interval=&notify_after="),
			200, `{"since":"…","count":0,"unknown_count":0,"newest":[]}`},
		{"a pause", post("/matviews/pause", "relation", odd), 200, `{"relation":"\"Odd view\""}`},
		{"a mute", post("/matviews/mute", "relation", odd, "mute_for", "1 day"), 200, `{"relation":"\"Odd view\""}`},
		{"an end of the mute", post("/matviews/unmute", "relation", odd), 200, `{"relation":"\"Odd view\""}`},
		{"an end of the pause", post("/matviews/resume", "relation", odd), 200, `{"relation":"\"Odd view\""}`},

		{"a subscription", post("/subscriptions", "new_subscription", f.schema+" to one", "new_matview", odd),
			201, fmt.Sprintf(`{"subscription":"%s to one","id":"…"}`, f.schema)},
		{"a webhook", post("/subscriptions", "new_subscription", f.schema+" hook", "url", "https://example.com/in?a=b"),
			201, fmt.Sprintf(`{"subscription":"%s hook","secret":"…"}`, f.schema)},
		{"a new URL", post("/subscriptions/alter", "subscription", f.schema+" hook", "new_url", "https://example.com/new"),
			200, fmt.Sprintf(`{"subscription":"%s hook"}`, f.schema)},
		{"a subscription with numbers as text", post("/subscriptions", "new_subscription", f.schema+" exact", "numbers_as_text", "true"),
			201, fmt.Sprintf(`{"subscription":"%s exact","id":"…"}`, f.schema)},
		{"a paused subscription", post("/subscriptions/pause", "subscription", subscription), 200, `{"subscription":` + name + `}`},
		{"a resumed one", post("/subscriptions/resume", "subscription", subscription), 200, `{"subscription":` + name + `}`},
		{"a muted subscription", post("/subscriptions/mute", "subscription", subscription, "mute_for", "1 hour"), 200, `{"subscription":` + name + `}`},
		{"an unmuted one", post("/subscriptions/unmute", "subscription", subscription), 200, `{"subscription":` + name + `}`},
		{"what is parked, once more", post("/subscriptions/redeliver", "subscription", subscription), 200, `{"subscription":` + name + `,"count":0}`},
		{"a delivery, once more", post("/deliveries/redeliver", "delivery", delivery), 200, `{"delivery":` + delivery + `}`},
		{"a dropped subscription", post("/subscriptions/drop", "subscription", subscription), 200, `{"subscription":` + name + `}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := f.send(test.request)
			want := decode[any](t, response{status: 200, body: test.want}, 200)
			if found := decode[any](t, got, test.status); !isLike(found, want) {
				t.Errorf("it gives %s, want %s", got.body, test.want)
			}
			if contentType := got.header.Get("Content-Type"); contentType != "application/json; charset=utf-8" {
				t.Errorf("it is %s", contentType)
			}
		})
	}

	if count := f.number(`select count(*) from tinydevcrm.matviews
		where relation = '"Odd view"'::regclass and notify_when = 'changed'
		  and ignored_columns = '{name}' and notify_interval = '90 minutes' and notify_after = 2 and notify_deadline = '26 hours' and muted_until is null and not is_paused`); count != 1 {
		t.Error("the rule is not as it was asked for")
	}

	type listed struct {
		Subscription, Matview, URL, Status string
		Pending                            int `json:"pending_count"`
	}
	var ours []listed
	for _, next := range decode[[]listed](t, f.send(get("/subscriptions")), 200) {
		if strings.HasPrefix(next.Subscription, f.schema) {
			ours = append(ours, next)
		}
	}
	if want := []listed{
		{f.schema + " exact", "", "", "ok", 0}, {f.schema + " hook", "", "https://example.com/new", "ok", 0}, {f.schema + " to one", odd, "", "ok", 0},
	}; !slices.Equal(ours, want) {
		t.Errorf("the subscriptions are %+v, want %+v", ours, want)
	}
}

// isLike compares JSON values. … matches every value except null.
func isLike(found, want any) bool {
	switch want := want.(type) {
	case string:
		return found == want || want == "…" && found != nil && found != ""
	case []any:
		found, isList := found.([]any)
		return isList && slices.EqualFunc(found, want, isLike)
	case map[string]any:
		found, isObject := found.(map[string]any)
		if !isObject || len(found) != len(want) {
			return false
		}
		for name, value := range want {
			if has, isThere := found[name]; !isThere || !isLike(has, value) {
				return false
			}
		}
		return true
	}
	return found == want
}

func TestRoutesRefuse(t *testing.T) {
	f := newFixture(t)
	subscription, _ := f.useRoutes()
	f.exec("create materialized view unwatched as select 1 as n")
	const view = "/matviews/preview"

	f.checkRefusals(t, []refusal{
		{"a preview of nothing", post(view), 400, []string{`"query" is missing`}, nil},
		{"a preview of blanks", post(view, "query", " \n;"), 422, []string{"the query is empty", "TD002"}, nil},
		{"a preview of two statements", post(view, "query", "select 1; drop table numbers", "name", "kept", "notify_when", "changed"),
			422, []string{"exactly one query", "TD002"}, []string{"drop table numbers", `value="kept"`, `value="changed" checked`}},
		{"a preview of a command", post(view, "query", "drop table numbers"), 422, []string{"exactly one query", "TD002"}, nil},
		{"a preview of explain", post(view, "query", "explain analyze select 1"), 422, []string{"explain is not a query", "TD002"}, nil},
		{"a preview that writes", post(view, "query", "with gone as (delete from numbers returning n) select n from gone"),
			422, []string{"data-modifying statements in WITH", "0A000"}, nil},
		{"a preview of two columns of a name", post(view, "query", "select 1 as n, 2 as n"), 422, []string{`"n" specified more than once`, "42701"}, nil},
		{"a preview of a missing table", post(view, "query", "select * from missing"), 404, []string{"does not exist", "42P01", "LINE 1: select * from missing"}, nil},
		{"a preview that fails as it runs", post(view, "query", "select 1 / (n - 1) as n from numbers"), 422, []string{"division by zero", "22012"}, nil},
		{"a preview by parameter", post(view, "query", "select $1"), 422, []string{"no parameter $1", "42P02"}, nil},

		{"a rule of no view", post("/matviews/watch", "notify_when", "always"), 400, []string{`"relation" is missing`}, nil},
		{"an empty rule", post("/matviews/watch", "relation", `"Odd view"`, "notify_when", ""), 422, []string{"TD007"}, nil},
		{"a rule that is none", post("/matviews/watch", "relation", `"Odd view"`, "notify_when", "sometimes"), 422, []string{"sometimes", "TD007"}, nil},
		{"a rule of a missing view", post("/matviews/watch", "relation", "missing", "notify_when", "always"), 404, []string{"missing is no longer there", "42P01"}, nil},
		{"a rule of a table", post("/matviews/watch", "relation", "numbers", "notify_when", "always"), 422, []string{"is not a materialized view", "TD008"}, nil},
		{"a period that is none", post("/matviews/watch", "relation", `"Odd view"`, "notify_when", "always", "notify_interval", "soon"),
			422, []string{"soon", "22007"}, nil},
		{"a mute of no time", post("/matviews/mute", "relation", `"Odd view"`), 400, []string{`"mute_for" is missing`}, nil},
		{"a mute in the past", post("/matviews/mute", "relation", `"Odd view"`, "mute_for", "-1 hour"), 422, []string{"cannot mute until", "TD007"}, nil},
		{"a number of refreshes that is none", post("/matviews/watch", "relation", `"Odd view"`, "notify_when", "always", "notify_after", "1001"),
			422, []string{"1001", "TD007"}, nil},
		{"a column that is none", post("/matviews/watch", "relation", `"Odd view"`, "notify_when", "changed", "ignored_columns", "n, missing"),
			422, []string{"missing", "TD007"}, nil},
		{"a pause of no view", post("/matviews/pause"), 400, []string{`"relation" is missing`}, nil},
		{"a pause of a missing view", post("/matviews/pause", "relation", "missing"), 404, []string{"is no longer there", "42P01"}, nil},
		{"a pause of one not watched", post("/matviews/pause", "relation", "unwatched"), 404, []string{"is not watched", "TD001"}, nil},
		{"resuming a missing view", post("/matviews/resume", "relation", "missing"), 404, []string{"is no longer there", "42P01"}, nil},
		{"resuming one not watched", post("/matviews/resume", "relation", "unwatched"), 404, []string{"is not watched", "TD001"}, nil},

		{"a subscription without a name", post("/subscriptions", "url", "https://example.com/kept", "new_matview", "kept_view"),
			400, []string{`"new_subscription" is missing`}, []string{`value="https://example.com/kept"`, `value="kept_view"`}},
		{"a name that is too long", post("/subscriptions", "new_subscription", strings.Repeat("é", 101)), 422, []string{"23514"}, nil},
		{"a subscription to a missing view", post("/subscriptions", "new_subscription", "kept_name", "new_matview", "missing"),
			404, []string{"missing is no longer there", "42P01"}, []string{`value="kept_name"`}},
		{"a subscription to one not watched", post("/subscriptions", "new_subscription", "x", "new_matview", "unwatched"),
			404, []string{"is not watched", "TD001"}, nil},
		{"a URL that is none", post("/subscriptions", "new_subscription", "x", "url", "example.com/in"),
			422, []string{"example.com/in", "begins with http:// or https://", "TD007"}, []string{`value="example.com/in"`}},
		{"a URL that runs", post("/subscriptions", "new_subscription", "x", "url", "javascript:alert(1)"), 422, []string{"TD007"}, nil},
		{"a URL with a blank", post("/subscriptions", "new_subscription", "x", "url", "https://example.com/a b"), 422, []string{"TD007"}, nil},
		{"a URL that is too long", post("/subscriptions", "new_subscription", "x", "url", "https://example.com/"+strings.Repeat("x", 2000)),
			422, []string{"TD007"}, nil},
		{"a webhook of a name in use", post("/subscriptions", "new_subscription", subscription, "url", "https://example.com/"),
			409, []string{"is there already", "TD004"}, nil},
		{"a webhook with a password", post("/subscriptions", "new_subscription", f.schema+" w", "url", "https://u:p4ss@example.com/"), 422, []string{"user name or password", "TD007"}, []string{"p4ss"}},
		{"a webhook at a private address", post("/subscriptions", "new_subscription", f.schema+" w", "url", "http://10.0.0.1/"), 422, []string{"10.0.0.1 is private", "--allow-webhooks-to", "TD007"}, nil},
		{"a new URL of a worker", post("/subscriptions/alter", "subscription", subscription, "new_url", "https://example.com/"), 404, []string{"is not a webhook", "TD001"}, nil},
		{"a pause of no subscription", post("/subscriptions/pause"), 400, []string{`"subscription" is missing`}, nil},
		{"a pause of a missing one", post("/subscriptions/pause", "subscription", "missing"), 404, []string{"there is no subscription 'missing'", "TD001"}, nil},
		{"resuming a missing one", post("/subscriptions/resume", "subscription", "missing"), 404, []string{"there is no subscription 'missing'", "TD001"}, nil},
		{"dropping a missing one", post("/subscriptions/drop", "subscription", "it's gone"), 404, []string{"there is no subscription 'it''s gone'", "TD001"}, nil},
		{"redelivering of a missing one", post("/subscriptions/redeliver", "subscription", "missing"), 404, []string{"there is no subscription 'missing'", "TD001"}, nil},
		{"redelivering nothing", post("/deliveries/redeliver"), 400, []string{`"delivery" is missing`}, nil},
		{"redelivering a missing one", post("/deliveries/redeliver", "delivery", "9223372036854775807"), 404, []string{"there is no delivery 9223372036854775807", "TD001"}, nil},
		{"a delivery that is no number", post("/deliveries/redeliver", "delivery", "first"), 422, []string{`"first"`, "22P02"}, nil},
		{"a delivery beyond all numbers", post("/deliveries/redeliver", "delivery", "9223372036854775808"), 422, []string{"22003"}, nil},
	})
	if count := f.number("select count(*) from numbers"); count != 12 {
		t.Errorf("%d numbers are left", count)
	}
	if count := f.number("select count(*) from tinydevcrm.subscriptions where name in ('x', 'kept_name')"); count != 0 {
		t.Errorf("%d subscriptions are left", count)
	}

	// Only programs use these routes.
	for _, test := range []struct{ schedule, says, code string }{
		{"", "", "TD003"}, {"sometimes", "sometimes", "TD003"}, {"* * *", "* * *", "TD003"}, {"61 seconds", "1 minute", "TD003"},
	} {
		got := f.send(get("/schedules/describe?" + url.Values{"schedule": {test.schedule}}.Encode()))
		if said := checkError(t, got.body); got.status != 422 || !strings.Contains(said, test.says) || !strings.HasSuffix(said, test.code) {
			t.Errorf("schedule %q: %d %s", test.schedule, got.status, said)
		}
	}
	for _, path := range []string{"/matviews/preview", "/subscriptions/pause", "/deliveries/redeliver", "/matviews/watch"} {
		if got := f.send(request{method: "PUT", path: path}); got.status != 405 {
			t.Errorf("PUT %s: status %d", path, got.status)
		}
	}
}
