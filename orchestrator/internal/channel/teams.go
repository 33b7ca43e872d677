package channel

import (
	"net/url"
	"strings"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"
)

// teams writes an Adaptive Card for a Teams workflow ("When a Teams webhook request is received"):
// https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using. Teams takes
// messages up to 28 KB, in which it counts its own markup. Text is only in TextRuns: Teams reads Markdown in TextBlocks
// (https://learn.microsoft.com/en-us/microsoftteams/platform/task-modules-and-cards/cards/cards-format).
func teams(m message.Message, to *url.URL) (Request, error) {
	look := lookOf(m)
	title := cut(line(m.Title), m.Limits.Title, plain, characters)
	text := cut(prose(m), m.Limits.Text, plain, characters)
	body, err := fit(m, func(t table) ([]byte, error) {
		elements := []any{map[string]any{
			"type":  "Container",
			"style": look.teams,
			"bleed": true,
			"items": []any{teamsText(title, "Bolder")},
		}}
		for i, l := range strings.SplitN(text, "\n", maxLines) {
			if i == maxLines-1 {
				l = line(l)
			}
			if l != "" {
				elements = append(elements, teamsText(l, "Default"))
			}
		}
		if len(t.rows) > 0 {
			elements = append(elements, teamsTable(t))
		}
		if remark := t.remark(); remark != "" {
			elements = append(elements, teamsText(remark, "Default"))
		}
		card := map[string]any{
			"$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
			"type":    "AdaptiveCard",
			"version": "1.5",
			"msteams": map[string]any{"width": "Full"},
			"body":    elements,
		}
		if m.Link != "" {
			card["actions"] = []any{map[string]any{"type": "Action.OpenUrl", "title": openLink, "url": m.Link}}
		}
		return marshal(map[string]any{
			"type": "message",
			"attachments": []any{map[string]any{
				"contentType": "application/vnd.microsoft.card.adaptive",
				"contentUrl":  nil,
				"content":     card,
			}},
		})
	}, fits(m))
	return Request{URL: to.String(), Body: body}, err
}

func teamsText(text, weight string) map[string]any {
	return map[string]any{
		"type":    "RichTextBlock",
		"inlines": []any{map[string]any{"type": "TextRun", "text": text, "weight": weight}},
	}
}

func teamsTable(t table) map[string]any {
	columns := make([]any, len(t.columns))
	for i := range columns {
		columns[i] = map[string]any{"width": 1}
	}
	rows := []any{teamsRow(t.columns, "Bolder")}
	for _, row := range t.rows {
		rows = append(rows, teamsRow(row, "Default"))
	}
	return map[string]any{"type": "Table", "firstRowAsHeaders": true, "columns": columns, "rows": rows}
}

func teamsRow(row []string, weight string) map[string]any {
	cells := make([]any, len(row))
	for i, cell := range row {
		cells[i] = map[string]any{"type": "TableCell", "items": []any{teamsText(cell, weight)}}
	}
	return map[string]any{"type": "TableRow", "cells": cells}
}
