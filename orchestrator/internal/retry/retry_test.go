package retry_test

import (
	"context"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/retry"
)

func TestPausesGrowToTheirBound(t *testing.T) {
	const longest = 4 * time.Second
	pauses := retry.NewPauses(longest)
	for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, longest, longest, longest} {
		if got := pauses.NextBackOff(); got < want/2 || got > want*3/2 {
			t.Errorf("a pause of %s, want %s, give or take half", got, want)
		}
	}
	pauses.Reset()
	if got := pauses.NextBackOff(); got > 750*time.Millisecond {
		t.Errorf("a pause of %s after a success", got)
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	pauses := retry.NewPauses(time.Hour)
	if !pauses.Wait(t.Context()) {
		t.Error("the first pause ended early")
	}
	for range 20 {
		pauses.NextBackOff()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	start := time.Now()
	if pauses.Wait(ctx) || time.Since(start) > 5*time.Second {
		t.Errorf("it waited for %s", time.Since(start))
	}
}
