package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestServeMetrics(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if stop, err := serveMetrics(address, prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"})); err == nil {
		stop()
		t.Error("a taken port is no error")
	}
	l.Close()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "baas_tried", Help: "h"})
	g.Set(42)
	stop, err := serveMetrics(address, g)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "baas_tried 42") {
		t.Errorf("status %d, body %s (%v)", resp.StatusCode, body, err)
	}
	stop()
	if resp, err := http.Get("http://" + address + "/metrics"); err == nil {
		resp.Body.Close()
		t.Error("it answers after its stop")
	}
}
