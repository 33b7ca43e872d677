package deliver

import (
	"context"
	"log/slog"
	"time"
)

// ToLog returns a handler that logs each event as one structured line.
func ToLog(logger *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, event Event) {
		level := slog.LevelInfo
		attrs := []slog.Attr{
			slog.Int64("event_id", event.ID),
			slog.String("matview", event.Matview),
			slog.String("outcome", event.Outcome),
			slog.Float64("duration_ms", float64(event.Duration)/float64(time.Millisecond)),
			slog.Time("started_at", event.StartedAt),
		}
		if event.ScheduleID.Valid {
			attrs = append(attrs, slog.Int64("schedule_id", event.ScheduleID.V))
		}
		if event.PlainReason.Valid {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("plain_reason", event.PlainReason.V))
		}
		if event.RowCount.Valid {
			attrs = append(attrs, slog.Int64("row_count", event.RowCount.V))
		}
		if event.AddedCount.Valid {
			attrs = append(attrs,
				slog.Int64("added_count", event.AddedCount.V),
				slog.Int64("removed_count", event.RemovedCount.V))
		}
		if event.UpdatedCount.Valid {
			attrs = append(attrs, slog.Int64("updated_count", event.UpdatedCount.V))
		}
		if event.Rows != nil {
			attrs = append(attrs, slog.Any("rows", event.Rows))
		}
		if event.IsCut {
			attrs = append(attrs, slog.Bool("is_cut", true))
		}
		if event.ErrorCode.Valid {
			level = slog.LevelError
			attrs = append(attrs,
				slog.String("error_code", event.ErrorCode.V),
				slog.String("error_message", event.ErrorMessage.V))
		}
		if event.Reason.Valid {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("reason", event.Reason.V))
		}
		if event.SupersededBy.Valid {
			attrs = append(attrs, slog.Int64("superseded_by", event.SupersededBy.V))
		}
		logger.LogAttrs(ctx, level, "matview refresh", attrs...)
	}
}
