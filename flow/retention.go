package flow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// DefaultFailed is how long runs that did not succeed are kept where a Retention
// has a rule for those that did, and none for these.
const DefaultFailed = 90 * 24 * time.Hour

const maxKeptRuns = 1_000_000

// Retention says how long the objects of an app's runs are kept, from the end of a
// run. The zero value keeps them for ever.
type Retention struct {
	Outputs Duration `json:"outputs,omitempty"` // of runs that succeeded
	Runs    int      `json:"runs,omitempty"`    // so many of the newest that succeeded, whatever their age
	Failed  Duration `json:"failed,omitempty"`  // of runs that failed or were killed
	Logs    Duration `json:"logs,omitempty"`    // of all runs, where that is longer than the rest
}

// FailedFor is how long runs that did not succeed are kept; 0: for ever.
func (r Retention) FailedFor() time.Duration {
	if r.Failed > 0 || r.Outputs == 0 && r.Runs == 0 {
		return time.Duration(r.Failed)
	}
	return max(DefaultFailed, time.Duration(r.Outputs))
}

// String is what ParseRetention reads.
func (r Retention) String() string {
	var words []string
	for _, rule := range []struct {
		name string
		d    Duration
	}{{"outputs", r.Outputs}, {"failed", r.Failed}, {"logs", r.Logs}} {
		if rule.d > 0 {
			words = append(words, rule.name+"="+days(time.Duration(rule.d)))
		}
	}
	if r.Runs > 0 {
		words = append(words, "runs="+strconv.Itoa(r.Runs))
	}
	return strings.Join(words, ",")
}

// days writes whole days as such.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	return d.String()
}

var retentionFields = []string{"failed", "logs", "outputs", "runs"}

// ParseRetention reads rules in one line, such as outputs=30d,runs=10,failed=90d.
func ParseRetention(text string) (Retention, error) {
	var r Retention
	for word := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(word), "=")
		if !ok {
			return Retention{}, fmt.Errorf("%q: expected rules such as outputs=30d,runs=10,failed=90d,logs=90d", clip(word))
		}
		if err := r.set(name, value); err != nil {
			return Retention{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return r, nil
}

func (r *Retention) set(name, value string) error {
	if name == "runs" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxKeptRuns {
			return fmt.Errorf("%q: expected a whole number from 1 to %d", clip(value), maxKeptRuns)
		}
		r.Runs = n
		return nil
	}
	rule, ok := map[string]*Duration{"outputs": &r.Outputs, "failed": &r.Failed, "logs": &r.Logs}[name]
	if !ok {
		return fmt.Errorf("no such rule: use %s", join(retentionFields))
	}
	d, err := ParseDuration(value)
	if err == nil && d == 0 {
		err = errors.New("must be longer than 0")
	}
	*rule = Duration(d)
	return err
}

// retention reads `retention:`.
func (d *document) retention(n *yaml.Node) *Retention {
	r := &Retention{}
	given := d.fields(n, "retention", []field{
		{"outputs", func(n *yaml.Node) { r.Outputs, _ = d.positiveDuration(n, "outputs") }},
		{"runs", func(n *yaml.Node) {
			runs, _ := d.whole(n, "runs", 1, maxKeptRuns)
			r.Runs = int(runs)
		}},
		{"failed", func(n *yaml.Node) { r.Failed, _ = d.positiveDuration(n, "failed") }},
		{"logs", func(n *yaml.Node) { r.Logs, _ = d.positiveDuration(n, "logs") }},
	})
	if given && len(d.pairs(n)) == 0 {
		d.node(n, "retention has no rules in it", "give it any of "+join(retentionFields))
	}
	return r
}
