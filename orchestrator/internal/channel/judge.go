package channel

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// An answer is what receivers say in the body of a refusal.
type answer struct {
	// RetryAfter is Discord's, with fractions: https://discord.com/developers/docs/topics/rate-limits.
	RetryAfter float64 `json:"retry_after"`
	// Code is Discord's error: https://discord.com/developers/docs/topics/opcodes-and-status-codes#json.
	Code json.RawMessage `json:"code"`
	// Parameters are Telegram's: https://core.telegram.org/bots/api#responseparameters.
	Parameters struct {
		RetryAfter float64 `json:"retry_after"`
	} `json:"parameters"`
}

// judge reads what a receiver says in the body of its refusal: how long to wait, and that it is gone for good, which is
// status 410 to tinydevcrm._refuse_post().
func judge(format string, refusal *webhook.Refusal) {
	var said answer
	// Many bodies are no JSON.
	_ = json.Unmarshal([]byte(refusal.Body), &said)
	if refusal.Status == http.StatusTooManyRequests {
		seconds := max(said.RetryAfter, said.Parameters.RetryAfter)
		// Rounded up: a moment too early would be refused again.
		wait := time.Duration(min(seconds, 90*24*3600)*float64(time.Second)) + time.Second - 1
		refusal.RetryAfter = max(refusal.RetryAfter, wait.Truncate(time.Second))
	}
	if isGone(format, refusal, said) {
		refusal.Status = http.StatusGone
	}
}

func isGone(format string, refusal *webhook.Refusal, said answer) bool {
	switch format {
	case "slack":
		// https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors
		text := strings.TrimSpace(refusal.Body)
		return refusal.Status == http.StatusNotFound && (text == "no_service" || text == "no_team" || text == "channel_not_found") ||
			refusal.Status == http.StatusForbidden && (text == "invalid_token" || text == "no_active_hooks")
	case "discord":
		// Unknown webhook, or a token that is not its own.
		code := string(said.Code)
		return refusal.Status == http.StatusNotFound && code == "10015" || refusal.Status == http.StatusUnauthorized && code == "50027"
	case "telegram":
		// The token is revoked; the bot was removed from the chat.
		return refusal.Status == http.StatusUnauthorized || refusal.Status == http.StatusForbidden
	}
	return false
}
