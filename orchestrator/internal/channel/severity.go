package channel

import "github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/message"

// A look is how a severity appears to the receivers that can show it.
type look struct {
	// colour is of Solarized, as on the page.
	colour int
	// teams is a style of a container in an Adaptive Card.
	teams string
	// priority and tags are those of ntfy: 3 is the default, and 4 makes a sound.
	priority int
	tags     []string
	// pagerDuty is the severity of an alert.
	pagerDuty string
}

func lookOf(m message.Message) look {
	switch {
	case m.IsTest:
		return look{0x6c71c4, "emphasis", 3, []string{"test_tube"}, "info"}
	case m.Severity == "failure":
		return look{0xdc322f, "attention", 4, []string{"rotating_light"}, "error"}
	case m.IsResolved:
		return look{0x859900, "good", 3, []string{"white_check_mark"}, "info"}
	case m.Severity == "change":
		return look{0x268bd2, "accent", 3, nil, "warning"}
	}
	// It is late or silent, or has been dropped.
	return look{0xb58900, "warning", 4, []string{"warning"}, "warning"}
}
