package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/storage"
)

// ErrNoAnswer is the error when Runs cannot tell what is open.
var ErrNoAnswer = errors.New("which runs are open is not known")

// Runs tells of runs that have not ended. An error ends the sweep: what is not known
// is never removed.
type Runs interface {
	// Home tells where the runs are that it knows of.
	Home(ctx context.Context) (api.StoreHome, error)
	// Open gives the ID of the open run of an instance, "" when it has none. The
	// answer is as of now, not that of a listing which lags behind.
	Open(ctx context.Context, instance string) (run string, err error)
	// Live gives the open runs of an app, and those of which it is not known yet
	// whose they are. It may lag behind. While it takes its time, it calls progress.
	Live(ctx context.Context, app string, progress func()) ([]Live, error)
}

// Sweeper removes what may go. Store and Runs must be given. It is for one goroutine.
type Sweeper struct {
	Store storage.Store
	Runs  Runs
	// Rules are for apps whose flow has none.
	Rules flow.Retention
	// UploadAge is how old an unfinished upload must be to be aborted;
	// DefaultUploadAge if 0.
	UploadAge time.Duration
	// DryRun removes nothing, and writes nothing.
	DryRun bool
	// MaxRuns bounds how many runs one call of App sweeps; 0: all.
	MaxRuns int
	// Now is time.Now if nil.
	Now func() time.Time
	// Each is told of all that has gone, or would go. It may be nil.
	Each func(Item)
	// Progress is told now and then how much has gone. It may be nil.
	Progress func(Tally)

	done   Tally
	atHome bool // the store is known to be the one of Runs
}

// DefaultUploadAge is a day: longer than a part takes.
const DefaultUploadAge = 24 * time.Hour

// Tally counts objects.
type Tally struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (t *Tally) add(o Tally) { t.Objects, t.Bytes = t.Objects+o.Objects, t.Bytes+o.Bytes }

// What of an Item.
const (
	WhatRun    = "run"
	WhatNoLogs = "run but its logs"
	WhatLogs   = "logs"
	WhatUpload = "upload" // unfinished; how large it is cannot be known
)

// Item is one thing that has gone, or would go.
type Item struct {
	App    string `json:"app,omitempty"`
	Run    string `json:"run,omitempty"`
	What   string `json:"what"`
	Key    string `json:"key,omitempty"` // of an upload
	Reason string `json:"reason"`
	Tally
}

// Report sums one app up.
type Report struct {
	App   string         `json:"app"`
	Rules flow.Retention `json:"rules"`
	Kept  int            `json:"kept"`  // runs that have ended, of which something is kept; with More, so far
	Swept int            `json:"swept"` // runs
	Tally                // that has gone
	More  bool           `json:"more,omitempty"` // for another call, because of MaxRuns
}

// App sweeps one app. It may be cut at any moment and called again: what a run is
// known by goes last. What it has done before an error is in the report. Errors:
// ErrForeign, ErrNoAnswer, ErrUnreadable, and those of the store.
func (s *Sweeper) App(ctx context.Context, app string) (Report, error) {
	if err := s.checkHome(ctx); err != nil {
		return Report{App: app}, err
	}
	runs, err := s.survey(ctx, app)
	if err != nil {
		return Report{App: app}, fmt.Errorf("runs of %s: %w", app, err)
	}
	p := &plan{s: s, app: app, runs: runs, known: map[known]bool{}, rules: RulesOf(runs, s.Rules)}
	report := Report{App: app, Rules: p.rules.App}
	if len(runs) == 0 {
		return report, nil
	}
	if err := p.ask(ctx); err != nil {
		return report, err
	}
	for i := range p.runs {
		if p.verdicts[i].Goes == Nothing {
			report.Kept++
			continue
		}
		if report.More = s.MaxRuns > 0 && report.Swept == s.MaxRuns; report.More {
			break
		}
		verdict, gone, err := p.sweep(ctx, i)
		report.add(gone)
		if err != nil {
			return report, fmt.Errorf("run %s: %w", p.runs[i].Run, err)
		}
		if verdict.Goes != All {
			report.Kept++
		}
		if verdict.Goes == Nothing {
			continue
		}
		report.Swept++
		s.tell(Item{App: app, Run: p.runs[i].Run, What: what(&p.runs[i], verdict), Reason: verdict.Reason, Tally: gone})
	}
	return report, nil
}

func what(r *api.RunRecord, v Verdict) string {
	switch {
	case v.Goes == AllButLogs:
		return WhatNoLogs
	case r.Sweep == api.SweepLogs:
		return WhatLogs
	}
	return WhatRun
}

func (s *Sweeper) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

func (s *Sweeper) tell(i Item) {
	if s.Each != nil {
		s.Each(i)
	}
}

func (s *Sweeper) progress() {
	if s.Progress != nil {
		s.Progress(s.done)
	}
}

