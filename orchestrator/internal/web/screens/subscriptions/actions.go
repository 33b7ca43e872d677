package subscriptions

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/trial"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/kit"
)

// on is an action on an existing subscription, At a part of its page, which calls one function.
func on(name, says, at, call string, fields ...string) kit.Action {
	return kit.Action{
		Name: name, Says: says, At: at,
		Required: []string{"subscription"},
		Fields:   append([]string{"subscription"}, fields...),
		Query:    "select json_build_object('subscription', $1::text) from " + call,
		Screen:   func(form url.Values) string { return pageOf(form.Get("subscription")) },
	}
}

// counting is an action like on, whose function returns how many deliveries it is about.
func counting(name, says, call string, fields ...string) kit.Action {
	action := on(name, says, "deliveries", "", fields...)
	action.Query = "select json_build_object('subscription', $1::text, 'count', found) from " + call + " as found"
	return action
}

func (s *screen) actions() map[string]kit.Action {
	muting := on("mute", "mute a subscription", "state", "tinydevcrm.mute_subscription($1, now() + $2::interval)", "mute_for")
	muting.Required = append(muting.Required, "mute_for")
	replaying := counting("replay", "replay events", "tinydevcrm.replay_events($1, now() - $2::interval)", "replay_for")
	replaying.Required = append(replaying.Required, "replay_for")
	rotating := on("rotate", "rotate a secret", "secret", "", "grace")
	rotating.Query = `
		select json_build_object(
			'subscription', $1::text,
			'secret', tinydevcrm.rotate_webhook_secret($1, coalesce(nullif($2, ''), '1 day')::interval))`
	rotating.HasSecret = true
	dropping := on("drop", "drop a subscription", "drop", "tinydevcrm.drop_subscription($1)")
	dropping.Next = func(url.Values, map[string]any) string { return "/subscriptions" }
	editing := on("edit", "edit a subscription", "message", "")
	editing.Work = s.edit
	previewing := on("preview", "preview a message", "message", "")
	previewing.Work, previewing.KeepsInput = s.preview, true
	testing := on("test", "test a subscription", "state", "")
	testing.Work = func(ctx context.Context, form url.Values) (any, error) {
		return trial.Ask(ctx, s.site.DB(ctx), form.Get("subscription"))
	}

	return map[string]kit.Action{
		"POST /subscriptions": creating(),
		"POST /subscriptions/alter": on("alter", "change a webhook", "webhook",
			"tinydevcrm.alter_webhook($1, nullif($2, ''), nullif($3, ''), tinydevcrm._parse_headers($4))", "new_url", "format", "headers"),
		"POST /subscriptions/digest": on("digest", "set a digest", "digest",
			"tinydevcrm.set_digest($1, nullif($2, ''))", "digest"),
		"POST /subscriptions/audience": on("audience", "set an audience", "audience", `
			tinydevcrm.set_audience(
				$1, nullif($2, ''), coalesce($3::boolean, false), nullif($4, ''),
				coalesce(regexp_split_to_array(nullif(btrim($5), ''), '[\s,;]+'), '{}'))`,
			"rules", "each_row", "to_column", "allowed_domains"),
		"POST /subscriptions/edit":    editing,
		"POST /subscriptions/preview": previewing,
		"POST /subscriptions/test":    testing,
		"POST /subscriptions/pause": on("pause", "pause a subscription", "state",
			"tinydevcrm.pause_subscription($1, nullif($2, ''))", "reason"),
		"POST /subscriptions/resume": on("resume", "resume a subscription", "state", "tinydevcrm.resume_subscription($1)"),
		"POST /subscriptions/mute":   muting,
		"POST /subscriptions/unmute": on("unmute", "end the mute of a subscription", "state", "tinydevcrm.unmute_subscription($1)"),
		"POST /subscriptions/rotate": rotating,
		"POST /subscriptions/drop":   dropping,
		"POST /subscriptions/retry":  counting("retry", "retry a subscription", "tinydevcrm.retry_subscription($1)"),
		"POST /subscriptions/redeliver": counting(
			"redeliver-parked", "redeliver what is parked", "tinydevcrm.redeliver_parked($1)"),
		"POST /subscriptions/replay": replaying,
		"POST /deliveries/redeliver": {
			Name: "redeliver", Says: "redeliver an event", At: "deliveries",
			Required: []string{"delivery"}, Fields: []string{"delivery"},
			Query: `
				select json_build_object('delivery', $1::bigint)
				  from tinydevcrm.redeliver_event($1)`,
			Screen: func(url.Values) string { return "/subscriptions" },
		},
	}
}

