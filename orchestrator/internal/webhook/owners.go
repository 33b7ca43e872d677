package webhook

import (
	"net/http"
	"sync"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/guard"
)

const (
	// maxIdle is how many connections an owner keeps, also to one host. As many posts may run at once.
	maxIdle = 256
	// maxOpen is how many connections are open, of all owners, before those are closed that no post uses.
	maxOpen = 4096
	// forgetAfter is longer than a connection is kept.
	forgetAfter = 2 * time.Minute
	// pingAfter is how long an HTTP/2 connection with a post on it is silent before it is checked, and pongWithin how
	// long that takes at most. Otherwise a dead one would take all posts to its host until they time out.
	pingAfter  = 5 * time.Second
	pongWithin = 5 * time.Second
)

// keepConnections makes a transport keep connections, and use HTTP/2 where a server offers it.
func keepConnections(transport *http.Transport) {
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = maxIdle, maxIdle
	// Not by default, because of the dialer of our own.
	transport.ForceAttemptHTTP2 = true
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pongWithin}
}

// owners are the connections of each owner. The posts of one connection of HTTP/2 wait for each other: when an endpoint
// does not read what is sent to it, nothing is sent to the others. So owners share none.
type owners struct {
	mu sync.Mutex
	of map[int64]*ownNetwork
	// sweptAt is when those that nobody used were forgotten.
	sweptAt time.Time
}

type ownNetwork struct {
	*guard.Network
	// users is how many posts run on it, and usedAt when the last one ended.
	users  int
	usedAt time.Time
}

// take returns the connections of an owner, and a function that ends the use of them. New ones are like base.
func (o *owners) take(owner int64, base *guard.Network) (*guard.Network, func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if now.Sub(o.sweptAt) > forgetAfter/4 {
		o.sweptAt = now
		o.forget(now)
	}
	if base.Open() >= maxOpen {
		for _, own := range o.of {
			own.CloseIdle()
		}
	}
	own := o.of[owner]
	if own == nil {
		own = &ownNetwork{Network: base.Apart()}
		o.of[owner] = own
	}
	own.users++
	return own.Network, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		own.users--
		own.usedAt = time.Now()
	}
}

func (o *owners) forget(now time.Time) {
	for owner, own := range o.of {
		if own.users == 0 && now.Sub(own.usedAt) > forgetAfter {
			own.CloseIdle()
			delete(o.of, owner)
		}
	}
}

func (o *owners) closeIdle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, own := range o.of {
		own.CloseIdle()
	}
}