// plan is what an app's runs are to become, as far as it is known which are open.
type plan struct {
	s        *Sweeper
	app      string
	rules    Rules
	runs     []api.RunRecord
	known    map[known]bool // what the verdicts have taken into account
	live     []Live
	verdicts []Verdict
}

// known is an open run, which may have been seen before it was listed with what it needs.
type known struct {
	run    string
	listed bool
}

// ask asks what is open now, and decides again if there is anything new.
func (p *plan) ask(ctx context.Context) error {
	now, err := p.s.Runs.Live(ctx, p.app, p.s.progress)
	if err != nil {
		return fmt.Errorf("%w: app %s: %w", ErrNoAnswer, p.app, err)
	}
	p.learn(true, now...)
	return nil
}

// askInstance does the same for one instance, without the lag of a listing.
func (p *plan) askInstance(ctx context.Context, instance string) error {
	open, err := p.s.Runs.Open(ctx, instance)
	if err != nil {
		return fmt.Errorf("%w: instance %s: %w", ErrNoAnswer, instance, err)
	}
	if open != "" {
		p.learn(false, Live{Run: open, Instance: instance})
	}
	return nil
}

func (p *plan) learn(listed bool, live ...Live) {
	fresh := p.verdicts == nil
	for _, l := range live {
		if k := (known{l.Run, listed}); !p.known[k] {
			p.known[k], fresh = true, true
			p.live = append(p.live, l)
		}
	}
	if fresh {
		p.verdicts = Decide(p.runs, p.live, p.rules, p.s.now())
	}
}

// sweep removes one run. It says so in the run's record first, and only then asks
// for the last time whether something open needs the run: see api.RunRecord. A mark
// is never taken back, as another sweep may have seen it and be removing the run by
// now; hence the question before it, so that it is hardly ever in vain.
func (p *plan) sweep(ctx context.Context, i int) (Verdict, Tally, error) {
	r := p.runs[i]
	if !p.s.DryRun && r.Sweep == api.SweepNone {
		if err := p.askInstance(ctx, r.Instance); err != nil || p.verdicts[i].Goes == Nothing {
			return p.verdicts[i], Tally{}, err
		}
		r.Sweep = api.SweepBegun
		if err := put(ctx, p.s.Store, p.app, r); err != nil {
			return Verdict{}, Tally{}, err
		}
	}
	if err := p.ask(ctx); err != nil {
		return Verdict{}, Tally{}, err
	}
	if err := p.askInstance(ctx, r.Instance); err != nil {
		return Verdict{}, Tally{}, err
	}
	verdict := p.verdicts[i]
	if verdict.Goes == Nothing {
		return verdict, Tally{}, nil
	}
	gone, err := p.s.remove(ctx, p.app, r.Run, verdict.Goes == AllButLogs)
	if err != nil || p.s.DryRun {
		return verdict, gone, err
	}
	if verdict.Goes == AllButLogs {
		r.Sweep = api.SweepLogs
		return verdict, gone, put(ctx, p.s.Store, p.app, r)
	}
	return verdict, gone, p.s.Store.Delete(ctx, api.RunRecordKey(p.app, r.Run))
}

// remove removes the objects of a run but its record, a page at a time.
func (s *Sweeper) remove(ctx context.Context, app, run string, keepLogs bool) (Tally, error) {
	var gone Tally
	opts := storage.ListOptions{Prefix: api.RunPrefix(app, run)}
	for {
		page, err := s.Store.List(ctx, opts)
		if err != nil {
			return gone, err
		}
		victims := slices.DeleteFunc(page.Items, func(o storage.Info) bool {
			name := strings.TrimPrefix(o.Key, opts.Prefix)
			return o.Key == api.RunRecordKey(app, run) || keepLogs && isLog(name)
		})
		if err := s.delete(ctx, victims); err != nil {
			return gone, err
		}
		var sum Tally
		for _, o := range victims {
			sum.add(Tally{1, o.Size})
		}
		gone.add(sum)
		s.done.add(sum)
		s.progress()
		if page.Next == "" {
			return gone, nil
		}
		opts.After = page.Next
	}
}

// isLog tells whether a key below a run's prefix is a log, or holds the logs of
// partitions with their small outputs, or tells where they are: see api.LogKey,
// api.SegmentKey and api.ManifestKey.
func isLog(name string) bool {
	_, rest, _ := strings.Cut(name, "/")
	for _, folder := range []string{"logs/", "segments/", "manifests/"} {
		if strings.HasPrefix(rest, folder) {
			return true
		}
	}
	return false
}

func (s *Sweeper) delete(ctx context.Context, victims []storage.Info) error {
	if s.DryRun {
		return nil
	}
	group, deleting := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, o := range victims {
		group.Go(func() error { return s.Store.Delete(deleting, o.Key) })
	}
	return group.Wait()
}
