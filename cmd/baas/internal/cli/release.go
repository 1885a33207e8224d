package cli

import (
	"context"
	"fmt"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
)

func (p *Program) releaseCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "as", Usage: "`WORD`: never-ran (launch it), ran (it is done), failed (the attempt failed)"},
		&urfave.StringFlag{Name: "reason", Usage: "`TEXT`: how this was found out; it stays with the run"},
	}, connectFlags()...)
	return command(&urfave.Command{Name: "release", Usage: "say what became of a lost at_most_once task that is held for a person", Flags: flags},
		"RUN/STEP[#PARTITION]",
		`baas release --as ran --reason "it is booked" statements-9f86d081884c7d65-5e2f91aa/post#17`,
		onPlatform(p.readRelease, p.needPlatform, p.release))
}

type releaseArgs struct {
	starter.ReleaseOptions
	run, task string
}

func (p *Program) readRelease(c *urfave.Context) (a releaseArgs, err error) {
	if a.task, err = oneArgument(c, "task: RUN/STEP or RUN/STEP#PARTITION"); err != nil {
		return a, err
	}
	run, selected, err := parseLogs(a.task)
	if err != nil {
		return a, err
	}
	a.run, a.Step, a.Partition = run, selected.Step, selected.Partition
	a.As, a.Reason, a.By = api.ReleaseAs(c.String("as")), c.String("reason"), p.user()
	switch {
	case a.Step == "":
		return a, usagef("%q: expected RUN/STEP or RUN/STEP#PARTITION", screen.OneLine(a.task))
	case !a.As.Valid():
		return a, usagef("--as is %q: expected never-ran, ran or failed", screen.OneLine(string(a.As)))
	case a.Reason == "":
		return a, usagef("--reason is missing: say how you know; it stays with the run")
	}
	return a, nil
}

func (p *Program) release(ctx context.Context, platform *Platform, a releaseArgs) error {
	done, err := platform.Runs.Release(ctx, a.run, a.ReleaseOptions)
	if err != nil {
		return err
	}
	text := map[api.ReleaseAs]string{
		api.ReleaseNeverRan: "it is launched again",
		api.ReleaseRan:      "it counts as succeeded",
		api.ReleaseFailed:   "the attempt counts as failed",
	}[done.As]
	_, err = fmt.Fprintf(p.Stdout, "released %s as %s: %s; see: baas status %s\n", a.task, done.As, text, a.run)
	return err
}