// creating creates a subscription, or a webhook when there is a URL. The secret of a webhook is shown once.
func creating() kit.Action {
	return kit.Action{
		Name: "create", Says: "create a subscription", At: "new",
		Required: []string{"new_subscription"},
		Fields: []string{"new_subscription", "new_matview", "url", "numbers_as_text", "format", "headers", "recipients",
			"digest", "rules", "each_row"},
		Query: `
			select case
			           when coalesce($3, '') = '' and coalesce($7, '') = '' then json_build_object(
			               'subscription', $1::text,
			               'id', tinydevcrm.create_subscription(
			                   $1, nullif($2, '')::regclass, numbers_as_text => $4,
			                   notify_when => nullif($9, ''), each_row => $10))
			           else json_build_object(
			               'subscription', $1::text,
			               'secret', tinydevcrm.create_webhook(
			                   $1,
			                   -- Before PostgreSQL 14, coalesce(nullif(…), …) would also evaluate what it does not need.
			                   case
			                       when coalesce($3, '') <> '' then $3
			                       else tinydevcrm._join_addresses(regexp_split_to_array(btrim($7), '[\s,;]+'))
			                   end,
			                   nullif($2, '')::regclass, numbers_as_text => $4,
			                   format => nullif($5, ''), headers => tinydevcrm._parse_headers($6),
			                   digest => nullif($8, ''), notify_when => nullif($9, ''), each_row => $10))
			       end`,
		Named:  "new_matview",
		Status: http.StatusCreated,
		Screen: func(url.Values) string { return "/subscriptions/new" },
		Next: func(form url.Values, _ map[string]any) string {
			return pageOf(form.Get("new_subscription"))
		},
		HasSecret: true,
	}
}

// A preview is what a program gets of the message of a subscription, for its last event or for an example.
type preview struct {
	Subscription string `json:"subscription"`
	Title        string `json:"title"`
	Text         string `json:"message"`
	Link         string `json:"link"`
}

// edit sets the templates of a subscription. The preview does not see what its own statement changes.
func (s *screen) edit(ctx context.Context, form url.Values) (any, error) {
	return s.render(ctx, form, `
		select tinydevcrm.preview_message($1, $2, $3)
		  from tinydevcrm.alter_subscription($1, $2, $3)`)
}

func (s *screen) preview(ctx context.Context, form url.Values) (any, error) {
	return s.render(ctx, form, "select tinydevcrm.preview_message($1, $2, $3)")
}

func (s *screen) render(ctx context.Context, form url.Values, query string) (any, error) {
	m, err := s.readMessage(ctx, query, kit.Arguments(form, "subscription", "title", "message")...)
	return preview{form.Get("subscription"), m.Title, m.Text, m.Link}, err
}

// readMessage renders the notification that a query returns.
func (s *screen) readMessage(ctx context.Context, query string, arguments ...any) (message.Message, error) {
	var notification []byte
	if err := s.site.DB(ctx).QueryRowContext(ctx, query, arguments...).Scan(&notification); err != nil {
		return message.Message{}, fmt.Errorf("preview a message: %w", err)
	}
	return message.Parse(notification, s.publicURL)
}
