// Package fault proves that nothing is lost: it runs workers, Temporal, a Mesos
// cluster and storage as parts that a test can kill, pause, cut off and slow down,
// and judges each run by what its tasks have entered in a ledger themselves.
package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/baas-batch/baas/catalog"
	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/embedded/mesos/master"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage/file"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/tests/harness/proxy"
)

// The time limits of a World: short, so that tests take seconds, and long enough
// for a loaded machine.
const (
	Lease       = 4 * time.Second // after which a silent leader is followed by another
	Heartbeat   = 8 * time.Second // after which Temporal hands a silent activity over
	AgentLost   = 2 * time.Second // after which the master gives a silent agent up
	Unreachable = 2 * time.Second // after which Standard's tasks on it are placed again
)

// Config of a World. Zero values mean what is said.
type Config struct {
	// Seed of World.Rand; 0: BAAS_SEED from the environment, else the clock.
	Seed    uint64
	Workers int // 2
	Agents  int // 2, of 4 CPUs each
	Masters int // 1
	// OwnGateways gives each worker a storage gateway that dies with it, instead
	// of one behind World.Gateway.
	OwnGateways bool
	// Faults befall messages in Mesos.
	Faults embeddedmesos.Faults
	// Mesos changes the cluster, Worker the workers; either may be nil.
	Mesos  func(*embeddedmesos.Config)
	Worker func(*harness.WorkerConfig)
}

// World is a whole platform whose parts can fail. Workers and Temporal are
// processes of their own, as executors and tasks are; masters, agents and the
// shared gateway live in the test's process. Its methods fail the test when they
// cannot do what they are to do, and belong to the test's goroutine.
type World struct {
	testing.TB
	Seed uint64
	Rand *rand.Rand

	Temporal *harness.Temporal
	Cluster  *embeddedmesos.Cluster
	Workers  []*Worker
	// Gateway is the shared storage gateway, StorageLink the network before it.
	Gateway     *Gateway
	StorageLink *proxy.Proxy

	// Client and Runs speak to Temporal over a link of their own, that no fault
	// befalls.
	Client client.Client
	Runs   *starter.Client
	Store  *file.Store

	cfg     Config
	dir     string
	storage string // URL of the way to the shared gateway
	clean   *proxy.Proxy
	log     *slog.Logger

	mu    sync.Mutex
	harms []harm
}

// Worker is a worker with its links.
type Worker struct {
	*harness.Worker
	Temporal *proxy.Proxy   // its link to Temporal
	Masters  []*proxy.Proxy // its links to the masters, as in Cluster.MasterURLs
	Store    StoreControl   // what befalls its own calls of storage
}

// New starts a world that ends with the test. It returns when its workers serve;
// one of them will lead.
func New(t testing.TB, cfg Config) *World {
	t.Helper()
	if cfg.Seed == 0 {
		cfg.Seed = seed(t)
	}
	cfg.Workers, cfg.Agents, cfg.Masters = max(cfg.Workers, 2), max(cfg.Agents, 2), max(cfg.Masters, 1)
	w := &World{
		TB: t, Seed: cfg.Seed, Rand: rand.New(rand.NewPCG(cfg.Seed, 0)), cfg: cfg, dir: harness.Dir(t),
		log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	t.Logf("BAAS_SEED=%d", w.Seed)
	w.startStorage()
	w.Temporal = harness.NewTemporal(t)
	w.do(w.Temporal.Start())
	w.clean = w.link(w.Temporal.Address())
	w.startMesos()
	w.connect()
	w.startWorkers()
	return w
}

func seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv("BAAS_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("BAAS_SEED: %v", err)
	}
	return n
}

func (w *World) do(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *World) link(target string) *proxy.Proxy {
	w.Helper()
	p, err := proxy.New(target)
	w.do(err)
	w.Cleanup(p.Stop)
	return p
}

func (w *World) startStorage() {
	w.Helper()
	var err error
	w.Store, err = file.Open(filepath.Join(w.dir, "store"), file.Options{Logger: w.log})
	w.do(err)
	w.Cleanup(func() { w.Store.Close() })
	inner, err := file.NewGateway(w.Store, file.GatewayOptions{Logger: w.log})
	w.do(err)
	w.Gateway, err = newGateway(inner)
	w.do(err)
	w.Cleanup(func() { w.Gateway.stop() })
	w.StorageLink = w.link(w.Gateway.addr)
	w.storage = "http://" + w.StorageLink.Addr()
	w.do(w.Store.UseGateway(w.storage))
}

