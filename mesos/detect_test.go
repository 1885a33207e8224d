package mesos

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitMasters(t *testing.T) {
	for _, c := range []struct {
		list string
		want []string
	}{
		{"a:5050, http://b:5050 ,,https://c", []string{"a:5050", "http://b:5050", "https://c"}},
		{"zk://a:2181,b:2181/mesos", []string{"zk://a:2181,b:2181/mesos"}},
		{"zk://u:p@a, b/mesos,http://m:5050", []string{"zk://u:p@a,b/mesos", "http://m:5050"}},
		{"m,zk://u:p/q@a,b/mesos/x,n", []string{"m", "zk://u:p/q@a,b/mesos/x", "n"}},
		{"zk://a,http://m", []string{"zk://a", "http://m"}},
	} {
		if got := SplitMasters(c.list); !slices.Equal(got, c.want) {
			t.Errorf("%q is split into %q, want %q", c.list, got, c.want)
		}
	}
}

func TestParseZK(t *testing.T) {
	a, err := parseZK("zk://user:pa@ss:w/ord@a,[::1]:2182,c:1/mesos/main/")
	if err != nil || a.auth != "user:pa@ss:w/ord" || a.path != "/mesos/main" ||
		!slices.Equal(a.servers, []string{"a:2181", "[::1]:2182", "c:1"}) {
		t.Errorf("%+v, %v", a, err)
	}
	if s := a.String(); s != "zk://a:2181,[::1]:2182,c:1/mesos/main" {
		t.Errorf("shown as %q", s)
	}
	for _, c := range []struct{ address, says string }{
		{"zk://user:hidden@a:2181", "want the path"},
		{"zk://user:hidden@a:2181/", "want the path"},
		{"zk://:hidden@a/mesos", "user:password"},
		{"zk://user@a/mesos", "user:password"},
		{"zk://user:hidden@a,,b/mesos", "no host:port"},
		{"zk://user:hidden@a:b/mesos", "no host:port"},
		{"zk://user:hidden@/mesos", "no host:port"},
	} {
		if _, err := parseZK(c.address); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: error is %v, want one that says %q", c.address, err, c.says)
		}
	}
}

func TestSmallestNodeLeads(t *testing.T) {
	node, err := smallest([]string{"log_replicas", "json.info_0000000010", "info_0000000001", "json.info_0000000009"})
	if err != nil || node != "json.info_0000000009" {
		t.Errorf("%q, %v", node, err)
	}
	for _, c := range []struct {
		nodes []string
		says  string
	}{{[]string{"log_replicas"}, "no master leads"}, {[]string{"info_0000000001"}, "older than"}} {
		if _, err := smallest(c.nodes); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v", c.nodes, err)
		}
	}
}

func TestLeaderURL(t *testing.T) {
	// As Mesos 1.11 writes it.
	const info = `{"address":{"hostname":"m1.example","ip":"10.0.0.1","port":5050},"capabilities":[{"type":"AGENT_UPDATE"}],
		"domain":{},"hostname":"m1.example","id":"c3d1","ip":16777226,"pid":"master@10.0.0.1:5050","port":5050,"version":"1.11.0"}`
	for _, c := range []struct{ scheme, info, want, says string }{
		{"http", info, "http://10.0.0.1:5050", ""},
		{"https", info, "https://m1.example:5050", ""}, // which certificates name
		{"http", `{"hostname":"m1","port":5050,"ip":16777226,"id":"x"}`, "http://m1:5050", ""},
		{"http", `{"address":{"ip":"fe80::1","port":1}}`, "http://[fe80::1]:1", ""},
		{"http", `{"id":"x"}`, "", "no address"},
		{"http", "\x0a\x04", "", "not a master's"},
	} {
		got, err := leaderURL(c.scheme, []byte(c.info))
		if got != c.want || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: %q, %v", c.scheme, c.info, got, err)
		}
	}
}

func TestMoved(t *testing.T) {
	a5, a6, b6 := sighting{"a", "5"}, sighting{"a", "6"}, sighting{"b", "6"}
	for _, c := range []struct {
		was, is sighting
		want    bool
	}{
		{a5, a5, false}, {a5, b6, true}, {a5, a6, true}, {a5, sighting{}, true},
		{sighting{"a", ""}, a5, false}, {sighting{"a", ""}, b6, true}, {sighting{"a", ""}, sighting{}, false},
		{sighting{"c", "5"}, a5, false}, // whom the master at a has named
	} {
		if got := c.was.moved(c.is); got != c.want {
			t.Errorf("from %v to %v: %v", c.was, c.is, got)
		}
	}
}
