package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
)

// Live is a run that has not ended.
type Live struct {
	Run      string
	Instance string
	Needs    []string // runs of which its input names objects
}

// Part is what of a run may go.
type Part int

// Parts of a run.
const (
	Nothing Part = iota
	AllButLogs
	All
)

// Verdict on one run.
type Verdict struct {
	Goes   Part
	Reason string
}

const (
	// maxTail bounds the failed runs at the end of an instance that a restart may look
	// back at, as it bounds those that it waits for.
	maxTail = 20
	// minFound is the least time that a run without a record of its own is kept: it
	// may belong to a Temporal that is not asked.
	minFound = 24 * time.Hour
)

// Rules of an app.
type Rules struct {
	App      flow.Retention // of its newest run, for all of them
	Platform flow.Retention // of runs that have recorded none
}

// RulesOf gives the rules of an app: those of its newest run, else the platform's. A
// newest run without rules is not passed over: its flow has them no more.
func RulesOf(runs []api.RunRecord, platform flow.Retention) Rules {
	rules := Rules{App: platform, Platform: platform}
	if newest := newestOf(runs); newest != nil && newest.Retention != nil {
		rules.App = *newest.Retention
	}
	return rules
}

// own gives the rules that a run ended under.
func (r Rules) own(run api.RunRecord) flow.Retention {
	if run.Retention != nil {
		return *run.Retention
	}
	return r.Platform
}

// newestOf gives the newest run that has left its record itself; without one, any
// that was found.
func newestOf(runs []api.RunRecord) *api.RunRecord {
	var newest *api.RunRecord
	for i := range runs {
		r := &runs[i]
		if newest == nil || newest.Found && !r.Found || newest.Found == r.Found && r.Started.After(newest.Started) {
			newest = r
		}
	}
	return newest
}

// Decide gives a verdict on each of an app's runs that have ended. It keeps
//   - what the rules keep by age or number: those of the app, or those that the run
//     itself ended under, whichever keep it longer,
//   - the failed runs at the end of an instance for as long as one of them is kept,
//     or the instance has an open run, which may go on from them,
//   - what an open run, or one that is kept, refers to.
//
// A run whose sweep has begun is finished by the next one, unless it is kept by what
// follows the first of these: it may be whole still.
func Decide(runs []api.RunRecord, live []Live, rules Rules, now time.Time) []Verdict {
	d := &decision{runs: runs, rules: rules, now: now, verdicts: make([]Verdict, len(runs)), byID: make(map[string]int, len(runs))}
	for i, r := range runs {
		d.byID[r.Run] = i
		d.verdicts[i] = Verdict{Goes: All}
	}
	d.byRule()
	for _, l := range live {
		d.keepRun(l.Run, "it is open")
		for _, run := range l.Needs {
			d.keepRun(run, "open run "+l.Run+" was given objects of it")
		}
	}
	d.tails(live)
	d.references()
	for i := range d.verdicts {
		if d.verdicts[i].Goes != Nothing {
			d.verdicts[i] = d.goes(&runs[i])
		}
	}
	return d.verdicts
}

type decision struct {
	runs     []api.RunRecord
	rules    Rules
	now      time.Time
	verdicts []Verdict
	byID     map[string]int
}

func (d *decision) keep(i int, reason string) {
	if d.verdicts[i].Goes != Nothing {
		d.verdicts[i] = Verdict{Nothing, reason}
	}
}

func (d *decision) keepRun(run, reason string) {
	if i, ok := d.byID[run]; ok {
		d.keep(i, reason)
	}
}

// byRule keeps what age and number say.
func (d *decision) byRule() {
	var succeeded []int // that are whole, the newest first
	for i, r := range d.runs {
		switch {
		case r.Sweep != api.SweepNone:
		case r.Status == api.StatusSucceeded:
			succeeded = append(succeeded, i)
		default:
			d.until(i, d.failedFor(r), "runs that did not succeed are kept")
		}
	}
	slices.SortFunc(succeeded, func(a, b int) int {
		return cmp.Or(d.runs[b].Ended.Compare(d.runs[a].Ended), cmp.Compare(d.runs[b].Run, d.runs[a].Run))
	})
	for rank, i := range succeeded {
		d.bySuccess(i, rank, d.rules.App)
		if own := d.rules.own(d.runs[i]); own.Outputs > 0 || own.Runs > 0 {
			d.bySuccess(i, rank, own)
		}
	}
}

