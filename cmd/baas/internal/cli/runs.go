package cli

import (
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/screen"
	"github.com/baas-batch/baas/starter"
)

func (p *Program) lsCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "app", Usage: "only runs of this app"},
		&urfave.StringFlag{Name: "owner", Usage: "only runs of this owner"},
		&urfave.StringFlag{Name: "status", Usage: "only runs of this status: running, succeeded, failed, killed"},
		&urfave.IntFlag{Name: "limit", Value: starter.DefaultListLimit, Usage: "at most so many, the newest first"},
		outputFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "ls", Usage: "list runs", Flags: flags}, "",
		"baas ls --app statements --status failed", p.ls)
}

func (p *Program) ls(c *urfave.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	o := starter.ListOptions{App: c.String("app"), Owner: c.String("owner"), Status: api.Status(c.String("status")), Limit: c.Int("limit")}
	switch o.Status {
	case "", api.StatusRunning, api.StatusSucceeded, api.StatusFailed, api.StatusKilled:
	default:
		return usagef("--status is %q: expected running, succeeded, failed or killed", o.Status)
	}
	if o.Limit < 1 {
		return usagef("--limit is %d: expected a number above 0", o.Limit)
	}
	platform, err := p.connect(c)
	if err != nil {
		return err
	}
	defer platform.close(c.Context)
	list, err := platform.Runs.List(c.Context, o)
	if err != nil {
		return err
	}
	if asJSON {
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
		&urfave.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show changes until the run has ended"},
		outputFlag(),
	}, connectFlags()...)
	return command(&urfave.Command{Name: "status", Usage: "show a run and its steps", Flags: flags}, "RUN",
		"baas status --watch statements-9f86d081884c7d65-5e2f91aa", p.status)
}

func (p *Program) status(c *urfave.Context) error {
	id, err := oneArgument(c, "run ID")
	if err != nil {
		return err
	}
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	platform, err := p.connect(c)
	if err != nil {
		return err
	}
	defer platform.close(c.Context)
	if c.Bool("watch") {
		run, ended, err := p.follow(c.Context, platform, id, p.view(asJSON), nil)
		if err != nil {
			return err
		}
		if asJSON && ended {
			return writeJSON(p.Stdout, run)
		}
		return nil
	}
	run, err := platform.Runs.Describe(c.Context, id)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(p.Stdout, run)
	}
	return p.printStatus(platform, &run)
}

func (p *Program) printStatus(platform *Platform, run *starter.Run) error {
	fmt.Fprintf(p.Stdout, "Run      %s\nStatus   %s\n", run.Run, run.Status)
	if run.Reason != "" {
		fmt.Fprintf(p.Stdout, "Reason   %s\n", strings.Join(strings.Fields(run.Reason), " "))
	}
	fmt.Fprintf(p.Stdout, "Started  %s\n", stamp(run.Started))
	if !run.Ended.IsZero() {
		fmt.Fprintf(p.Stdout, "Ended    %s, after %s\n", stamp(run.Ended), screen.Duration(run.Ended.Sub(run.Started)))
	}
	if run.Incomplete != "" {
		fmt.Fprintf(p.Stdout, "Steps    not known: %s\n", run.Incomplete)
	}
	p.printPlaces(p.Stdout, platform, run)
	if len(run.Steps) == 0 {
		return nil
	}
	fmt.Fprintln(p.Stdout)
	if err := writeTable(p.Stdout, []string{"STEP", "STATUS", "DONE", "ACTIVE", "FAILED", "TOOK", "REASON"}, p.stepRows(run)); err != nil {
		return err
	}
	if rows := placeRows(run); len(rows) > 0 {
		fmt.Fprintln(p.Stdout)
		return writeTable(p.Stdout, []string{"ACTIVITY", "PARTITIONS", "STATE", "AGENT", "PROGRESS OR REASON"}, rows)
	}
	return nil
}

func (p *Program) stepRows(run *starter.Run) [][]string {
	var rows [][]string
	for _, s := range run.Steps {
		done := "-"
		if s.Partitions > 0 {
			done = fmt.Sprintf("%d/%d", s.Done, s.Partitions)
		}
		took := "-"
		if !s.Started.IsZero() {
			end := s.Ended
			if end.IsZero() {
				end = p.Now()
			}
			took = screen.Duration(end.Sub(s.Started))
		}
		name := s.ID
		if s.OnExit {
			name += " (on exit)"
		}
		rows = append(rows, []string{name, string(s.Status), done, fmt.Sprint(s.Active), fmt.Sprint(s.Failed), took, s.Reason})
	}
	return rows
}

// placeRows tells where tasks are that run, or why they wait.
func placeRows(run *starter.Run) [][]string {
	var rows [][]string
	for _, a := range run.Activities {
		if len(a.Details.Tasks) == 0 {
			rows = append(rows, []string{a.ID, "-", orDash(a.Details.State), "-", a.Details.Reason})
		}
		for _, t := range a.Details.Tasks {
			host := "-"
			if t.Agent >= 0 && t.Agent < len(a.Details.Agents) {
				host = a.Details.Agents[t.Agent].Host
			}
			partitions := fmt.Sprint(t.First)
			if t.Count > 1 {
				partitions = fmt.Sprintf("%d to %d", t.First, t.First+t.Count-1)
			}
			rows = append(rows, []string{a.ID, partitions, t.State, host, t.Progress})
		}
	}
	return rows
}

func (p *Program) killCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "reason", Usage: "why; it stands in the run's history"},
	}, connectFlags()...)
	return command(&urfave.Command{Name: "kill", Usage: "kill a run: its tasks are ended, then its on_exit steps run", Flags: flags}, "RUN",
		`baas kill --reason "wrong month" statements-9f86d081884c7d65-5e2f91aa`, func(c *urfave.Context) error {
			id, err := oneArgument(c, "run ID")
			if err != nil {
				return err
			}
			platform, err := p.needPlatform(c)
			if err != nil {
				return err
			}
			defer platform.close(c.Context)
			if err := platform.Runs.Kill(c.Context, id, c.String("reason"), p.user()); err != nil {
				return err
			}
			fmt.Fprintf(p.Stdout, "asked run %s to end; see: baas status --watch %s\n", id, id)
			return nil
		})
}

// user names who asks.
func (p *Program) user() string {
	for _, name := range []string{"BAAS_USER", "USER", "LOGNAME"} {
		if user := p.getenv(name); user != "" {
			return user
		}
	}
	return "unknown"
}
