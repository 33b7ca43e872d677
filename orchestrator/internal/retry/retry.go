// Package retry decides how long to wait before a retry.
package retry

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const shortest = 500 * time.Millisecond

// Pauses are those between consecutive failed attempts, with exponential backoff: each is twice the last, with
// a jitter of one half, so that clients that failed together do not retry together. Reset starts over after a
// success.
type Pauses struct{ *backoff.ExponentialBackOff }

// NewPauses returns pauses that begin at half a second and grow up to longest.
func NewPauses(longest time.Duration) Pauses {
	return Pauses{&backoff.ExponentialBackOff{
		InitialInterval:     shortest,
		RandomizationFactor: 0.5,
		Multiplier:          2,
		MaxInterval:         longest,
	}}
}

// Wait waits for the next pause. It returns false when ctx has ended.
func (p Pauses) Wait(ctx context.Context) bool {
	return Wait(ctx, nil, p.NextBackOff())
}

// Wait returns true at a wake-up or after a pause, and false when ctx has ended.
func Wait(ctx context.Context, wake <-chan struct{}, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return ctx.Err() == nil
}
