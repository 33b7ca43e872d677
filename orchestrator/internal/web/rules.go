package web

// A notifyRule is a value of tinydevcrm.matviews.notify_when, with its label and what it does.
type notifyRule struct{ Name, Label, Explanation string }

func notifyRules() []notifyRule {
	return []notifyRule{
		{"not_empty", "when it has rows", "Each refresh that finds rows. The event has the first of them."},
		{"empty", "when it has no rows", "Each refresh that finds none."},
		{"became_not_empty", "when it has rows again", "A refresh that finds rows when the previous one found none."},
		{"rows_added", "when it has new rows", "A refresh that finds rows which the previous one did not find. The event has only these rows."},
		{"changed", "when its rows change", "A refresh that finds more, fewer or different rows than the previous one."},
		{"always", "at each refresh", "Each refresh, with or without rows."},
		{"never", "only of failures", "Only failures and recoveries, of which all other rules notify too."},
	}
}
