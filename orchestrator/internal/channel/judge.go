package channel

import "github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"

// judge reads what a receiver says in the body of its refusal.
func judge(format string, refusal *webhook.Refusal) {}