func (w *World) startMesos() {
	w.Helper()
	cfg := embeddedmesos.Config{
		Dir: filepath.Join(w.dir, "mesos"), Masters: w.cfg.Masters, Logger: w.log, Faults: w.cfg.Faults,
		Master: master.Config{
			HeartbeatInterval: 500 * time.Millisecond, AllocationInterval: 20 * time.Millisecond,
			AgentPingTimeout: AgentLost / 5, MaxAgentPingTimeouts: 5,
		},
		Agent: agent.Config{
			RegistrationBackoffFactor: 50 * time.Millisecond,
			UpdateRetryMin:            500 * time.Millisecond, UpdateRetryMax: 4 * time.Second,
			// Long, so that a loaded machine costs no executor.
			ExecutorReregistrationTimeout: 10 * time.Second,
		},
	}
	for range w.cfg.Agents {
		cfg.Agents = append(cfg.Agents, embeddedmesos.AgentConfig{Resources: []api.Resource{
			agent.Scalar("cpus", 4), agent.Scalar("mem", 2048), agent.Scalar("disk", 4096),
		}})
	}
	if w.cfg.Mesos != nil {
		w.cfg.Mesos(&cfg)
	}
	var err error
	w.Cluster, err = embeddedmesos.Start(w.Context(), cfg)
	w.do(err)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Cluster.Terminate(ctx); err != nil {
			w.Error(err)
		}
		w.Cluster.Stop()
		w.reap()
	})
}

// connect makes the test's own clients.
func (w *World) connect() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), harness.Patience)
	defer cancel()
	var err error
	w.Client, err = client.DialContext(ctx, client.Options{
		HostPort: w.clean.Addr(), Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	w.do(err)
	w.Cleanup(w.Client.Close)
	w.Runs = starter.New(starter.Config{Temporal: w.Client, Store: w.Store, Catalog: catalog.Catalog{}, ReadLive: mesos.ReadFile})
}

func (w *World) startWorkers() {
	w.Helper()
	binary := harness.Executor(w)
	digest, err := harness.Digest(binary)
	w.do(err)
	for i := range w.cfg.Workers {
		v := &Worker{Temporal: w.link(w.Temporal.Address())}
		links := map[string]string{}
		for _, base := range w.Cluster.MasterURLs() {
			u, err := url.Parse(base)
			w.do(err)
			link := w.link(u.Host)
			v.Masters = append(v.Masters, link)
			links[u.Host] = link.Addr()
		}
		v.Store.dir = filepath.Join(w.dir, fmt.Sprintf("control-%d", i))
		w.do(os.Mkdir(v.Store.dir, 0o700))
		raw, err := json.Marshal(links)
		w.do(err)
		cfg := harness.WorkerConfig{
			Role: Role, Name: string(rune('a' + i)),
			Temporal: v.Temporal.Addr(), Namespace: client.DefaultNamespace,
			Storage: w.Store.Dir(), Gateway: w.storage,
			Masters: w.Cluster.MasterURLs(), Executor: binary, ExecutorSHA256: digest,
			Lease: Lease, Heartbeat: Heartbeat, Timings: timings(),
			Options: map[string]string{optionLinks: string(raw), optionControl: v.Store.dir},
		}
		if w.cfg.OwnGateways {
			cfg.Gateway = ""
		}
		if w.cfg.Worker != nil {
			w.cfg.Worker(&cfg)
		}
		v.Worker = harness.NewWorker(w, cfg)
		w.Workers = append(w.Workers, v)
		w.do(v.Launch())
	}
	for _, v := range w.Workers {
		w.do(v.Await(nil))
	}
}

// timings are the framework's paces, in proportion to the World's time limits.
func timings() mesos.Timings {
	return mesos.Timings{
		Dial: 2 * time.Second, Call: 4 * time.Second, BackoffMax: time.Second, Refuse: time.Second,
		AvoidPatience: 2 * time.Second, ReconcileMin: 300 * time.Millisecond, ReconcileMax: 3 * time.Second,
		Implicit: 5 * time.Second, Staging: 5 * time.Second, KillMin: 500 * time.Millisecond, KillMax: 3 * time.Second,
	}
}

// reap ends what a failed test may have left behind.
func (w *World) reap() {
	for _, p := range w.processes() {
		p.Kill()
	}
}
