//go:build faults

package main

import (
	"testing"
	"time"
)

// As TestNoChangeIsMissed, for five minutes.
func TestNoChangeIsMissedForLong(t *testing.T) { freshRun(t, 5*time.Minute, 10000) }
