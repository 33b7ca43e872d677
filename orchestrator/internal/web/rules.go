package web

import (
	"context"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// A notifyRule is a row of tinydevcrm.notify_rules.
type notifyRule struct{ Name, Label, Description string }

func (r *notifyRule) fields() []any { return []any{&r.Name, &r.Label, &r.Description} }

// A ruleChoice is the rules with the one that is chosen. Without the rules, a form keeps that one.
type ruleChoice struct {
	Rules  []notifyRule
	Chosen string
	// Suggests means that the database may choose.
	Suggests bool
}

// RulesWith is what a form shows to choose a rule from.
func (p page) RulesWith(chosen string) ruleChoice { return ruleChoice{Rules: p.Rules, Chosen: chosen} }

// RulesOrNone is RulesWith for a new view.
func (p page) RulesOrNone(chosen string) ruleChoice {
	return ruleChoice{Rules: p.Rules, Chosen: chosen, Suggests: true}
}

func (s *server) fillRules(ctx context.Context, shown *page) error {
	var err error
	shown.Rules, err = db.Collect(ctx, s.pool(ctx), "read the rules", (*notifyRule).fields,
		"select name, label, description from tinydevcrm.notify_rules order by rank")
	return err
}
