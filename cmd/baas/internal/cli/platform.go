package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/datadir"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/starter"
)

// Runs is what commands do with runs: a *starter.Client.
type Runs interface {
	Start(ctx context.Context, o starter.StartOptions) (starter.Started, error)
	Describe(ctx context.Context, id string) (starter.Run, error)
	Explain(ctx context.Context, id string, o starter.ExplainOptions) (starter.Explanation, error)
	Mesos(ctx context.Context, o starter.MesosOptions) (starter.MesosView, error)
	Watch(ctx context.Context, id string, every time.Duration) iter.Seq2[starter.Run, error]
	List(ctx context.Context, o starter.ListOptions) ([]starter.Summary, error)
	Kill(ctx context.Context, id, reason, requestedBy string) error
	KillPartitions(ctx context.Context, id string, request api.KillPartitionsRequest) (api.PartitionKill, error)
	Release(ctx context.Context, id string, o starter.ReleaseOptions) (api.Release, error)
	Logs(ctx context.Context, id string, o starter.LogOptions) iter.Seq2[starter.LogChunk, error]
	Download(ctx context.Context, o starter.Output, dir string) ([]string, error)
	Sweep(ctx context.Context, o starter.SweepOptions) (starter.Swept, error)
}

// Target names a platform that runs.
type Target struct {
	Temporal client.Options // HostPort is "" offline: then only storage is read
	Storage  string         // URL; "" when it is not known
	UI       string         // URL of the Temporal Web UI, if known
	Mesos    string         // URL of the master, if known
	MesosAccess
	Framework string
	Found     string // how it was found, for people
}

// Platform is one that is connected or was started here.
type Platform struct {
	Target
	Runs     Runs
	Embedded bool // lives and dies with this process
	// Close disconnects; an embedded platform is stopped. keepTasks leaves its
	// executors running.
	Close func(ctx context.Context, keepTasks bool) error
}

// EmbedOptions say how to start a platform in this process.
type EmbedOptions struct {
	DataDir    string
	Persistent bool
	Storage    string // URL; "": files in the data directory
	Executor   string
	Port       int
	UIPort     int
	Agents     int
	CPUs       float64
	MemMB      int
	Version    string
	Secrets    *secrets.Keeper
	Users      []string // see worker.Config
	Retention  flow.Retention
	Logger     *slog.Logger
}

// connectFlags are those of every command that needs a platform.
func connectFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "address", Usage: "`HOST:PORT` of Temporal (TEMPORAL_ADDRESS)"},
		&urfave.StringFlag{Name: "namespace", Usage: "namespace `NAME` of Temporal (TEMPORAL_NAMESPACE)"},
		storageFlag(),
		dataFlag(),
	}
}

func storageFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "storage", Usage: "`URL` of the store, such as s3://bucket/prefix (BAAS_STORAGE)"}
}

func dataFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "data", Usage: "data `DIR` of baas up (BAAS_DATA; default: baas in the user's data folder)"}
}

// dataDir is absolute: it becomes part of the store's URL.
func (p *Program) dataDir(c *urfave.Context) (string, error) {
	if dir := c.String("data"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := p.getenv("BAAS_DATA"); dir != "" {
		return filepath.Abs(dir)
	}
	return datadir.Default(p.getenv)
}

// errNoPlatform tells that none is configured and none is up.
var errNoPlatform = errors.New("no platform is configured, and none is up")

// target finds a platform that runs. errNoPlatform when there is none.
func (p *Program) target(c *urfave.Context) (Target, error) {
	t, err := p.configured(c)
	if err != nil {
		return t, err
	}
	dir, err := p.dataDir(c)
	if err != nil && t.Temporal.HostPort != "" {
		return t, nil // a service needs no home
	}
	if err != nil {
		return t, err
	}
	state, err := datadir.Up(dir)
	up := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return t, fmt.Errorf("data directory %s: %w", dir, err)
	}
	if up && (t.Temporal.HostPort == "" || t.Temporal.HostPort == state.Temporal) {
		if t.Temporal.HostPort == "" {
			t.Temporal = client.Options{HostPort: state.Temporal, Namespace: state.Namespace}
			t.Found = "baas up in " + dir
		}
		t.UI, t.Mesos, t.Framework = state.UI, state.Mesos, state.Framework
	}
	if up && t.Storage == "" {
		t.Storage = state.Storage
	}
	if ui := p.getenv("BAAS_UI"); ui != "" {
		t.UI = ui
	}
	if t.Temporal.HostPort == "" {
		if t.Storage == "" {
			t.Storage = (&url.URL{Scheme: "file", Path: path.Join(dir, datadir.Store)}).String()
		}
		return t, fmt.Errorf("%w in %s; start one with: baas up", errNoPlatform, dir)
	}
	return t, nil
}

// configured reads flags and Temporal's own configuration.
func (p *Program) configured(c *urfave.Context) (Target, error) {
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: environment{p}})
	if err != nil {
		return Target{}, usagef("Temporal's configuration: %v", err)
	}
	t := Target{Temporal: options, Storage: c.String("storage"), MesosAccess: p.mesosAccess(c), Found: "Temporal's variables and profiles"}
	if address := c.String("address"); address != "" {
		t.Temporal.HostPort, t.Found = address, "--address"
	}
	if namespace := c.String("namespace"); namespace != "" {
		t.Temporal.Namespace = namespace
	}
	if t.Temporal.Namespace == "" {
		t.Temporal.Namespace = client.DefaultNamespace
	}
	if t.Storage == "" {
		t.Storage = p.getenv("BAAS_STORAGE")
	}
	return t, nil
}

// environment gives the program's environment to envconfig.
type environment struct{ p *Program }

func (e environment) Environ() []string                   { return e.p.Environ() }
func (e environment) LookupEnv(key string) (string, bool) { return e.p.LookupEnv(key) }

// connect finds a platform and connects to it. Without one it reads the store of
// the data directory alone: runs that have ended are there.
func (p *Program) connect(c *urfave.Context) (*Platform, error) {
	t, err := p.target(c)
	if err != nil && !errors.Is(err, errNoPlatform) {
		return nil, err
	}
	p.offline = err != nil
	return p.Parts.Connect(c.Context, t)
}

// needPlatform is connect for commands to which a store alone is of no use.
func (p *Program) needPlatform(c *urfave.Context) (*Platform, error) {
	t, err := p.target(c)
	if err != nil {
		return nil, err
	}
	return p.Parts.Connect(c.Context, t)
}

func (p *Platform) close(ctx context.Context) { _ = p.Close(context.WithoutCancel(ctx), false) }

// page is the address of a run's page in the Web UI, "" when the UI is not known.
func (t Target) page(run *starter.Run) string {
	if t.UI == "" || run.TemporalRunID == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/history", strings.TrimSuffix(t.UI, "/"),
		url.PathEscape(t.Temporal.Namespace), url.PathEscape(run.WorkflowID), url.PathEscape(run.TemporalRunID))
}

// place is where a run's objects are, for people: a directory for the file store.
func (t Target) place(run *starter.Run) string {
	u, err := url.Parse(t.Storage)
	if err != nil || t.Storage == "" {
		return ""
	}
	u.RawQuery = ""
	u = u.JoinPath("runs", run.App, run.Run)
	if u.Scheme == "file" {
		return u.Path
	}
	return u.Redacted()
}
