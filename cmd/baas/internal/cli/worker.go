package cli

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/images"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/tasklet"
)

// WorkerOptions say what a worker joins.
type WorkerOptions struct {
	Target
	Masters []string
	// Executor is a path on every agent, or a URI that agents fetch.
	Executor string
	// Serve offers the executor, a path here, to the agents by HTTP.
	Serve   bool
	Gateway string // host:port of the file store's gateway
	User    string
	// RemoteRegions asks for agents in other regions than the master's too.
	RemoteRegions bool
	Metrics       string // host:port of the Prometheus endpoint; "" for none
	Role          string // of the platform in Mesos; "" for none of its own
	LeaseTimeout  time.Duration
	Secrets       *secrets.Keeper
	Images        *images.Pinner // nil: tags stay as they are
	Users         []string       // see worker.Config
	Volumes       []string       // the same
	Retention     flow.Retention // of apps whose flow has no rules
	CacheSize     string         // see tasklet.EnvCacheSize; "" leaves it to the executors
	Logger        *slog.Logger
	// Started is called once, when the worker serves.
	Started func()
}

func (p *Program) workerCommand() *urfave.Command {
	flags := append([]urfave.Flag{
		&urfave.StringFlag{Name: "mesos", Usage: "`URLS` of Mesos masters, or zk://HOST,HOST/PATH (BAAS_MESOS)"},
		&urfave.StringFlag{Name: "framework", Value: api.DefaultFramework, Usage: "`NAME` of the workers' framework (BAAS_FRAMEWORK)"},
		&urfave.StringFlag{Name: "executor", Usage: "`PATH` or URI of baas-executor (BAAS_EXECUTOR; default: beside baas)"},
		&urfave.BoolFlag{Name: "serve-executor", Usage: "agents fetch the executor from this worker's gateway"},
		&urfave.StringFlag{Name: "gateway", Value: "127.0.0.1:0", Usage: "`HOST:PORT` of the store's gateway (BAAS_GATEWAY)"},
		&urfave.StringFlag{Name: "user", Usage: "`NAME` of the executors' user (BAAS_MESOS_USER; default: this process's)"},
		&urfave.StringFlag{Name: "role", Usage: "`ROLE` in Mesos: owner X runs in ROLE/X (BAAS_MESOS_ROLE; default: all in *)"},
		&urfave.DurationFlag{Name: "lease", Value: api.DefaultLeaseTimeout, Usage: "`TIME` a leader may be silent; the first worker decides"},
		&urfave.BoolFlag{Name: "remote-regions", Usage: "use agents in other regions than the master's too"},
		&urfave.StringFlag{Name: "metrics", Usage: "`HOST:PORT` to offer metrics to Prometheus at (BAAS_METRICS)"},
		&urfave.StringFlag{Name: "cache-size", Usage: "`SIZE` of each executor's file cache, such as 20GiB (BAAS_CACHE_SIZE)"},
		retentionFlag(),
		&urfave.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "log errors only"},
	}, slices.Concat(accessFlags(), imageFlags(), secretsFlags(), connectFlags())...)
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
		User:          p.flagOr(c, "user", "BAAS_MESOS_USER"),
		Role:          p.flagOr(c, "role", "BAAS_MESOS_ROLE"),
		RemoteRegions: c.Bool("remote-regions"),
		Metrics:       p.flagOr(c, "metrics", "BAAS_METRICS"),
		LeaseTimeout:  c.Duration("lease"),
		Logger:        p.logger(!c.Bool("quiet")),
	}
	o.Framework = p.flagOr(c, "framework", "BAAS_FRAMEWORK")
	if masters := p.flagOr(c, "mesos", "BAAS_MESOS"); masters != "" {
		o.Masters = mesos.SplitMasters(masters)
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
	if _, err = t.MesosAccess.Open(); err != nil {
		return err // at once, though the files are read again for each subscription
	}
	if o.Secrets, err = p.secrets(c); err != nil {
		return err
	}
	if o.Images, err = p.images(c, o.Secrets); err != nil {
		return err
	}
	if o.Users, err = users(c); err != nil {
		return err
	}
	if o.Volumes, err = volumes(c); err != nil {
		return err
	}
	if o.Retention, err = p.retention(c); err != nil {
		return err
	}
	if o.CacheSize, err = p.cacheSize(c); err != nil {
		return err
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

// cacheSize gives a number of bytes as text; "" when none was given.
func (p *Program) cacheSize(c *urfave.Context) (string, error) {
	text := p.flagOr(c, "cache-size", tasklet.EnvCacheSize)
	if text == "" || text == "0" {
		return text, nil
	}
	n, err := flow.ParseSize(text)
	if err != nil {
		return "", usagef("--cache-size: %v", err)
	}
	return strconv.FormatInt(n, 10), nil
}

// flagOr reads a flag that was given, else a variable, else the flag's default.
func (p *Program) flagOr(c *urfave.Context, flag, variable string) string {
	if value := p.getenv(variable); value != "" && !c.IsSet(flag) {
		return value
	}
	return c.String(flag)
}
