package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
)

const (
	watchEvery    = 400 * time.Millisecond
	progressEvery = 5 * time.Second // between two lines about one step
)

// view shows the states of a run as they come.
type view interface {
	show(run *starter.Run) error
	// note writes a line of text between two states.
	note(text string)
}

// view gives the one that fits: a tree on a terminal, else lines. With JSON on
// stdout, what happens is told on stderr.
func (p *Program) view(asJSON bool) view {
	if asJSON {
		return &lineView{p: p, w: p.Stderr, events: screen.NewEvents(progressEvery)}
	}
	if p.Terminal == nil || p.getenv("TERM") == "dumb" {
		return &lineView{p: p, w: p.Stdout, events: screen.NewEvents(progressEvery)}
	}
	return &treeView{p: p, screen: screen.New(p.Stdout, p.Terminal)}
}

type lineView struct {
	p      *Program
	w      io.Writer
	events *screen.Events
}

func (v *lineView) show(run *starter.Run) error {
	now := v.p.Now()
	for _, line := range v.events.Next(&run.RunState, now) {
		if _, err := fmt.Fprintf(v.w, "%s  %s\n", now.Local().Format(time.RFC3339), line); err != nil {
			return err
		}
	}
	return nil
}

func (v *lineView) note(text string) { fmt.Fprintln(v.p.Stderr, text) }

type treeView struct {
	p      *Program
	screen *screen.Screen
}

func (v *treeView) show(run *starter.Run) error {
	columns, rows := v.screen.Size()
	lines := screen.Tree(&run.RunState, v.p.Now(), screen.Style{
		Colour: v.p.getenv("NO_COLOR") == "", Width: columns, Height: rows - 2,
	})
	return v.screen.Draw(lines)
}

func (v *treeView) note(text string) {
	v.screen.Keep()
	fmt.Fprintln(v.p.Stderr, text)
	v.screen.Keep()
}

// observed is one state of a watch, or its error.
type observed struct {
	run starter.Run
	err error
}

// follow shows a run until it has ended. interrupted is called on Ctrl-C and says
// whether to go on; nil ends the watch at once, and the run goes on. A platform
// that does not answer for a while is waited for.
func (p *Program) follow(ctx context.Context, platform *Platform, id string, v view, interrupted func(context.Context) (goOn bool, err error)) (starter.Run, bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states := make(chan observed)
	go func() {
		defer close(states)
		for run, err := range platform.Runs.Watch(ctx, id, watchEvery) {
			select {
			case states <- observed{run, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var last starter.Run
	silent := false
	held := map[starter.HeldTask]bool{}
	for {
		select {
		case o, ok := <-states:
			switch {
			case !ok:
				return last, last.Status.Final(), ctx.Err()
			case errors.Is(o.err, starter.ErrUnreachable):
				if !silent {
					v.note(fmt.Sprintf("baas: %v; waiting for it to come back", o.err))
				}
				silent = true
				continue
			case o.err != nil:
				return last, false, o.err
			}
			silent = false
			last = o.run
			if err := v.show(&last); err != nil {
				return last, false, err
			}
			noteHeld(v, &last, held)
		case <-p.Interrupt:
			if interrupted == nil {
				return last, false, nil
			}
			if goOn, err := interrupted(ctx); err != nil || !goOn {
				return last, false, err
			}
		}
	}
}

// noteHeld tells of each held task once: nothing of it moves until a person acts.
func noteHeld(v view, run *starter.Run, told map[starter.HeldTask]bool) {
	for _, h := range run.Held() {
		if !told[h] {
			told[h] = true
			v.note(fmt.Sprintf("baas: %s#%d is held for a person: %s; to go on: %s", h.Step, h.Partition, screen.OneLine(h.Reason), h.Release))
		}
	}
}
