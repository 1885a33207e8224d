package worker

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/baas-batch/baas/mesos"
)

// Collector gives the worker's metrics to Prometheus. Those of the framework are
// there while this worker leads; its counters begin anew with each leadership, as
// Prometheus expects of a process that has restarted.
func (w *Worker) Collector() prometheus.Collector { return collector{w.leader} }

type collector struct{ leader *leader }

// counter is one of the framework's counters.
type counter struct {
	desc *prometheus.Desc
	of   func(*mesos.Metrics) *atomic.Int64
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("baas_"+name, help, labels, nil)
}

var (
	leadsDesc     = describe("leader", "1 while this worker leads the framework.")
	backlogDesc   = describe("backlog_tasks", "Tasks in the leader's care, by whether they have a place.", "placed")
	connectedDesc = describe("mesos_connected", "1 while subscribed to a Mesos master.")
	tasksDesc     = describe("mesos_tasks", "Tasks that Mesos holds, or is about to, by state.", "state")
	waitingDesc   = describe("mesos_waiting_tasks", "Tasks that wait for an offer.")
	inHandDesc    = describe("mesos_offers_in_hand", "Offers that are neither used nor declined yet.")
	agentsDesc    = describe("mesos_agents", "Agents that offers, tasks or the master have shown.")
	avoidedDesc   = describe("mesos_avoided_agents", "Agents on which nothing is placed for their losses.")
	toPlaceDesc   = describe("mesos_time_to_place_seconds", "From the submission of a task to the ACCEPT of its offer.")

	counters = []counter{
		{describe("mesos_subscriptions_total", "Subscriptions to a master."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Subscriptions }},
		{describe("mesos_offers_total", "Offers received."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Offers }},
		{describe("mesos_rescinds_total", "Offers taken back by the master."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Rescinds }},
		{describe("mesos_declines_total", "Offers declined."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Declines }},
		{describe("mesos_accepts_total", "ACCEPT calls."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Accepts }},
		{describe("mesos_launches_total", "Tasks launched."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Launches }},
		{describe("mesos_near_launches_total", "Tasks launched where inputs of theirs were."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Near }},
		{describe("mesos_dropped_total", "Tasks that were written ahead and not launched."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Dropped }},
		{describe("mesos_revives_total", "REVIVE calls."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Revives }},
		{describe("mesos_suppresses_total", "SUPPRESS calls."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Suppresses }},
		{describe("mesos_updates_total", "Status updates received."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Updates }},
		{describe("mesos_acknowledged_total", "Status updates acknowledged."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Acknowledged }},
		{describe("mesos_kills_total", "KILL calls."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Kills }},
		{describe("mesos_reconciled_total", "Tasks asked for by explicit reconciliation."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Reconciled }},
		{describe("mesos_failed_calls_total", "Calls to the master that failed."), func(m *mesos.Metrics) *atomic.Int64 { return &m.FailedCalls }},
		{describe("mesos_losses_total", "Losses of tasks that agents were charged with."), func(m *mesos.Metrics) *atomic.Int64 { return &m.Blames }},
	}
)

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leadsDesc, backlogDesc, connectedDesc, tasksDesc, waitingDesc, inHandDesc, agentsDesc, avoidedDesc, toPlaceDesc} {
		out <- d
	}
	for _, c := range counters {
		out <- c.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	fw, load := c.leader.framework()
	if fw == nil {
		gauge(leadsDesc, 0)
		return
	}
	census := fw.Census()
	gauge(leadsDesc, 1)
	gauge(connectedDesc, truth(census.Connected))
	gauge(backlogDesc, float64(load.Waiting), "no")
	gauge(backlogDesc, float64(load.Placed), "yes")
	gauge(waitingDesc, float64(census.Waiting))
	gauge(inHandDesc, float64(census.Offers))
	gauge(agentsDesc, float64(census.Agents))
	gauge(avoidedDesc, float64(census.Avoided))
	for state, n := range census.States {
		gauge(tasksDesc, float64(n), string(state))
	}
	m := fw.Metrics()
	for _, c := range counters {
		out <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.of(m).Load()))
	}
	out <- histogram(toPlaceDesc, &m.TimeToPlace)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func histogram(d *prometheus.Desc, h *mesos.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(mesos.HistogramBounds))
	var count uint64
	for i := range h.Buckets {
		count += uint64(h.Buckets[i].Load())
		if i < len(mesos.HistogramBounds) {
			buckets[mesos.HistogramBounds[i].Seconds()] = count
		}
	}
	return prometheus.MustNewConstHistogram(d, count, time.Duration(h.Sum.Load()).Seconds(), buckets)
}
