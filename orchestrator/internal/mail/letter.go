package mail

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"regexp"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

const (
	// maxSubject is what a list of mails shows.
	maxSubject = 150
	// maxAttached bounds the files of a letter together.
	maxAttached = 2 << 20
)

//go:embed mail.html
var source string

// A letter is a message to one address.
type letter struct {
	to  string
	msg *gomail.Msg
}

// A recipient gets a letter of their own, with the link that ends it for them alone.
type recipient struct {
	Address     string `json:"address"`
	Unsubscribe string `json:"unsubscribe"`
}

// An envelope is what tinydevcrm._address_email() adds to a notification: who still has to get it, and by what a
// mailbox recognises a letter that comes twice.
type envelope struct {
	MailID     string      `json:"mail_id"`
	Recipients []recipient `json:"recipients"`
}

func envelopeOf(notification []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(notification, &e); err != nil {
		return envelope{}, fmt.Errorf("read the recipients of a notification: %w", err)
	}
	return e, nil
}

// A part is what a letter says about one event.
type part struct {
	message.Message
	Table  table
	Colour string
}

// A page is what both texts of a letter show.
type page struct {
	Intro, Reason, Unsubscribe string
	Parts                      []part
}

// colours are those of the page, by what has happened.
func colourOf(severity string) string {
	switch severity {
	case "failure", "dropped":
		return "#dc322f"
	case "recovery":
		return "#859900"
	case "late", "silent":
		return "#b58900"
	}
	return "#268bd2"
}

// write makes the letters of a message.
func write(m message.Message, e envelope, server *Server, publicURL string) ([]letter, error) {
	layout, err := template.New("mail").Parse(source)
	if err != nil {
		return nil, fmt.Errorf("read the layout of e-mails: %w", err)
	}
	files, err := attach(m)
	if err != nil {
		return nil, err
	}
	p := page{Parts: partsOf(m), Reason: "You get this because somebody has subscribed this address to " + sourceOf(m) + "."}
	if len(m.Parts) > 0 {
		p.Intro = m.Text
	}
	letters := make([]letter, len(e.Recipients))
	for i, r := range e.Recipients {
		p.Unsubscribe = ""
		if publicURL != "" && r.Unsubscribe != "" {
			p.Unsubscribe = strings.TrimRight(publicURL, "/") + r.Unsubscribe
		}
		var html bytes.Buffer
		if err := layout.Execute(&html, p); err != nil {
			return nil, fmt.Errorf("write an e-mail: %w", err)
		}
		msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
		if err := msg.To(r.Address); err != nil {
			return nil, fmt.Errorf("address an e-mail: %w", err)
		}
		msg.FromMailAddress(server.from)
		msg.Subject(subject(m.Title))
		msg.SetDateWithValue(time.Now())
		msg.SetMessageIDWithValue(idOf(e.MailID, server))
		// So that no out-of-office answers it.
		msg.SetGenHeader("Auto-Submitted", "auto-generated")
		if p.Unsubscribe != "" {
			msg.SetListUnsubscribe(p.Unsubscribe)
		}
		// Mail programs post there by themselves only by https, as RFC 8058 wants it.
		if strings.HasPrefix(p.Unsubscribe, "https://") {
			msg.SetListUnsubscribePost()
		}
		msg.SetBodyString(gomail.TypeTextPlain, p.text())
		msg.AddAlternativeString(gomail.TypeTextHTML, html.String())
		for _, f := range files {
			if err := msg.AttachReader(f.name, bytes.NewReader(f.content), gomail.WithFileContentType("text/csv; charset=utf-8")); err != nil {
				return nil, fmt.Errorf("attach rows to an e-mail: %w", err)
			}
		}
		letters[i] = letter{r.Address, msg}
	}
	return letters, nil
}

func sourceOf(m message.Message) string {
	if m.Matview != "" {
		return oneLine(m.Matview, maxCell)
	}
	return "these notifications"
}

// subject is a title as a header. "=?" would begin a word that a mail program decodes.
func subject(title string) string {
	return oneLine(strings.ReplaceAll(title, "=?", "= ?"), maxSubject)
}

// idOf is the Message-ID of a letter.
func idOf(id string, server *Server) string {
	_, domain, _ := strings.Cut(server.from.Address, "@")
	return unsafeInIDs.ReplaceAllString(id, "_") + "@" + domain
}

func partsOf(m message.Message) []part {
	messages := m.Parts
	if len(messages) == 0 {
		messages = []message.Message{m}
	}
	parts := make([]part, len(messages))
	for i, one := range messages {
		parts[i] = part{Message: one, Table: shown(one), Colour: colourOf(one.Severity)}
	}
	return parts
}

// text is the part for those who read no HTML.
func (p page) text() string {
	var text strings.Builder
	if p.Intro != "" {
		text.WriteString(p.Intro + "\n\n")
	}
	for _, one := range p.Parts {
		for _, paragraph := range []string{one.Title, one.Text} {
			if paragraph != "" {
				text.WriteString(strings.TrimRight(paragraph, "\n") + "\n\n")
			}
		}
		if len(one.Table.Rows) > 0 {
			text.WriteString(one.Table.String())
			if one.Table.More > 0 {
				fmt.Fprintf(&text, "and %d more\n", one.Table.More)
			}
			text.WriteString("\n")
		}
		if one.Link != "" {
			text.WriteString(one.Link + "\n\n")
		}
	}
	// Two dashes and a space begin what mail programs leave out of an answer.
	text.WriteString("-- \n" + p.Reason + "\n")
	if p.Unsubscribe != "" {
		text.WriteString("Unsubscribe: " + p.Unsubscribe + "\n")
	}
	return text.String()
}

type file struct {
	name    string
	content []byte
}

var (
	unsafeInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)
	unsafeInIDs   = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// attach makes a CSV of each part that has rows, until they are too long together.
func attach(m message.Message) ([]file, error) {
	var files []file
	left := maxAttached
	for _, one := range partsOf(m) {
		if len(one.Rows) == 0 {
			continue
		}
		content, err := asCSV(one.Message)
		if err != nil {
			return nil, fmt.Errorf("write the rows of an e-mail: %w", err)
		}
		if left -= len(content); left < 0 {
			break
		}
		name := unsafeInNames.ReplaceAllString(one.Matview+"-"+strings.TrimPrefix(one.ID, "event_"), "_")
		files = append(files, file{name + ".csv", content})
	}
	return files, nil
}
