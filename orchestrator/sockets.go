package main

import (
	"fmt"
	"net"
	"net/http"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
)

// sockets are where up serves; metrics is nil where it has no address of its own.
type sockets struct{ page, metrics net.Listener }

func (p *program) openSockets() (sockets, error) {
	page, err := net.Listen("tcp", p.listenAddr)
	if err != nil {
		return sockets{}, &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: fmt.Sprintf("cannot serve the page: %v", err),
			Hint:    "--listen-addr or LISTEN_ADDR names another port.",
		}
	}
	if p.metricsAddr == "" {
		return sockets{page: page}, nil
	}
	metrics, err := net.Listen("tcp", p.metricsAddr)
	if err != nil {
		page.Close()
		return sockets{}, &db.UserError{
			Status:  http.StatusServiceUnavailable,
			Message: fmt.Sprintf("cannot serve the metrics: %v", err),
			Hint:    "--metrics-addr names another port.",
		}
	}
	return sockets{page: page, metrics: metrics}, nil
}

func (s sockets) close() {
	s.page.Close()
	if s.metrics != nil {
		s.metrics.Close()
	}
}

// addresses are those to log.
func (s sockets) addresses() []any {
	found := []any{"page", "http://" + s.page.Addr().String() + "/"}
	if s.metrics != nil {
		found = append(found, "metrics", "http://"+s.metrics.Addr().String()+"/metrics")
	}
	return found
}
