// Package retry says how long to wait before what has failed is tried again.
package retry

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const shortest = 500 * time.Millisecond

// Pauses are those between attempts that fail one after the other: each is twice the last, give or take
// half, so that those who failed together do not come back together. Reset begins again after a success.
type Pauses struct{ *backoff.ExponentialBackOff }

// NewPauses returns pauses of half a second at first, and of longest in the end.
func NewPauses(longest time.Duration) Pauses {
	return Pauses{&backoff.ExponentialBackOff{
		InitialInterval:     shortest,
		RandomizationFactor: 0.5,
		Multiplier:          2,
		MaxInterval:         longest,
	}}
}

// Wait waits for the next pause; false when ctx has ended.
func (p Pauses) Wait(ctx context.Context) bool {
	timer := time.NewTimer(p.NextBackOff())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
