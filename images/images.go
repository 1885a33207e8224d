// Package images pins container images: it asks a registry for the digest that a
// tag names now, so that all tasks of a run, also those of next week, get the same
// image.
package images

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Errors that asking again does not mend. Any other error of Pin means that the
// registry does not answer.
var (
	ErrNotFound = errors.New("there is no such image")
	ErrRefused  = errors.New("the registry refuses the platform's credentials, or wants some")
	// ErrUnusable: Mesos cannot pull it. Its containerizer reads Docker's manifest
	// (version 2, schema 2) of one platform, neither lists of platforms nor OCI's
	// manifests (src/uri/fetchers/docker.cpp of Mesos).
	ErrUnusable = errors.New("no image that Mesos can pull")
)

// Final tells whether asking again cannot help.
func Final(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrRefused) || errors.Is(err, ErrUnusable)
}

// Config of a Pinner.
type Config struct {
	// Default is the registry of names without one, which should be the agents'
	// --docker_registry; DefaultRegistry if empty.
	Default string
	// Architecture is that of the agents, as Go names it; "amd64" if empty.
	Architecture string
	// Credentials gives a Docker configuration file (config.json) with the
	// credentials of registries; nil for none. It is asked for each time.
	Credentials func(context.Context) ([]byte, error)
	// Client is for tests with certificates of their own.
	Client *http.Client
}

// DefaultRegistry is what Docker and Mesos take.
const DefaultRegistry = "registry-1.docker.io"

// pinTimeout bounds the questions about one image.
const pinTimeout = 30 * time.Second

// Pinner asks registries. It may be used by several goroutines.
type Pinner struct{ cfg Config }

// New makes a Pinner.
func New(cfg Config) *Pinner {
	if cfg.Default == "" {
		cfg.Default = DefaultRegistry
	}
	if cfg.Architecture == "" {
		cfg.Architecture = "amd64"
	}
	if cfg.Client == nil {
		cfg.Client = http.DefaultClient
	}
	return &Pinner{cfg}
}

const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// manifestTypes are all that a registry may have, so that what Mesos cannot pull is
// told from what is not there.
var manifestTypes = []string{
	dockerManifest, "application/vnd.docker.distribution.manifest.list.v2+json",
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
}

// Pin gives the name of an image with the digest of its manifest in place of its
// tag. A name that has a digest stays as it is, and nobody is asked.
func (p *Pinner) Pin(ctx context.Context, name string) (string, error) {
	if strings.Contains(name, "@") {
		return name, nil
	}
	ref, base, err := p.reference(name)
	if err != nil {
		return "", fmt.Errorf("image %s: %w: %w", name, ErrNotFound, err)
	}
	ctx, cancel := context.WithTimeout(ctx, pinTimeout)
	defer cancel()
	repository := &remote.Repository{Reference: ref, PlainHTTP: local(ref.Registry), ManifestMediaTypes: manifestTypes}
	if repository.Client, err = p.client(ctx); err != nil {
		return "", fmt.Errorf("image %s: %w", name, err)
	}
	found, err := oras.Resolve(ctx, repository, ref.Reference, oras.ResolveOptions{
		TargetPlatform: &ocispec.Platform{OS: "linux", Architecture: p.cfg.Architecture},
	})
	if err != nil {
		return "", fmt.Errorf("image %s: %w", name, p.explain(ref.Registry, err))
	}
	if found.MediaType != dockerManifest {
		return "", fmt.Errorf("image %s: %w: its manifest is %s, and must be Docker's version 2, schema 2", name, ErrUnusable, found.MediaType)
	}
	return base + "@" + found.Digest.String(), nil
}

// CheckHost tells what is wrong with Config.Default: it is a host, with or without a
// port.
func CheckHost(host string) error {
	if err := (registry.Reference{Registry: host}).ValidateRegistry(); err != nil || host == "" {
		return fmt.Errorf("%q is no registry: write HOST or HOST:PORT, such as registry.example.com", host)
	}
	return nil
}

// reference reads [HOST[:PORT]/]REPOSITORY[:TAG]; base is the name without the tag.
func (p *Pinner) reference(name string) (ref registry.Reference, base string, err error) {
	base, tag := name, "latest"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		base, tag = name[:i], name[i+1:]
	}
	host, repository, ok := strings.Cut(base, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, repository = p.cfg.Default, base
	}
	switch host {
	case "docker.io", "index.docker.io":
		host = DefaultRegistry
	}
	if host == DefaultRegistry && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	ref = registry.Reference{Registry: host, Repository: repository, Reference: tag}
	return ref, base, ref.Validate()
}

// local tells whether a registry is on this machine, where Docker too speaks HTTP.
func local(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return name == "localhost" || net.ParseIP(name).IsLoopback()
}

func (p *Pinner) client(ctx context.Context) (*auth.Client, error) {
	c := &auth.Client{Client: p.cfg.Client, ClientID: "baas"}
	c.SetUserAgent("baas")
	if p.cfg.Credentials == nil {
		return c, nil
	}
	file, err := p.cfg.Credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("credentials of registries: %w", err)
	}
	defer clear(file)
	store, err := credentials.NewMemoryStoreFromDockerConfig(file)
	if err != nil { // whose text may quote the file
		return nil, fmt.Errorf("%w: the secret with the credentials is no Docker configuration file", ErrRefused)
	}
	c.Credential = credentials.Credential(store)
	return c, nil
}

// explain turns a registry's answer into one of our errors.
func (p *Pinner) explain(host string, err error) error {
	var answer *errcode.ErrorResponse
	switch {
	case errors.As(err, &answer) && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden}, answer.StatusCode):
		return fmt.Errorf("%w (%s answers %d)", ErrRefused, host, answer.StatusCode)
	case errors.As(err, &answer) && answer.StatusCode != http.StatusNotFound:
		return fmt.Errorf("registry %s answers %d", host, answer.StatusCode)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%w (%s)", ErrRefused, host)
	case errors.Is(err, errdef.ErrNotFound), errors.As(err, &answer):
		return fmt.Errorf("%w at %s for linux/%s", ErrNotFound, host, p.cfg.Architecture)
	case errors.Is(err, errdef.ErrUnsupported):
		return fmt.Errorf("%w: its manifest is of an unknown kind", ErrUnusable)
	}
	return fmt.Errorf("registry %s: %w", host, err)
}
