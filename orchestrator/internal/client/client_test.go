package client_test

import (
	"testing"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/client"
)

func TestOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1":             "192.0.2.1",
		"[::ffff:192.0.2.1]:1":    "192.0.2.1",
		"[2001:db8:0:1:2::3]:1":   "2001:db8:0:1::/64",
		"[2001:db8:0:1::4]:65535": "2001:db8:0:1::/64",
		"[2001:db8:0:2::4]:65535": "2001:db8:0:2::/64",
		"[fe80::1%eth0]:1":        "fe80::/64",
		"@":                       "@",
	} {
		if got := client.Of(remote); got != want {
			t.Errorf("%s is %s, want %s", remote, got, want)
		}
	}
}
