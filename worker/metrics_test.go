package worker

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/baas-batch/baas/activities"
	"github.com/baas-batch/baas/mesos"
)

// gather reads the metrics as Prometheus would, which also checks them.
func gather(t *testing.T, l *leader) map[string][]*dto.Metric {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(collector{l}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]*dto.Metric)
	for _, f := range families {
		out[f.GetName()] = f.Metric
	}
	return out
}

func TestMetrics(t *testing.T) {
	l := &leader{}
	if got := gather(t, l); len(got) != 1 || got["baas_leader"][0].Gauge.GetValue() != 0 {
		t.Errorf("a worker that does not lead tells %v", got)
	}
	handoff := activities.New(activities.Config{Leading: func() bool { return true }})
	t.Cleanup(handoff.Close)
	fw, err := mesos.New(mesos.Config{Masters: []string{"127.0.0.1:1"}, FrameworkID: "f", User: "tester"}, handoff, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.term = &term{handoff: handoff, fw: fw}
	fw.Submit(mesos.Task{ID: "t", Owner: "billing", Submitted: time.Now()})
	fw.Metrics().Offers.Add(7)
	fw.Metrics().TimeToPlace.Buckets[0].Add(2)
	fw.Metrics().TimeToPlace.Buckets[len(mesos.HistogramBounds)].Add(1)
	fw.Metrics().TimeToPlace.Sum.Add(int64(90 * time.Second))
	got := gather(t, l)
	for name, want := range map[string]float64{"baas_leader": 1, "baas_mesos_connected": 0, "baas_mesos_waiting_tasks": 1, "baas_mesos_offers_in_hand": 0} {
		if len(got[name]) != 1 || got[name][0].Gauge.GetValue() != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if offers := got["baas_mesos_offers_total"]; len(offers) != 1 || offers[0].Counter.GetValue() != 7 {
		t.Errorf("offers are %v", offers)
	}
	h := got["baas_mesos_time_to_place_seconds"][0].Histogram
	if h.GetSampleCount() != 3 || h.GetSampleSum() != 90 || h.Bucket[0].GetCumulativeCount() != 2 || len(h.Bucket) != len(mesos.HistogramBounds) {
		t.Errorf("histogram is %v", h)
	}
	if n := len(got); n < 9+len(counters)-2 {
		t.Errorf("%d metrics only", n)
	}
}
