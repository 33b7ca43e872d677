package web

import (
	"context"
	"fmt"
)

// An overview holds the numbers that an owner checks first: a part of tinydevcrm.overview.
type overview struct {
	Views, Failing, Late, Silent, Renamed, Unscheduled, Paused int64
	Subscriptions, Troubled                                    int64
	Pending, Parked                                            int64
	CronIsRunning                                              bool
}

func (s *server) fillOverview(ctx context.Context, shown *page) error {
	o := &shown.Overview
	err := s.pool(ctx).QueryRowContext(ctx, `
		select view_count,
		       failing_count,
		       late_count,
		       silent_count,
		       renamed_count,
		       unscheduled_count,
		       paused_count,
		       subscription_count,
		       troubled_subscription_count,
		       pending_count,
		       parked_count,
		       cron_is_running
		  from tinydevcrm.overview`).Scan(
		&o.Views, &o.Failing, &o.Late, &o.Silent, &o.Renamed, &o.Unscheduled, &o.Paused, &o.Subscriptions, &o.Troubled,
		&o.Pending, &o.Parked, &o.CronIsRunning)
	if err != nil {
		return fmt.Errorf("read the overview: %w", err)
	}
	return nil
}
