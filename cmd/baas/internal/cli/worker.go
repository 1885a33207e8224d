package cli

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
)

// WorkerOptions say what a worker joins.
type WorkerOptions struct {
	Target
	Masters []string
	// Executor is a path on every agent, or a URI that agents fetch.
	Executor string
	// Serve offers the executor, a path here, to the agents by HTTP.
	Serve        bool
	Gateway      string // host:port of the file store's gateway
	Principal    string
	Secret       string
	User         string
	LeaseTimeout time.Duration
	Logger       *slog.Logger
	// Started is called once, when the worker serves.
	Started func()
}

func (p *Program) workerCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "mesos", Usage: "`URLS` of the Mesos masters, separated by commas (BAAS_MESOS)"},
		&urfave.StringFlag{Name: "framework", Value: api.DefaultFramework, Usage: "`NAME` of the workers' framework (BAAS_FRAMEWORK)"},
		&urfave.StringFlag{Name: "executor", Usage: "`PATH` or URI of baas-executor (BAAS_EXECUTOR; default: beside baas)"},
		&urfave.BoolFlag{Name: "serve-executor", Usage: "agents fetch the executor from this worker's gateway"},
		&urfave.StringFlag{Name: "gateway", Value: "127.0.0.1:0", Usage: "`HOST:PORT` of the store's gateway (BAAS_GATEWAY)"},
		&urfave.StringFlag{Name: "principal", Usage: "Mesos principal `NAME` (BAAS_MESOS_PRINCIPAL)"},
		&urfave.StringFlag{Name: "secret-file", Usage: "`FILE` with the principal's secret (BAAS_MESOS_SECRET_FILE)"},
		&urfave.StringFlag{Name: "user", Usage: "`NAME` of the executors' user (BAAS_MESOS_USER; default: this process's)"},
		&urfave.DurationFlag{Name: "lease", Value: api.DefaultLeaseTimeout, Usage: "`TIME` a leader may be silent; the first worker decides"},
		&urfave.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "log errors only"},
	}, connectFlags()...)
	return command(&urfave.Command{Name: "worker", Usage: "run a worker for a Temporal and a Mesos cluster until Ctrl-C", Flags: flags}, "",
		"baas worker --address temporal:7233 --mesos http://master:5050 --storage file:///mnt/baas", p.worker)
}

func (p *Program) worker(c *urfave.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	t, err := p.target(c)
	if err != nil && t.Temporal.HostPort == "" {
		return usagef("worker: no Temporal: name it with --address or TEMPORAL_ADDRESS")
	}
	o := WorkerOptions{
		Target:  t,
		Serve:   c.Bool("serve-executor"),
		Gateway: p.flagOr(c, "gateway", "BAAS_GATEWAY"), Executor: p.executor(c),
		Principal: p.flagOr(c, "principal", "BAAS_MESOS_PRINCIPAL"), User: p.flagOr(c, "user", "BAAS_MESOS_USER"),
		LeaseTimeout: c.Duration("lease"),
		Logger:       p.logger(!c.Bool("quiet")),
	}
	o.Framework = p.flagOr(c, "framework", "BAAS_FRAMEWORK")
	if masters := p.flagOr(c, "mesos", "BAAS_MESOS"); masters != "" {
		o.Masters = strings.Split(masters, ",")
	} else if t.Mesos != "" {
		o.Masters = []string{t.Mesos}
	}
	switch {
	case len(o.Masters) == 0:
		return usagef("worker: no Mesos: name its masters with --mesos or BAAS_MESOS")
	case o.Storage == "":
		return usagef("worker: no storage: name it with --storage or BAAS_STORAGE")
	case o.LeaseTimeout < time.Second:
		return usagef("--lease is %v: at least 1s", o.LeaseTimeout)
	}
	if name := p.flagOr(c, "secret-file", "BAAS_MESOS_SECRET_FILE"); name != "" {
		secret, err := os.ReadFile(name)
		if err != nil {
			return usagef("secret file: %v", err)
		}
		o.Secret = strings.TrimSpace(string(secret))
	}
	o.Started = func() { fmt.Fprintf(p.Stderr, "The worker serves; stop it with Ctrl-C.\n") }
	ctx, cancel := p.untilInterrupt(c.Context)
	defer cancel()
	err = p.Parts.Worker(ctx, o)
	if ctx.Err() != nil && c.Context.Err() == nil {
		return nil // stopped on request
	}
	return err
}

// flagOr reads a flag that was given, else a variable, else the flag's default.
func (p *Program) flagOr(c *urfave.Context, flag, variable string) string {
	if value := p.getenv(variable); value != "" && !c.IsSet(flag) {
		return value
	}
	return c.String(flag)
}
