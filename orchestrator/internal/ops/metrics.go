package ops

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// descriptions are our metrics, by name. Labels have few values: outcomes, states and kinds. They are never
// names, which can be of any number and belong to the users.
func descriptions() map[string]*prometheus.Desc {
	found := make(map[string]*prometheus.Desc)
	add := func(name, help string, labels ...string) {
		found[name] = prometheus.NewDesc(name, help, labels, nil)
	}
	add("tinydevcrm_up",
		"Whether the database answered this scrape; when it did not, the metrics that are read from it are missing.")
	add("tinydevcrm_asleep", "Whether up --idle-after lets the database sleep; then our other metrics are missing.")
	add("tinydevcrm_schema_version", "Version of the schema in the database.")
	add("tinydevcrm_schema_version_expected", "Version of the schema that this program has.")
	add("tinydevcrm_listener_up", "Whether the listening connection is up.")
	add("tinydevcrm_listener_deaf",
		"Whether no notifications arrive although the listening connection is up, as through a pooler in transaction mode.")
	add("tinydevcrm_listener_reconnects_total",
		"How often the listening connection was lost and restored since the program started.")
	add("tinydevcrm_delivery_loop_up", "Whether the loop that delivers, or fetches sources, has run recently.", "kind")
	add("tinydevcrm_change_loop_up", "Whether the loop that refreshes views on change runs, or has run recently.")
	add("tinydevcrm_refreshes_total",
		"Events of all materialized views and sources since the program started, by outcome; late, silent, resumed and dropped are no refreshes.", "outcome")
	add("tinydevcrm_imports_total",
		"Imports that succeeded since the program started, by page, command line or psql.", "mode")

	// These are the metrics that tinydevcrm._metrics() returns.
	add("tinydevcrm_cron_up", "Whether pg_cron runs, or an orchestrator with --clock.")
	add("tinydevcrm_matviews", "Watched materialized views, by state.", "state")
	add("tinydevcrm_matview_failing_since_timestamp_seconds",
		"When the view that has been failing the longest began to fail; missing when none fails.")
	add("tinydevcrm_schedules", "Schedules, by state; late when a due refresh has not happened.", "state")
	add("tinydevcrm_sources", "Sources of files, by state; late when nothing has fetched or imported one that was due.", "state")
	add("tinydevcrm_subscriptions", "Subscriptions, by kind of receiver and by state.", "kind", "state")
	add("tinydevcrm_deliveries_pending",
		"Deliveries that are neither acknowledged nor parked; at most 1000 of each subscription are counted.", "kind")
	add("tinydevcrm_deliveries_parked", "Deliveries that are parked (dead-lettered); at most 1000 of each subscription are counted.", "kind")
	add("tinydevcrm_deliveries_expired",
		"Deliveries that expired before they were acknowledged, of the existing subscriptions.", "kind")
	add("tinydevcrm_delivery_lag_seconds",
		"Age of the oldest pending delivery of the subscriptions that are not paused; 0 when there is none.", "kind")
	add("tinydevcrm_upkeep_last_success_timestamp_seconds", "When the upkeep job, which runs every minute, last succeeded; 0 for never.")
	add("tinydevcrm_table_size_bytes", "Size of each table that grows with use, with its indexes.", "table")
	return found
}

// Describe implements prometheus.Collector.
func (o *Ops) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range o.descs {
		descs <- desc
	}
}

// Collect implements prometheus.Collector. It reports the program's own metrics even when the database is away.
func (o *Ops) Collect(metrics chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name string, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(o.descs[name], kind, value, labels...)
	}
	isAsleep := o.IsAsleep()
	send(prometheus.GaugeValue, "tinydevcrm_asleep", number(isAsleep))
	if isAsleep {
		return
	}
	listener := o.Listener()
	send(prometheus.GaugeValue, "tinydevcrm_listener_up", number(listener.IsListening))
	send(prometheus.GaugeValue, "tinydevcrm_listener_deaf", number(listener.IsDeaf))
	send(prometheus.CounterValue, "tinydevcrm_listener_reconnects_total", float64(listener.Reconnects))
	for kind, isAlive := range o.Loops {
		send(prometheus.GaugeValue, "tinydevcrm_delivery_loop_up", number(isAlive()), kind)
	}
	send(prometheus.GaugeValue, "tinydevcrm_change_loop_up", number(o.Changes()))
	send(prometheus.GaugeValue, "tinydevcrm_schema_version_expected", float64(o.SchemaVersion))

	answer, err := o.share("scrape", scrapeWithin, func(ctx context.Context) (any, error) {
		return o.database.read(ctx)
	})
	o.logOnce(err)
	send(prometheus.GaugeValue, "tinydevcrm_up", number(err == nil))
	if err != nil {
		return
	}
	read := answer.(*reading)
	for outcome, count := range read.refreshes {
		send(prometheus.CounterValue, "tinydevcrm_refreshes_total", count, outcome)
	}
	for mode, count := range read.imports {
		send(prometheus.CounterValue, "tinydevcrm_imports_total", count, mode)
	}
	for _, f := range read.figures {
		send(prometheus.GaugeValue, f.name, f.value, f.labels...)
	}
}

// logOnce logs only the first of several failed scrapes in a row.
func (o *Ops) logOnce(err error) {
	if wasFailing := o.isFailing.Swap(err != nil); err != nil && !wasFailing && o.ctx.Err() == nil {
		o.Logger.Warn("cannot read the metrics; trying again at the next scrape", "error", err)
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
