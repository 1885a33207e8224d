package cli

import (
	"context"
	"path"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/images"
	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/tasklet"
)

func imageFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "registry", Value: images.DefaultRegistry, Usage: "`HOST` of images that name none"},
		&urfave.StringFlag{Name: "registry-auth", Usage: "`SECRET` that is a Docker config.json (BAAS_REGISTRY_AUTH)"},
		&urfave.StringFlag{Name: "image-arch", Value: "amd64", Usage: "`NAME` of the agents' architecture"},
		&urfave.StringSliceFlag{Name: "allow-volume", Usage: "`OWNER=PATH[:rw]` an owner's containers may mount from agents"},
		&urfave.BoolFlag{Name: "unpinned-images", Usage: "leave tags as they are: tasks of one run may get different images"},
	}
}

// images makes what pins the images of runs; nil where they stay as they are.
func (p *Program) images(c *urfave.Context, keeper *secrets.Keeper) (*images.Pinner, error) {
	auth := p.flagOr(c, "registry-auth", "BAAS_REGISTRY_AUTH")
	if c.Bool("unpinned-images") {
		if auth != "" {
			return nil, usagef("--registry-auth is of no use with --unpinned-images: agents have credentials of their own")
		}
		return nil, nil
	}
	if err := images.CheckHost(c.String("registry")); err != nil {
		return nil, usagef("--registry %v", err)
	}
	config := images.Config{Default: c.String("registry"), Architecture: c.String("image-arch")}
	if auth != "" {
		ref, err := tasklet.ParseSecretRef(auth)
		if err != nil {
			return nil, usagef("--registry-auth: %v", err)
		}
		if keeper == nil {
			return nil, usagef("--registry-auth names a secret, and there is no provider: name it with --secrets")
		}
		config.Credentials = func(ctx context.Context) ([]byte, error) { return keeper.Get(ctx, ref) }
	}
	return images.New(config), nil
}

// volumes checks what owners may mount; see worker.Config.
func volumes(c *urfave.Context) ([]string, error) {
	rules := c.StringSlice("allow-volume")
	for _, rule := range rules {
		owner, where, _ := strings.Cut(rule, "=")
		where = strings.TrimSuffix(where, ":rw")
		if owner == "" || !path.IsAbs(where) || path.Clean(where) != where || where == "/" {
			return nil, usagef("--allow-volume %s: write OWNER=PATH or OWNER=PATH:rw, such as billing=/data/reference; not the whole file system", rule)
		}
	}
	return rules, nil
}
