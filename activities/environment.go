package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/images"
)

// ImagePinner gives the name of an image with its digest. An error that
// images.Final knows is final.
type ImagePinner interface {
	Pin(ctx context.Context, name string) (string, error)
}

// registryPatience is how long a run that starts waits for a registry that does
// not answer, before it fails.
const registryPatience = 2 * time.Minute

// pin asks for the digests of all images that a flow names, each once.
func (p *Preparer) pin(ctx context.Context, f *flow.Flow) (map[string]string, error) {
	if p.Images == nil {
		return nil, nil
	}
	pinned := make(map[string]string)
	for _, step := range slices.Concat(f.Steps, f.OnExit) {
		if step.Image == "" || pinned[step.Image] != "" {
			continue
		}
		name, err := p.Images.Pin(ctx, step.Image)
		switch {
		case images.Final(err):
			return nil, invalid(fmt.Errorf("step %s: %w", step.ID, err))
		case err != nil && time.Since(activity.GetInfo(ctx).ScheduledTime) > registryPatience:
			return nil, temporal.NewNonRetryableApplicationError(
				fmt.Sprintf("step %s: its image cannot be pinned to a digest: %v", step.ID, err), "RegistryUnreachable", nil)
		case err != nil:
			return nil, fmt.Errorf("step %s: %w", step.ID, err) // tried again
		}
		pinned[step.Image] = name
	}
	return pinned, nil
}

// checkUser tells whether the steps of an owner may run as a user of the agents'.
// The rules are OWNER=USER; "*" stands for all owners. What runs as a user may read
// what that user may, on every agent, so nobody may unless the operator says so.
func checkUser(rules []string, owner, user string) error {
	if user == "" || slices.Contains(rules, owner+"="+user) || slices.Contains(rules, "*="+user) {
		return nil
	}
	return fmt.Errorf("owner %q may not run tasks as user %q: the workers' --allow-user does not name it", owner, user)
}

// checkVolumes tells whether an owner may have volumes, by rules OWNER=PATH[:rw]:
// whatever lies at or below PATH, for reading alone where the rule does not end in
// ":rw". "*" is every owner. Without a rule nobody may mount anything.
func checkVolumes(rules []string, owner string, volumes []flow.Volume) error {
	for _, v := range volumes {
		if !slices.ContainsFunc(rules, func(rule string) bool { return mayMount(rule, owner, v) }) {
			how := "mount"
			if v.Write {
				how = "mount for writing"
			}
			return fmt.Errorf("owner %q may not %s %s: the workers' --allow-volume does not name it", owner, how, v.Host)
		}
	}
	return nil
}

func mayMount(rule, owner string, v flow.Volume) bool {
	who, where, _ := strings.Cut(rule, "=")
	where, writable := strings.CutSuffix(where, ":rw")
	return (who == owner || who == "*") && (writable || !v.Write) && (v.Host == where || strings.HasPrefix(v.Host, where+"/"))
}
