package swift

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/baas-batch/baas/storage"
)

// Options say where the objects are. Open makes them from a URL; who we are comes
// from the environment or from clouds.yaml.
type Options struct {
	Container string
	Prefix    string // of all keys, without the slash at its end; may be empty

	Cloud  string // of clouds.yaml; empty: OS_CLOUD, or else the variables OS_* and ST_*
	Region string // empty: the cloud's or the environment's
	CAFile string // PEM, beside the system's

	PartSize int64 // bytes of the first segments of an upload; 0: 8 MiB
}

// The limits of Swift (its documentation, "Static Large Objects", and /info).
const (
	minPartSize     = 1 // bytes
	maxPartSize     = 5 << 30
	defaultPartSize = 8 << 20
	perManifest     = 1000
	// maxParts takes two levels of manifests.
	maxParts = 10_000
)

var parameters = map[string]func(o *Options, value string) error{
	"cloud":  func(o *Options, v string) error { o.Cloud = v; return nil },
	"region": func(o *Options, v string) error { o.Region = v; return nil },
	"ca":     func(o *Options, v string) error { o.CAFile = v; return nil },
	"part_size": func(o *Options, v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		o.PartSize = n << 20
		if err != nil || n < 1 || n > maxPartSize>>20 {
			return fmt.Errorf("%q is no size: want a number of MiB from 1 to %d", v, maxPartSize>>20)
		}
		return nil
	},
}

// ParseURL reads swift://CONTAINER/PREFIX?cloud=….
func ParseURL(u *url.URL) (Options, error) {
	o := Options{Container: u.Host, Prefix: strings.Trim(u.Path, "/")}
	if o.Container == "" || u.Port() != "" {
		return o, errors.New("want swift://CONTAINER or swift://CONTAINER/PREFIX; the address is that of OS_AUTH_URL or of clouds.yaml")
	}
	if u.User != nil {
		return o, errors.New("credentials do not belong into the URL: set OS_USERNAME and OS_PASSWORD, or name a cloud of clouds.yaml")
	}
	if o.Prefix != "" {
		if err := storage.CheckKey(o.Prefix); err != nil {
			return o, fmt.Errorf("prefix: %w", err)
		}
	}
	return o, storage.Parameters(u, parameters, &o)
}
