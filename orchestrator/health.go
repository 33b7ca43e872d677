package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// healthWithin is less than the timeout of a container's health check.
const healthWithin = 4 * time.Second

// healthCommand is for containers that have no other program that could send the request.
func (p *program) healthCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "health",
		Short:   "Check that the page at $LISTEN_ADDR is alive, for Docker's health check",
		Example: "  LISTEN_ADDR=:5000 orchestrator health",
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(command.Context(), healthWithin)
			defer cancel()
			addr := p.listenAddr
			if addr == "" {
				addr = defaultListenAddr
			}
			return askHealth(ctx, addr)
		},
	}
}

func askHealth(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("read the address %q: %w", addr, err)
	}
	// A server that listens on all addresses also answers on loopback.
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost"
	}
	url := "http://" + net.JoinHostPort(host, port) + "/healthz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return noHealth(fmt.Sprintf("no page answers at %s", addr))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return noHealth(fmt.Sprintf("the page at %s says %s", addr, response.Status))
	}
	return nil
}

func noHealth(message string) error {
	return &db.UserError{
		Status:  http.StatusServiceUnavailable,
		Message: message,
		Hint:    "orchestrator up serves it. Set LISTEN_ADDR when it has another address.",
	}
}
