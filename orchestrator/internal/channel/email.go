package channel

import (
	"context"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// UseMail has the Sender send messages of format email by a server. Without one they wait. Call it before the first
// Send.
func (s *Sender) UseMail(server *mail.Server) { s.mail = server }

// email makes one attempt at an e-mail.
func (s *Sender) email(ctx context.Context, m webhook.Message) (*webhook.Answer, error) {
	if s.mail == nil {
		return nil, &webhook.Refusal{Reason: "the orchestrator has no SMTP_URL"}
	}
	report, err := s.mail.Post(ctx, m.Body, s.publicURL)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &webhook.Refusal{Status: statusUnbuildable, Reason: err.Error()}
	case report.Failure != "":
		return nil, &webhook.Refusal{Reason: report.Failure, SentTo: strings.Join(report.Sent, " ")}
	case len(report.Refused) > 0:
		return nil, &webhook.Refusal{Reason: strings.Join(report.Refused, "; "), SentTo: strings.Join(report.Sent, " "), IsFinal: true}
	}
	return &webhook.Answer{Status: statusSent, Body: []byte("sent to " + strings.Join(report.Sent, ", "))}, nil
}

// statusSent is the status of an answer that an SMTP server gives without one.
const statusSent = 200
