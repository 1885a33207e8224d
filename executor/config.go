package executor

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"time"

	mesostime "github.com/mesos/mesos-go/api/v1/lib/time"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

// Config is what the agent tells an executor through its environment
// (Mesos, docs/executor-http-api.md).
type Config struct {
	FrameworkID string
	ExecutorID  string
	Directory   string // the sandbox as the agent's /files endpoints know it
	Sandbox     string // the sandbox as this process sees it
	AgentURL    string // of the executor API
	Token       string // authentication token, or ""
	CAFile      string // for an agent that speaks TLS
	VerifyTLS   bool
	// StorageRoots are what certificates of storage are checked against; nil: the
	// system's.
	StorageRoots *x509.CertPool

	Checkpoint      bool          // the framework checkpoints: outlive the agent
	RecoveryTimeout time.Duration // how long to wait for an agent that is away
	ShutdownGrace   time.Duration // from SHUTDOWN until the agent destroys the container

	// CacheSize bounds the copies of inputs and outputs that are kept for later
	// tasks, in bytes; 0: none, AutoCache: see there.
	CacheSize int64

	Path string // PATH of the tasks
	Lang string // LANG of the tasks

	Tuning Tuning
}

// Tuning holds the paces and bounds of an executor. DefaultTuning is right
// outside tests.
type Tuning struct {
	SubscribeWait    time.Duration // shortest pause between two tries to subscribe; the longest is twice that
	CallTimeout      time.Duration // of one call to the agent
	WatchdogFloor    time.Duration // shortest silence that the watchdog takes for a dead stream
	RunningAfter     time.Duration // a task that ends sooner after its start sends no TASK_RUNNING
	MeterFast        time.Duration // between two samples near the memory limit
	MeterSlow        time.Duration // between two samples otherwise
	DiskEvery        time.Duration
	CheckpointEvery  time.Duration
	ProgressEvery    time.Duration
	Stall            time.Duration // a transfer without progress for so long has failed
	RenewAfter       time.Duration // a URL that fails for so long is renewed
	AskEvery         time.Duration // first pause before a request is repeated
	BackoffMax       time.Duration
	DefaultGrace     time.Duration // where Launch.Limits has none
	DefaultLog       int64         // bytes kept of a log where Launch.Limits has no bound
	LogBudget        int64         // bytes of logs of finished tasks that stay in the sandbox
	MaxBundle        int64         // bytes of an unpacked bundle, checkpoint or small directory
	MaxBundleEntries int
	MaxTree          int   // entries of a directory
	SplitDownload    int64 // bytes from which on a file is fetched in parts, side by side
	DownloadPart     int64 // bytes of such a part
	MinCached        int64 // bytes from which on a file is worth its place in the cache
	IdleBundles      int   // unused bundles that are kept
	SinglePut        int64 // bytes up to which an object goes up in one PUT
}

// archive bounds what is unpacked.
func (t Tuning) archive() tree.Bounds {
	return tree.Bounds{Bytes: t.MaxBundle, Entries: t.MaxBundleEntries}
}

// tree bounds a directory that is stored file by file.
func (t Tuning) tree() tree.Bounds {
	return tree.Bounds{Bytes: tree.MaxBytes, Entries: t.MaxTree}
}

// DefaultTuning gives the values used in production.
func DefaultTuning() Tuning {
	return Tuning{
		SubscribeWait:    250 * time.Millisecond,
		CallTimeout:      30 * time.Second,
		WatchdogFloor:    15 * time.Second,
		RunningAfter:     100 * time.Millisecond,
		MeterFast:        100 * time.Millisecond,
		MeterSlow:        250 * time.Millisecond,
		DiskEvery:        2 * time.Second,
		CheckpointEvery:  400 * time.Millisecond,
		ProgressEvery:    time.Second,
		Stall:            20 * time.Second,
		RenewAfter:       3 * time.Second,
		AskEvery:         2 * time.Second,
		BackoffMax:       15 * time.Second,
		DefaultGrace:     10 * time.Second,
		DefaultLog:       64 << 20,
		LogBudget:        512 << 20,
		MaxBundle:        8 << 30,
		MaxBundleEntries: 200_000,
		MaxTree:          tree.MaxEntries,
		SplitDownload:    64 << 20,
		DownloadPart:     16 << 20,
		MinCached:        64 << 10,
		IdleBundles:      3,
		SinglePut:        0, // tasklet.MaxSinglePut
	}
}

// FromEnv reads the environment that an agent gives to its executors. All that
// is missing or malformed is reported at once.
func FromEnv(getenv func(string) string) (Config, error) {
	var errs []error
	required := func(name string) string {
		v := getenv(name)
		if v == "" {
			errs = append(errs, fmt.Errorf("%s is not set", name))
		}
		return v
	}
	duration := func(name string, fallback time.Duration) time.Duration {
		v := getenv(name)
		if v == "" {
			return fallback
		}
		d, err := mesostime.ParseDuration(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return d
	}
	flag := func(name string) bool {
		v := getenv(name)
		if v == "" {
			return false
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return b
	}
	scheme := "http"
	if flag("LIBPROCESS_SSL_ENABLED") {
		scheme = "https"
	}
	c := Config{
		FrameworkID:     required("MESOS_FRAMEWORK_ID"),
		ExecutorID:      required("MESOS_EXECUTOR_ID"),
		Directory:       required("MESOS_DIRECTORY"),
		Sandbox:         getenv("MESOS_SANDBOX"),
		AgentURL:        scheme + "://" + required("MESOS_AGENT_ENDPOINT") + "/api/v1/executor",
		Token:           getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
		CAFile:          getenv("LIBPROCESS_SSL_CA_FILE"),
		VerifyTLS:       flag("LIBPROCESS_SSL_VERIFY_CERT") || flag("LIBPROCESS_SSL_VERIFY_SERVER_CERT"),
		Checkpoint:      flag("MESOS_CHECKPOINT"),
		RecoveryTimeout: duration("MESOS_RECOVERY_TIMEOUT", 15*time.Minute),
		ShutdownGrace:   duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", 5*time.Second),
		CacheSize:       cacheSize(getenv(tasklet.EnvCacheSize), &errs),
		Path:            getenv("PATH"),
		Lang:            getenv("LANG"),
		Tuning:          DefaultTuning(),
	}
	if pem := getenv(tasklet.EnvStorageCA); pem != "" {
		var err error
		if c.StorageRoots, err = x509.SystemCertPool(); err != nil {
			c.StorageRoots = x509.NewCertPool() // an image without any
		}
		if !c.StorageRoots.AppendCertsFromPEM([]byte(pem)) {
			errs = append(errs, fmt.Errorf("%s holds no certificate in PEM form", tasklet.EnvStorageCA))
		}
	}
	if c.Sandbox == "" {
		c.Sandbox = c.Directory
	}
	if c.Path == "" {
		c.Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	if c.Lang == "" {
		c.Lang = "C.UTF-8"
	}
	if len(errs) > 0 {
		return Config{}, fmt.Errorf("environment of the executor: %w", errors.Join(errs...))
	}
	return c, nil
}

// cacheSize reads a number of bytes; none is AutoCache.
func cacheSize(text string, errs *[]error) int64 {
	if text == "" {
		return AutoCache
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n < 0 {
		err = errors.New("a size is not negative")
	}
	if err != nil {
		*errs = append(*errs, fmt.Errorf("%s: %w", tasklet.EnvCacheSize, err))
	}
	return n
}
