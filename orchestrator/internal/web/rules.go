package web

// A notifyRule is a value of tinydevcrm.matviews.notify_when, and what it tells.
type notifyRule struct{ Name, Label, Tells string }

func notifyRules() []notifyRule {
	return []notifyRule{
		{"not_empty", "when it has rows", "Each refresh that finds rows, with the first of them."},
		{"empty", "when it has no rows", "Each refresh that finds none."},
		{"became_not_empty", "when it has rows again", "The refresh that finds rows where the one before found none."},
		{"rows_added", "of rows that are new", "Only rows that were not there at the refresh before, and the event carries them."},
		{"changed", "when its rows change", "A refresh that finds other rows than the one before, more, fewer or different."},
		{"always", "at each refresh", "Every refresh, whatever it finds."},
		{"never", "only of failures", "Nothing but failures and recoveries, which the other rules tell too."},
	}
}
