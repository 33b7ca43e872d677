// Package channel writes a notification in the shape that its receiver documents, and reads the receiver's answer.
package channel

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/mail"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

// A Request is what is posted to a receiver.
type Request struct {
	URL string
	// Body is JSON.
	Body []byte
}

// Build writes a message in a format other than standard. The URL is that of the webhook, which may hold what the
// receiver wants in the body.
func Build(format string, m message.Message, to *url.URL) (Request, error) {
	switch format {
	case "slack":
		return slack(m, to)
	case "discord":
		return discord(m, to)
	case "teams":
		return teams(m, to)
	case "google_chat":
		return googleChat(m, to)
	case "telegram":
		return telegram(m, to)
	case "ntfy":
		return ntfy(m, to)
	case "pagerduty":
		return pagerDuty(m, to)
	case "json":
		return ownJSON(m, to)
	}
	return Request{}, fmt.Errorf("this orchestrator does not know the format %q", format)
}

// A Sender makes one attempt at a message, in the format of its endpoint.
type Sender struct {
	client *webhook.Client
	// mail sends e-mails; nil without a server.
	mail *mail.Server
	// publicURL is where people reach the page; links lead there.
	publicURL string
}

// NewSender returns a Sender whose links lead to the page at publicURL. Without one there are no links.
func NewSender(client *webhook.Client, publicURL string) *Sender {
	return &Sender{client: client, publicURL: publicURL}
}

// Send is webhook.Client.Send for all formats. The body of the message is the post itself in format standard, and a
// notification in all others.
func (s *Sender) Send(ctx context.Context, endpoint webhook.Endpoint, m webhook.Message) error {
	_, err := s.Post(ctx, endpoint, m)
	return err
}

// Post is Send that also returns the answer; nil when there is none.
func (s *Sender) Post(ctx context.Context, endpoint webhook.Endpoint, m webhook.Message) (*webhook.Answer, error) {
	if endpoint.Format == "standard" || endpoint.Format == "" {
		return s.client.Post(ctx, endpoint, m)
	}
	if endpoint.Format == "email" {
		return s.email(ctx, m)
	}
	request, err := s.build(endpoint, m)
	if err != nil {
		// It is about the message: see tinydevcrm._classify_refusal().
		return nil, &webhook.Refusal{Status: statusUnbuildable, Reason: err.Error()}
	}
	endpoint.URL, m.Body = request.URL, request.Body
	answer, err := s.client.Post(ctx, endpoint, m)
	var refusal *webhook.Refusal
	if errors.As(err, &refusal) {
		judge(endpoint.Format, refusal)
	}
	return answer, err
}

// statusUnbuildable is what a receiver would answer to a message that cannot be written.
const statusUnbuildable = 422

func (s *Sender) build(endpoint webhook.Endpoint, m webhook.Message) (Request, error) {
	to, err := url.Parse(endpoint.URL)
	if err != nil {
		return Request{}, errors.New("the URL cannot be parsed")
	}
	parsed, err := message.Parse(m.Body, s.publicURL)
	if err != nil {
		return Request{}, err
	}
	return Build(endpoint.Format, parsed, to)
}
