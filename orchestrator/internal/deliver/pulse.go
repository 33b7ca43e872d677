package deliver

import (
	"sync/atomic"
	"time"
)

// aliveWithin is longer than an idle loop goes without a beat.
const aliveWithin = 3 * pollAfter

// A pulse shows whether a loop still runs. A loop that waits for a stalled server cannot report that itself.
type pulse struct{ last atomic.Pointer[time.Time] }

func (p *pulse) beat() {
	now := time.Now()
	p.last.Store(&now)
}

func (p *pulse) stop() { p.last.Store(nil) }

// isAlive uses the monotonic clock, so setting the system's clock does not change it.
func (p *pulse) isAlive() bool {
	last := p.last.Load()
	return last != nil && time.Since(*last) < aliveWithin
}
