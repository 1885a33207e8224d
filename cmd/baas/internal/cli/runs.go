package cli

import (
	"context"
	"fmt"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
)

func (p *Program) lsCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "app", Usage: "only runs of the app `NAME`"},
		&urfave.StringFlag{Name: "owner", Usage: "only runs of the owner `NAME`"},
		&urfave.StringFlag{Name: "status", Usage: "only runs of this `STATUS`: running, succeeded, failed, killed"},
		&urfave.IntFlag{Name: "limit", Value: starter.DefaultListLimit, Usage: "at most `N`, the newest first"},
		outputFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "ls", Usage: "list runs", Flags: flags}, "",
		"baas ls --app statements --status failed", onPlatform(readList, p.connect, p.list))
}

type listArgs struct {
	starter.ListOptions
	asJSON bool
}

func readList(c *urfave.Context) (a listArgs, err error) {
	if err := noArguments(c); err != nil {
		return a, err
	}
	if a.asJSON, err = wantsJSON(c); err != nil {
		return a, err
	}
	a.ListOptions = starter.ListOptions{
		App: c.String("app"), Owner: c.String("owner"), Status: api.Status(c.String("status")), Limit: c.Int("limit"),
	}
	switch a.Status {
	case "", api.StatusRunning, api.StatusSucceeded, api.StatusFailed, api.StatusKilled:
	default:
		return a, usagef("--status is %q: expected running, succeeded, failed or killed", a.Status)
	}
	if a.Limit < 1 {
		return a, usagef("--limit is %d: expected a number above 0", a.Limit)
	}
	return a, nil
}

func (p *Program) list(ctx context.Context, platform *Platform, a listArgs) error {
	list, err := platform.Runs.List(ctx, a.ListOptions)
	if err != nil {
		return err
	}
	if a.asJSON {
		if list == nil {
			list = []starter.Summary{}
		}
		return writeJSON(p.Stdout, list)
	}
	rows := make([][]string, len(list))
	for i, s := range list {
		end := p.Now()
		if !s.Ended.IsZero() {
			end = s.Ended
		}
		rows[i] = []string{s.Run, string(s.Status), stamp(s.Started), screen.Duration(end.Sub(s.Started)), orDash(s.OrderDate), orDash(s.Owner)}
	}
	return writeTable(p.Stdout, []string{"RUN", "STATUS", "STARTED", "TOOK", "DATE", "OWNER"}, rows)
}

func (p *Program) statusCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show changes until the run has ended; exit code 1 if it did not succeed"},
		outputFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "status", Usage: "show a run and its steps", Flags: flags}, "RUN",
		"baas status --watch statements-9f86d081884c7d65-5e2f91aa", onPlatform(readStatus, p.connect, p.status))
}

type statusArgs struct {
	run           string
	watch, asJSON bool
}

func readStatus(c *urfave.Context) (a statusArgs, err error) {
	a.watch = c.Bool("watch")
	a.run, a.asJSON, err = aboutRun(c)
	return a, err
}

func (p *Program) status(ctx context.Context, platform *Platform, a statusArgs) error {
	if a.watch {
		return p.watch(ctx, platform, a)
	}
	run, err := platform.Runs.Describe(ctx, a.run)
	if err != nil {
		return err
	}
	if a.asJSON {
		return writeJSON(p.Stdout, run)
	}
	return p.printStatus(platform, &run)
}

func (p *Program) watch(ctx context.Context, platform *Platform, a statusArgs) error {
	run, ended, err := p.follow(ctx, platform, a.run, p.view(a.asJSON), nil)
	if err != nil || !ended {
		return err
	}
	if a.asJSON {
		if err := writeJSON(p.Stdout, run); err != nil {
			return err
		}
	}
	if run.Status != api.StatusSucceeded {
		return exitError{ExitFailed}
	}
	return nil
}

func (p *Program) killCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "reason", Usage: "`TEXT`: why; it becomes the reason of the run's end"},
	}, connectFlags()...)
	return command(&urfave.Command{Name: "kill", Flags: flags,
		Usage: "kill a run, after which its on_exit steps run, or one partition of it"},
		"RUN[/STEP#PARTITION]", `baas kill --reason "wrong month" statements-9f86d081884c7d65-5e2f91aa`,
		onPlatform(p.readKill, p.needPlatform, p.kill))
}

type killArgs struct {
	run, task, reason string
	partitions        *api.KillPartitionsRequest // nil for the whole run
}

func (p *Program) readKill(c *urfave.Context) (a killArgs, err error) {
	a.reason = c.String("reason")
	if a.task, err = oneArgument(c, "run: RUN or RUN/STEP#PARTITION"); err != nil {
		return a, err
	}
	run, selected, err := parseLogs(a.task)
	if err != nil {
		return a, err
	}
	a.run = run
	switch {
	case selected.Step == "":
	case selected.Partition < 0:
		return a, usagef("%q: a step cannot be killed alone; name the run, or a partition: RUN/STEP#PARTITION", screen.OneLine(a.task))
	default:
		a.partitions = &api.KillPartitionsRequest{
			Step: selected.Step, Partitions: []int{selected.Partition}, By: p.user(), Reason: a.reason,
		}
	}
	return a, nil
}

func (p *Program) kill(ctx context.Context, platform *Platform, a killArgs) error {
	if a.partitions != nil {
		if _, err := platform.Runs.KillPartitions(ctx, a.run, *a.partitions); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.Stdout, "asked %s to end; the step goes on; see: baas status %s\n", a.task, a.run)
		return err
	}
	if err := platform.Runs.Kill(ctx, a.run, a.reason, p.user()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.Stdout, "asked run %s to end; see: baas status --watch %s\n", a.run, a.run)
	return err
}

// user names who asks.
func (p *Program) user() string {
	for _, name := range []string{"BAAS_USER", "USER", "LOGNAME"} {
		if user := p.getenv(name); user != "" {
			return user
		}
	}
	return p.User
}