// bySuccess keeps a run that succeeded, if these rules do.
func (d *decision) bySuccess(i, rank int, rules flow.Retention) {
	switch {
	case rank < rules.Runs:
		d.keep(i, fmt.Sprintf("it is one of the newest %d that succeeded", rules.Runs))
	case rules.Outputs > 0 || rules.Runs == 0:
		d.until(i, time.Duration(rules.Outputs), "outputs are kept")
	}
}

// failedFor is how long a run that did not succeed is kept; 0: for ever.
func (d *decision) failedFor(r api.RunRecord) time.Duration {
	keep := d.rules.App.FailedFor()
	if keep == 0 {
		return 0
	}
	keep = max(keep, d.rules.own(r).FailedFor())
	if r.Found {
		keep = max(keep, minFound)
	}
	return keep
}

// until keeps a run for a time from its end; 0: for ever.
func (d *decision) until(i int, keep time.Duration, reason string) {
	end := d.runs[i].Ended.Add(keep)
	switch {
	case keep == 0:
		d.keep(i, "no rule lets it go")
	case d.now.Before(end):
		d.keep(i, reason+" until "+end.UTC().Format(time.DateTime)+" UTC")
	}
}

// tails keeps the failed runs at the end of an instance together.
func (d *decision) tails(live []Live) {
	open := make(map[string]string, len(live))
	for _, l := range live {
		open[l.Instance] = l.Run
	}
	instances := map[string][]int{}
	for i, r := range d.runs {
		if r.Sweep != api.SweepLogs && r.Run != open[r.Instance] {
			instances[r.Instance] = append(instances[r.Instance], i)
		}
	}
	for instance, list := range instances {
		slices.SortFunc(list, func(a, b int) int { return d.runs[b].Started.Compare(d.runs[a].Started) })
		end := slices.IndexFunc(list, func(i int) bool { return d.runs[i].Status == api.StatusSucceeded })
		if end < 0 {
			end = len(list)
		}
		tail := list[:min(end, maxTail)]
		reason := ""
		if run := open[instance]; run != "" {
			reason = "open run " + run + " of its instance may go on from it"
		} else if i := slices.IndexFunc(tail, func(i int) bool { return d.verdicts[i].Goes == Nothing }); i >= 0 {
			reason = "its instance can be restarted from run " + d.runs[tail[i]].Run
		}
		for _, i := range tail {
			if reason != "" {
				d.keep(i, reason)
			}
		}
	}
}

// references keeps what a run that is kept refers to, and so on.
func (d *decision) references() {
	var kept []int
	for i, v := range d.verdicts {
		if v.Goes == Nothing {
			kept = append(kept, i)
		}
	}
	for len(kept) > 0 {
		from := d.runs[kept[0]]
		kept = kept[1:]
		for _, run := range from.Needs {
			if i, ok := d.byID[run]; ok && d.verdicts[i].Goes != Nothing {
				d.keep(i, "run "+from.Run+", which is kept, refers to it")
				kept = append(kept, i)
			}
		}
	}
}

// goes is the verdict on a run that nothing keeps, but for its logs.
func (d *decision) goes(r *api.RunRecord) Verdict {
	reason := fmt.Sprintf("%s, ended %s UTC", r.Status, r.Ended.UTC().Format(time.DateTime))
	logs := time.Duration(max(d.rules.App.Logs, d.rules.own(*r).Logs))
	switch kept := d.now.Before(r.Ended.Add(logs)); {
	case kept && r.Sweep == api.SweepLogs:
		return Verdict{Nothing, "only its logs are left"}
	case kept:
		return Verdict{AllButLogs, reason}
	case r.Sweep == api.SweepBegun:
		reason += "; its sweep has begun before"
	case r.Found:
		reason = "it ended without a record, and was first seen " + r.Ended.UTC().Format(time.DateTime) + " UTC"
	}
	return Verdict{All, reason}
}
