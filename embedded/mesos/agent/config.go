package agent

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Version is the version of Mesos whose behaviour the agent has.
const Version = "1.12.0"

// Config of one agent. Zero values stand for the defaults of the Mesos agent's
// flags, which the fields are named after.
type Config struct {
	// WorkDir takes sandboxes and checkpoints. One agent at a time may use it.
	// Where executors run as other users, they must be able to reach it.
	WorkDir string
	// Listen is host:port. Port 0 is a free one, but after a restart the one
	// that living executors know, if it can still be had. Default 127.0.0.1:0.
	Listen   string
	Hostname string // default: the host of Listen
	// Resources to offer, unreserved. Nil: those of the machine, or after a
	// restart those of before. They may grow from one start to the next, not
	// shrink (--reconfiguration_policy=additive), unless nothing was running.
	// GPUs are counted, not isolated.
	Resources  []mesos.Resource
	Attributes []mesos.Attribute
	Domain     *mesos.DomainInfo // region and zone; nil for none
	// Revocable scalars are offered beyond Resources, as those of an agent with a
	// resource estimator are, until Revoke takes them back.
	Revocable []mesos.Resource
	Logger    *slog.Logger // default: discards
	LogFile   string       // served as /slave/log; may be empty

	RecoveryTimeout               time.Duration // 15 min
	ExecutorRegistrationTimeout   time.Duration // 1 min
	ExecutorReregistrationTimeout time.Duration // 2 s
	ExecutorShutdownGracePeriod   time.Duration // 5 s
	RegistrationBackoffFactor     time.Duration // 1 s; doubles up to 1 min
	MasterPingTimeout             time.Duration // 75 s without a ping: registers anew
	UpdateRetryMin                time.Duration // 10 s; doubles
	UpdateRetryMax                time.Duration // 10 min
	ExecutorHeartbeat             time.Duration // 30 min
	GCDelay                       time.Duration // 1 week
	MemoryInterval                time.Duration // between two looks at a container's memory; 500 ms
	DiskInterval                  time.Duration // between two looks at the sandboxes' sizes; 15 s
	FetcherCacheSize              int64         // bytes; 2 GiB

	// EnforceDiskQuota destroys a container whose sandbox outgrows the disk of its
	// executor and tasks (--enforce_container_disk_quota, with the disk/du isolator).
	EnforceDiskQuota bool
	// Credentials maps principals to secrets. If there are any, /files and the
	// operator API ask for HTTP basic authentication (--authenticate_http_readonly,
	// --authenticate_http_readwrite).
	Credentials map[string]string
	// TLS, if set, serves https (LIBPROCESS_SSL_ENABLED). Executors are told to trust
	// the authority in the file TLSCA, an absolute path that they can read.
	TLS   *tls.Config
	TLSCA string
	// AuthenticateExecutors gives executors a token without which their calls
	// are refused (--authenticate_http_executors).
	AuthenticateExecutors bool
	// NoCgroups makes containers without a cgroup even where one can be had.
	NoCgroups bool
}

// ErrIncompatible tells that the configuration does not fit what runs in the
// work directory.
var ErrIncompatible = errors.New("configuration is incompatible with the running agent's")

func orDefault[T comparable](value *T, other T) {
	var zero T
	if *value == zero {
		*value = other
	}
}

func (c *Config) setDefaults() error {
	if c.WorkDir == "" {
		return errors.New("agent: no work directory")
	}
	dir, err := filepath.Abs(c.WorkDir)
	if err != nil {
		return err
	}
	c.WorkDir = dir
	orDefault(&c.Listen, "127.0.0.1:0")
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("agent: address to listen on: %w", err)
	}
	orDefault(&c.Hostname, host)
	orDefault(&c.Hostname, "localhost")
	orDefault(&c.Logger, slog.New(slog.DiscardHandler))
	orDefault(&c.RecoveryTimeout, 15*time.Minute)
	orDefault(&c.ExecutorRegistrationTimeout, time.Minute)
	orDefault(&c.ExecutorReregistrationTimeout, 2*time.Second)
	orDefault(&c.ExecutorShutdownGracePeriod, 5*time.Second)
	orDefault(&c.RegistrationBackoffFactor, time.Second)
	orDefault(&c.MasterPingTimeout, 75*time.Second)
	orDefault(&c.UpdateRetryMin, 10*time.Second)
	orDefault(&c.UpdateRetryMax, 10*time.Minute)
	orDefault(&c.ExecutorHeartbeat, 30*time.Minute)
	orDefault(&c.GCDelay, 7*24*time.Hour)
	orDefault(&c.MemoryInterval, 500*time.Millisecond)
	orDefault(&c.DiskInterval, 15*time.Second)
	orDefault(&c.FetcherCacheSize, 2<<30)
	return nil
}

// machineResources are what Mesos detects when no resources are given: it
// leaves 1 GB of memory and 5 GB of disk to others where there is plenty, else
// half (src/slave/containerizer/containerizer.cpp).
func machineResources(workDir string) []mesos.Resource {
	const mb, gb = 1 << 20, 1 << 30
	share := func(all, keep int64) float64 {
		if all > 2*keep {
			return float64((all - keep) / mb)
		}
		return float64(all / 2 / mb)
	}
	list := []mesos.Resource{Scalar("cpus", float64(runtime.NumCPU()))}
	list = append(list, Scalar("mem", share(machineMemory(), gb)))
	var fs unix.Statfs_t
	if unix.Statfs(workDir, &fs) == nil {
		list = append(list, Scalar("disk", share(int64(fs.Blocks)*fs.Bsize, 5*gb)))
	}
	return append(list, mesos.Resource{
		Name: "ports", Type: mesos.RANGES.Enum(),
		Ranges: &mesos.Value_Ranges{Range: []mesos.Value_Range{{Begin: 31000, End: 32000}}},
	})
}

// Scalar makes an unreserved scalar resource; mem and disk count in MB.
func Scalar(name string, value float64) mesos.Resource {
	return mesos.Resource{Name: name, Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: value}}
}

func machineMemory() int64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}
