package channel_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The rules of each receiver, as its documentation has them (webhook_formats.documentation_url). Each function returns
// what the receiver would refuse.
var rules = map[string]func(received) string{
	"slack":       slackRules,
	"discord":     discordRules,
	"teams":       teamsRules,
	"google_chat": googleRules,
	"telegram":    telegramRules,
	"ntfy":        ntfyRules,
	"pagerduty":   pagerDutyRules,
	"json":        func(received) string { return "" },
}

func units(text string) int { return len(utf16.Encode([]rune(text))) }

// decode reads a body strictly into a shape that has all the fields that the receiver documents and we may use.
func decode(got received, shape any) string {
	if !utf8.Valid(got.body) {
		return "not UTF-8"
	}
	if kind := got.header.Get("Content-Type"); kind != "application/json" {
		return "content type " + kind
	}
	decoder := json.NewDecoder(strings.NewReader(string(got.body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(shape); err != nil {
		return err.Error()
	}
	return ""
}

type slackBlock struct {
	Type string
	Text *struct {
		Type, Text string
		Emoji      bool
	}
	Elements []struct {
		Type     string
		Elements []struct{ Type, Text, URL string }
	}
}

func slackRules(got received) string {
	var m struct {
		Text        string
		Blocks      []slackBlock
		Attachments []struct {
			Color  string
			Blocks []slackBlock
		}
		UnfurlLinks bool `json:"unfurl_links"`
		UnfurlMedia bool `json:"unfurl_media"`
	}
	if problem := decode(got, &m); problem != "" {
		return "invalid_payload: " + problem
	}
	if strings.ContainsAny(regexp.MustCompile(`&(amp|lt|gt);`).ReplaceAllString(m.Text, ""), "<>&") {
		return "markup in the text: " + m.Text
	}
	blocks := m.Blocks
	for _, a := range m.Attachments {
		if !regexp.MustCompile(`^#[0-9a-f]{6}$`).MatchString(a.Color) {
			return "color " + a.Color
		}
		blocks = append(blocks, a.Blocks...)
	}
	if m.Text == "" || len(blocks) == 0 || len(blocks) > 50 {
		return "no_text, or too many blocks"
	}
	for _, b := range blocks {
		switch b.Type {
		case "header":
			if b.Text == nil || b.Text.Type != "plain_text" || b.Text.Text == "" || units(b.Text.Text) > 150 {
				return "invalid_blocks: header"
			}
		case "rich_text":
			for _, e := range b.Elements {
				if e.Type != "rich_text_section" && e.Type != "rich_text_preformatted" {
					return "invalid_blocks: " + e.Type
				}
				for _, part := range e.Elements {
					if part.Type != "text" && part.Type != "link" || part.Text == "" || units(part.Text) > 3000 {
						return fmt.Sprintf("invalid_blocks: %s of %d", part.Type, units(part.Text))
					}
				}
			}
		default:
			return "invalid_blocks: " + b.Type
		}
	}
	return ""
}

func discordRules(got received) string {
	var m struct {
		Embeds []struct {
			Title, Description string
			Color              int
		}
		AllowedMentions struct{ Parse []string } `json:"allowed_mentions"`
	}
	if problem := decode(got, &m); problem != "" {
		return problem
	}
	if len(m.Embeds) != 1 || m.AllowedMentions.Parse == nil || len(m.AllowedMentions.Parse) != 0 {
		return "embeds or allowed_mentions"
	}
	if got.query != "wait=true" {
		return "it would answer before it knows"
	}
	e := m.Embeds[0]
	switch {
	case e.Title == "" || units(e.Title) > 256:
		return "title"
	case units(e.Description) > 4096:
		return fmt.Sprintf("description of %d", units(e.Description))
	case units(e.Title)+units(e.Description) > 6000:
		return "embed"
	case e.Color < 0 || e.Color > 0xffffff:
		return "color"
	case strings.Count(e.Description, "```")%2 != 0:
		return "a block without an end"
	}
	// Outside of the block each mark is escaped, but those of the link to the page.
	parts := strings.Split(e.Description, "```")
	outside := strings.Join(append([]string{e.Title, parts[0]}, parts[min(2, len(parts)):]...), "\n")
	outside = regexp.MustCompile(`\[Open the view\]\(https://crm\.example\.com/[^)\s]*\)`).ReplaceAllString(outside, "")
	outside = regexp.MustCompile(`\\[^0-9A-Za-z\s]`).ReplaceAllString(outside, "")
	if mark := regexp.MustCompile("[*_~`|<>\\[\\]@]|(?m)^[ \t]*[-+#]").FindString(outside); mark != "" {
		return "a mark without escape: " + mark
	}
	return ""
}

func teamsRules(got received) string {
	if len(got.body) > 28<<10 {
		return fmt.Sprintf("Request Entity too large: %d", len(got.body))
	}
	var m struct {
		Type        string
		Attachments []struct {
			ContentType string
			ContentURL  any `json:"contentUrl"`
			Content     struct {
				Schema  string `json:"$schema"`
				Type    string
				Version string
				MSTeams struct{ Width string }
				Body    []map[string]any
				Actions []struct{ Type, Title, URL string }
			}
		}
	}
	if problem := decode(got, &m); problem != "" {
		return problem
	}
	if m.Type != "message" || len(m.Attachments) != 1 || m.Attachments[0].ContentType != "application/vnd.microsoft.card.adaptive" ||
		m.Attachments[0].Content.Type != "AdaptiveCard" || m.Attachments[0].Content.Version != "1.5" {
		return "no Adaptive Card"
	}
	for _, element := range m.Attachments[0].Content.Body {
		switch element["type"] {
		case "Container", "RichTextBlock":
		case "Table":
			columns := element["columns"].([]any)
			for _, row := range element["rows"].([]any) {
				if cells := row.(map[string]any)["cells"].([]any); len(cells) != len(columns) {
					return fmt.Sprintf("%d cells in %d columns", len(cells), len(columns))
				}
			}
		default:
			return fmt.Sprintf("element %v", element["type"])
		}
	}
	// Markdown is in TextBlocks and Facts only.
	if strings.Contains(string(got.body), `"TextBlock"`) || strings.Contains(string(got.body), `"FactSet"`) {
		return "a text with Markdown"
	}
	return ""
}

func googleRules(got received) string {
	if len(got.body) > 32000 {
		return fmt.Sprintf("INVALID_ARGUMENT: %d bytes", len(got.body))
	}
	if query, _ := url.ParseQuery(got.query); query.Get("key") == "" || query.Get("token") == "" {
		return "UNAUTHENTICATED"
	}
	var m struct {
		CardsV2 []struct {
			CardID string `json:"cardId"`
			Card   struct {
				Header   struct{ Title string }
				Sections []struct {
					Widgets []struct {
						TextParagraph *struct{ Text string }
						DecoratedText *struct {
							Text     string
							WrapText bool
						}
						ButtonList *struct {
							Buttons []struct {
								Text    string
								OnClick struct{ OpenLink struct{ URL string } }
							}
						}
					}
				}
			}
		}
	}
	if problem := decode(got, &m); problem != "" {
		return "INVALID_ARGUMENT: " + problem
	}
	if len(m.CardsV2) != 1 || m.CardsV2[0].Card.Header.Title == "" || len(m.CardsV2[0].Card.Sections) != 1 {
		return "INVALID_ARGUMENT: card"
	}
	widgets := m.CardsV2[0].Card.Sections[0].Widgets
	if len(widgets) == 0 || len(widgets) > 100 {
		return fmt.Sprintf("INVALID_ARGUMENT: %d widgets", len(widgets))
	}
	tags := regexp.MustCompile(`<br>|<font color="#[0-9a-f]{6}">|</font>`)
	for _, w := range widgets {
		var text string
		switch {
		case w.TextParagraph != nil:
			text = w.TextParagraph.Text
		case w.DecoratedText != nil:
			text = w.DecoratedText.Text
		}
		if strings.ContainsAny(tags.ReplaceAllString(text, ""), "<>") {
			return "INVALID_ARGUMENT: HTML: " + text
		}
	}
	return ""
}

func telegramRules(got received) string {
	if !strings.HasSuffix(got.path, "/sendMessage") || got.query != "" {
		return "Not Found"
	}
	var m struct {
		ChatID             string `json:"chat_id"`
		Text               string `json:"text"`
		ParseMode          string `json:"parse_mode"`
		LinkPreviewOptions struct {
			IsDisabled bool `json:"is_disabled"`
		} `json:"link_preview_options"`
	}
	if problem := decode(got, &m); problem != "" {
		return problem
	}
	if m.ChatID == "" || m.ParseMode != "HTML" {
		return "Bad Request: chat_id is empty"
	}
	var open []string
	plain := regexp.MustCompile(`<[^>]*>`).ReplaceAllStringFunc(m.Text, func(tag string) string {
		name := regexp.MustCompile(`^<(/?)(b|pre|a href="https://crm\.example\.com/[^"]*"|a)>$`).FindStringSubmatch(tag)
		switch {
		case name == nil:
			return "<"
		case name[1] == "":
			open = append(open, name[2][:1])
		case len(open) > 0 && open[len(open)-1] == name[2][:1]:
			open = open[:len(open)-1]
		default:
			return "<"
		}
		return ""
	})
	if outside := regexp.MustCompile(`(?s)<pre>.*</pre>`).ReplaceAllString(m.Text, ""); regexp.MustCompile(`(^|\W)@\w`).MatchString(outside) {
		return "somebody is mentioned: " + outside
	}
	if strings.ContainsAny(plain, "<>") || len(open) > 0 {
		return "Bad Request: can't parse entities: " + plain
	}
	plain = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&amp;", "&").Replace(plain)
	if length := units(plain); length == 0 || length > 4096 {
		return fmt.Sprintf("Bad Request: message is too long: %d", length)
	}
	return ""
}

func ntfyRules(got received) string {
	var m struct {
		Topic, Title, Message, Click string
		Priority                     int
		Tags                         []string
	}
	if problem := decode(got, &m); problem != "" {
		return "invalid request: request body must be message JSON: " + problem
	}
	switch {
	case got.path != "/":
		return "it would be the message of a topic: " + got.path
	case !regexp.MustCompile(`^[-_A-Za-z0-9]{1,64}$`).MatchString(m.Topic):
		return "invalid request: topic invalid"
	case len(m.Message) == 0 || len(m.Message) > 4096:
		return fmt.Sprintf("it would be a file: %d", len(m.Message))
	case len(got.body) > 2*4096:
		return "JSON body too large"
	case m.Priority < 1 || m.Priority > 5:
		return "invalid priority parameter"
	case strings.ContainsAny(m.Title, "\r\n"):
		return "title of several lines"
	}
	return ""
}

func pagerDutyRules(got received) string {
	if got.path != "/v2/enqueue" || got.query != "" || len(got.body) > 512<<10 {
		return "path, query or size"
	}
	var m struct {
		RoutingKey  string `json:"routing_key"`
		EventAction string `json:"event_action"`
		DedupKey    string `json:"dedup_key"`
		Client      string
		ClientURL   string `json:"client_url"`
		Links       []struct{ Href, Text string }
		Payload     struct {
			Summary, Source, Severity, Class string
			CustomDetails                    map[string]any `json:"custom_details"`
		}
	}
	if problem := decode(got, &m); problem != "" {
		return "invalid event: " + problem
	}
	switch {
	case len(m.RoutingKey) != 32:
		return "'routing_key' is missing"
	case m.EventAction != "trigger" && m.EventAction != "resolve":
		return "'event_action' is invalid"
	case m.DedupKey == "" || units(m.DedupKey) > 255:
		return "'dedup_key' is too long"
	case m.Payload.Summary == "" || units(m.Payload.Summary) > 1024:
		return "'payload.summary'"
	case m.Payload.Source == "":
		return "'payload.source'"
	case !slices.Contains([]string{"critical", "error", "warning", "info"}, m.Payload.Severity):
		return "'payload.severity'"
	}
	return ""
}
