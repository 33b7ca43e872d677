package deliver

import (
	"context"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/webhook"
)

func freeFlow() *flow { return newFlow(func() bool { return true }, func() {}, false) }

// lanes is how many posts may run at once now.
func (f *flow) lanes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int(f.limit)
}

func TestFlowGrowsWhilePostsAreAcceptedQuickly(t *testing.T) {
	f := freeFlow()
	if got := f.lanes(); got != firstLanes {
		t.Errorf("it begins with %d, want %d", got, firstLanes)
	}
	for range 100 {
		f.note(nil, time.Now())
	}
	if got := f.lanes(); got != firstLanes {
		t.Errorf("%d while fewer are used, want %d", got, firstLanes)
	}
	f.running = mostLanes
	for range firstLanes + 1 {
		f.note(nil, time.Now())
	}
	if got := f.lanes(); got != firstLanes+1 {
		t.Errorf("%d after a round, want one more than %d", got, firstLanes)
	}
	for range 10_000 {
		f.note(nil, time.Now())
	}
	if got := f.lanes(); got != mostLanes {
		t.Errorf("%d after many, want %d", got, mostLanes)
	}
}

func TestFlowIsHalvedByOverload(t *testing.T) {
	began := time.Now()
	for _, test := range []struct {
		name    string
		failure error
		began   time.Time
		want    int
	}{
		{"429", &webhook.Refusal{Status: 429}, began, 8},
		{"503", &webhook.Refusal{Status: 503}, began, 8},
		{"a timeout", &webhook.Refusal{Reason: "no answer within 15s"}, began, 8},
		{"a slow success", nil, began.Add(-2 * quickWithin), 16},
		{"a refused message", &webhook.Refusal{Status: 400}, began, 16},
		{"the end of the program", context.Canceled, began, 16},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := freeFlow()
			f.limit = 16
			f.note(test.failure, test.began)
			// What began before says nothing new.
			f.note(test.failure, test.began)
			if got := f.lanes(); got != test.want {
				t.Errorf("%d posts at once, want %d", got, test.want)
			}
		})
	}
	f := freeFlow()
	for range 10 {
		f.note(&webhook.Refusal{Status: 503}, time.Now())
		time.Sleep(time.Millisecond)
	}
	if got := f.lanes(); got != 1 {
		t.Errorf("%d posts at once, want one at least", got)
	}
}

// The first post needs no place; others wait until one ends.
func TestFlowWaitsForPlaces(t *testing.T) {
	f := newFlow(func() bool { return false }, func() { t.Error("a place is given back that was not taken") }, false)
	f.enter()
	entered := make(chan struct{})
	go func() { f.enter(); close(entered) }()
	select {
	case <-entered:
		t.Fatal("there is no place for the second one")
	case <-time.After(50 * time.Millisecond):
	}
	f.leave()
	<-entered
	f.leave()
}

// What is received ahead is what the endpoint takes within two seconds.
func TestFlowReceivesAheadWhatIsPostedSoon(t *testing.T) {
	for _, test := range []struct {
		took          time.Duration
		hasRefused    bool
		count, length int64
	}{
		{0, false, firstAhead, firstAhead / 8},
		{0, true, 8, 1},
		{time.Millisecond, false, mostAhead, mostAhead / 8},
		{time.Millisecond, true, mostAhead, mostAhead / 8},
		{100 * time.Millisecond, false, 80, 10},
		{time.Second, false, 8, 1},
		{10 * time.Second, false, 8, 1},
	} {
		f := newFlow(func() bool { return true }, func() {}, test.hasRefused)
		f.took = test.took
		if count, length := f.room(); count != test.count || length != test.length {
			t.Errorf("%d deliveries, %d of a view, ahead of posts that take %s, want %d and %d",
				count, length, test.took, test.count, test.length)
		}
	}
}
