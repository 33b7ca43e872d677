package deliver

import (
	"sync/atomic"
	"time"
)

// aliveWithin is longer than a loop with nothing to do is silent.
const aliveWithin = 3 * pollAfter

// A pulse tells from outside whether a loop goes round: one that waits for a server which has stalled says
// nothing itself.
type pulse struct{ last atomic.Pointer[time.Time] }

func (p *pulse) beat() {
	now := time.Now()
	p.last.Store(&now)
}

func (p *pulse) stop() { p.last.Store(nil) }

// isAlive goes by the monotonic clock: one that is set does not matter.
func (p *pulse) isAlive() bool {
	last := p.last.Load()
	return last != nil && time.Since(*last) < aliveWithin
}
