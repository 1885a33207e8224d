package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/retention"
	"github.com/baas-batch/baas/starter"
)

func retentionFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "retention", Usage: "`RULES` for apps without: outputs=30d,runs=10,failed=90d (BAAS_RETENTION)"}
}

// retention reads the rules for apps whose flow has none.
func (p *Program) retention(c *urfave.Context) (flow.Retention, error) {
	text := p.flagOr(c, "retention", "BAAS_RETENTION")
	if text == "" {
		return flow.Retention{}, nil
	}
	rules, err := flow.ParseRetention(text)
	if err != nil {
		return rules, usagef("--retention: %v", err)
	}
	return rules, nil
}

// storageSweep needs Temporal too: it says which runs are open.
func (p *Program) storageSweep(c *urfave.Context) error {
	if c.NArg() != 1 {
		return usagef("usage: baas storage sweep [--app APP] [--dry-run|--yes]")
	}
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	if c.Bool("yes") && c.Bool("dry-run") {
		return usagef("--yes and --dry-run: give one of them")
	}
	o := starter.SweepOptions{App: c.String("app"), DryRun: !c.Bool("yes"), UploadAge: c.Duration("upload-age")}
	if o.UploadAge < time.Hour {
		return usagef("--upload-age is %v: at least 1h", o.UploadAge)
	}
	if o.Rules, err = p.retention(c); err != nil {
		return err
	}
	t, err := p.target(c)
	if err != nil {
		return fmt.Errorf("a sweep asks Temporal which runs are open: %w", err)
	}
	if t.Storage == "" {
		return usagef("no storage is configured: name it with --storage or BAAS_STORAGE")
	}
	platform, err := p.Parts.Connect(c.Context, t)
	if err != nil {
		return err
	}
	defer platform.close(c.Context)
	ctx, cancel := p.untilInterrupt(c.Context)
	defer cancel()
	err = p.sweep(ctx, platform, o, asJSON)
	if ctx.Err() != nil && c.Context.Err() == nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(p.Stderr, "Stopped. What is gone is gone; the next sweep goes on from here.")
		return exitError{ExitFailed}
	}
	return err
}

// sweptJSON is what a sweep has removed, or would remove.
type sweptJSON struct {
	DryRun bool             `json:"dry_run"`
	Items  []retention.Item `json:"items"`
	starter.Swept
}

func (p *Program) sweep(ctx context.Context, platform *Platform, o starter.SweepOptions, asJSON bool) error {
	bar := p.progress(-1)
	defer bar.end()
	items := []retention.Item{}
	app := ""
	o.Progress = func(done retention.Tally) { bar.count(int(done.Bytes - bar.done)) }
	o.Each = func(i retention.Item) {
		if asJSON {
			items = append(items, i)
			return
		}
		bar.end()
		if i.App != app {
			app = i.App
			fmt.Fprintf(p.Stdout, "%s\n", app)
		}
		fmt.Fprintln(p.Stdout, sweptLine(i))
	}
	sum, err := platform.Runs.Sweep(ctx, o)
	bar.end()
	if asJSON {
		return errors.Join(writeJSON(p.Stdout, sweptJSON{o.DryRun, items, sum}), err)
	}
	if err == nil || !o.DryRun {
		p.summary(sum, o.DryRun)
	}
	return err
}

// sweptLine says what of one run goes, and why.
func sweptLine(i retention.Item) string {
	if i.What == retention.WhatUpload {
		return fmt.Sprintf("  %9s  %14s  unfinished upload %s\n  %25s  %s", "", "", i.Key, "", i.Reason)
	}
	what := ""
	if i.What != retention.WhatRun {
		what = " (" + i.What + ")"
	}
	return fmt.Sprintf("  %9s  %14s  %s%s\n  %25s  %s", bytesText(i.Bytes), number(int(i.Objects), "object"), i.Run, what, "", i.Reason)
}

func (p *Program) summary(sum starter.Swept, dry bool) {
	var all retention.Tally
	swept, kept := 0, 0
	for _, r := range sum.Apps {
		swept, kept = swept+r.Swept, kept+r.Kept
		all.Objects, all.Bytes = all.Objects+r.Objects, all.Bytes+r.Bytes
		if rules := r.Rules.String(); rules != "" {
			fmt.Fprintf(p.Stdout, "%s: %s, by the rules %s\n", r.App, number(r.Kept, "ended run")+" kept", rules)
		}
	}
	what := fmt.Sprintf("%s with %s, %s, %s", number(swept, "run"), number(int(all.Objects), "object"), bytesText(all.Bytes),
		number(sum.Uploads, "unfinished upload"))
	switch {
	case !dry:
		fmt.Fprintf(p.Stdout, "Removed: %s. Kept: %s, and all open ones.\n", what, number(kept, "ended run"))
	case swept == 0 && sum.Uploads == 0:
		fmt.Fprintf(p.Stdout, "There is nothing to remove. Kept: %s, and all open ones.\n", number(kept, "ended run"))
	default:
		fmt.Fprintf(p.Stdout, "To be removed: %s. Remove them with --yes.\n", what)
	}
}
