package swift

import (
	"net/url"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

// Options say where the objects are. Open makes them from a URL; who we are comes
// from the environment or from clouds.yaml.
type Options struct {
	Container string
	Prefix    string // of all keys, without the slash at its end; may be empty

	Cloud  string // of clouds.yaml; empty: OS_CLOUD, or else the variables OS_* and ST_*
	Region string // empty: the cloud's or the environment's
	CAFile string // PEM, beside the system's

	PartSize int64 // bytes of the first segments of an upload; 0: 6 MiB
}

// The limits of Swift (its documentation, "Static Large Objects", and /info).
const (
	minPartSize = 1 // bytes
	maxPartSize = 5 << 30
	perManifest = 1000
	// maxParts takes two levels of manifests.
	maxParts = 10_000
)

var parameters = map[string]func(o *Options, value string) error{
	"cloud":  func(o *Options, v string) error { o.Cloud = v; return nil },
	"region": func(o *Options, v string) error { o.Region = v; return nil },
	"ca":     func(o *Options, v string) error { o.CAFile = v; return nil },
	"part_size": func(o *Options, v string) (err error) {
		o.PartSize, err = remote.PartSize(v, minPartSize, maxPartSize)
		return err
	},
}

// ParseURL reads swift://CONTAINER/PREFIX?cloud=….
func ParseURL(u *url.URL) (Options, error) {
	var o Options
	var err error
	o.Container, o.Prefix, err = remote.Place(u,
		"swift://CONTAINER or swift://CONTAINER/PREFIX; the address is that of OS_AUTH_URL or of clouds.yaml",
		"set OS_USERNAME and OS_PASSWORD, or name a cloud of clouds.yaml")
	if err != nil {
		return o, err
	}
	return o, storage.Parameters(u, parameters, &o)
}
