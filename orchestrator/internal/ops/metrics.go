package ops

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// descriptions are our metrics, by name. Labels are bounded: outcomes, states and kinds, never names, of
// which there may be any number and which are the users' own.
func descriptions() map[string]*prometheus.Desc {
	found := make(map[string]*prometheus.Desc)
	add := func(name, help string, labels ...string) {
		found[name] = prometheus.NewDesc(name, help, labels, nil)
	}
	add("tinydevcrm_up",
		"Whether the database answered this scrape; where it did not, what is read from it is missing.")
	add("tinydevcrm_schema_version", "Version of the schema in the database.")
	add("tinydevcrm_schema_version_expected", "Version of the schema that this program has.")
	add("tinydevcrm_listener_up", "Whether the listening connection is there.")
	add("tinydevcrm_listener_reconnects_total",
		"How often the listening connection was lost and made again since the program started.")
	add("tinydevcrm_delivery_loop_up", "Whether the loop that delivers went round lately.", "kind")
	add("tinydevcrm_refreshes_total",
		"Refreshes of all materialized views since the program started, whoever asked for them.", "outcome")
	add("tinydevcrm_imports_total",
		"Imports that succeeded since the program started, by page, command line or psql.", "mode")

	// What tinydevcrm._metrics() gives.
	add("tinydevcrm_cron_up", "Whether pg_cron runs.")
	add("tinydevcrm_matviews", "Watched materialized views, by state.", "state")
	add("tinydevcrm_matview_failing_since_timestamp_seconds",
		"When that view began to fail that has failed the longest; missing where none fails.")
	add("tinydevcrm_schedules", "Schedules: late where a refresh that was due has not come.", "state")
	add("tinydevcrm_subscriptions", "Subscriptions, by what takes their deliveries and by state.", "kind", "state")
	add("tinydevcrm_deliveries_pending",
		"Deliveries neither acknowledged nor parked; 1000 of each subscription at most.", "kind")
	add("tinydevcrm_deliveries_parked", "Deliveries given up; 1000 of each subscription at most.", "kind")
	add("tinydevcrm_deliveries_expired",
		"Deliveries that were gone before anyone took them, of the subscriptions that are there.", "kind")
	add("tinydevcrm_delivery_lag_seconds",
		"Age of the oldest pending delivery of a subscription that is not paused; 0 for none.", "kind")
	add("tinydevcrm_upkeep_last_success_timestamp_seconds", "When the upkeep job, of every minute, last succeeded; 0 for never.")
	add("tinydevcrm_table_size_bytes", "Size of what grows with use, indexes included.", "table")
	return found
}

// Describe is prometheus.Collector's.
func (o *Ops) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range o.descs {
		descs <- desc
	}
}

// Collect is prometheus.Collector's. What the program itself knows is there when the database is not.
func (o *Ops) Collect(metrics chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name string, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(o.descs[name], kind, value, labels...)
	}
	isListening, reconnects := o.Listener()
	send(prometheus.GaugeValue, "tinydevcrm_listener_up", number(isListening))
	send(prometheus.CounterValue, "tinydevcrm_listener_reconnects_total", float64(reconnects))
	for kind, isAlive := range o.Loops {
		send(prometheus.GaugeValue, "tinydevcrm_delivery_loop_up", number(isAlive()), kind)
	}
	send(prometheus.GaugeValue, "tinydevcrm_schema_version_expected", float64(o.SchemaVersion))

	answer, err := o.share("scrape", scrapeWithin, func(ctx context.Context) (any, error) {
		return o.database.read(ctx)
	})
	o.tellOnce(err)
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

// tellOnce logs the first of the scrapes in a row that fail.
func (o *Ops) tellOnce(err error) {
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
