package flow

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const day = Duration(24 * time.Hour)

func TestRetention(t *testing.T) {
	f, err := Parse("f.yaml", []byte("name: f\nretention: {outputs: 30d, runs: 10, failed: 12w, logs: 36h}\nsteps: {a: {run: x}}\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Retention{Outputs: 30 * day, Runs: 10, Failed: 84 * day, Logs: 36 * Duration(time.Hour)}
	if !reflect.DeepEqual(f.Retention, want) {
		t.Errorf("%+v", f.Retention)
	}
	text := want.String()
	if text != "outputs=30d,failed=84d,logs=36h0m0s,runs=10" {
		t.Errorf("as text: %s", text)
	}
	if again, err := ParseRetention(text); err != nil || again != *want {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestParseRetentionRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "expected rules such as",
		"30d":                "expected rules such as",
		"outputs=30":         "outputs: expected a duration",
		"outputs=0s":         "outputs: must be longer than 0",
		"runs=0":             "runs: \"0\": expected a whole number from 1",
		"runs=ten":           "expected a whole number",
		"output=30d":         "no such rule: use failed, logs, outputs and runs",
		"outputs=1d,runs=1,": "expected rules such as",
	} {
		if r, err := ParseRetention(text); err == nil || !strings.Contains(err.Error(), want) || r != (Retention{}) {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
}

func TestFailedRunsAreKeptLonger(t *testing.T) {
	for _, c := range []struct {
		r    Retention
		want time.Duration
	}{
		{Retention{}, 0},
		{Retention{Logs: day}, 0},
		{Retention{Outputs: day}, DefaultFailed},
		{Retention{Runs: 1}, DefaultFailed},
		{Retention{Outputs: 365 * day}, 365 * 24 * time.Hour},
		{Retention{Outputs: 365 * day, Failed: day}, 24 * time.Hour},
	} {
		if got := c.r.FailedFor(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.r, got, c.want)
		}
	}
}
