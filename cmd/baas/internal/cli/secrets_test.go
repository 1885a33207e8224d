package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/baas-batch/baas/secrets"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
)

func TestSecretsOptions(t *testing.T) {
	list := []tasklet.Secret{{Name: "A", Ref: "bank/db#a"}}
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		want error
	}{
		"none":        {nil, nil, secrets.ErrNoProvider},
		"default":     {[]string{"--secrets", "env://S_"}, nil, secrets.ErrForbidden},
		"allowed":     {[]string{"--secrets", "env://S_", "--secrets-allow", "other=x", "--secrets-allow", "adhoc=bank"}, nil, nil},
		"environment": {nil, map[string]string{"BAAS_SECRETS_PROVIDER": "env://S_", "BAAS_SECRETS_ALLOW": "other=x,adhoc=bank"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t).withoutPlatform()
			for k, v := range c.env {
				b.env[k] = v
			}
			b.runs.list = func(starter.ListOptions) ([]starter.Summary, error) { return nil, nil }
			go func() {
				<-b.stdout.seen("Stop with Ctrl-C")
				b.interrupt <- struct{}{}
			}()
			b.expect(ExitDone, append([]string{"up", "--data", "/data"}, c.args...)...)
			if len(b.embedded) != 1 {
				t.Fatalf("%d platforms: %s", len(b.embedded), b.stderr.String())
			}
			if err := b.embedded[0].Secrets.Check("adhoc", list); !errors.Is(err, c.want) {
				t.Error(err)
			}
		})
	}
	for _, args := range [][]string{
		{"--secrets", "nothing://x"}, {"--secrets-allow", "adhoc=bank"}, {"--secrets", "env://S_", "--secrets-allow", "adhoc"},
	} {
		b := newBench(t)
		if code := b.run(append([]string{"up"}, args...)...); code != ExitUsage || !strings.Contains(b.stderr.String(), "secrets") {
			t.Errorf("%v: %d %s", args, code, b.stderr.String())
		}
	}
}
