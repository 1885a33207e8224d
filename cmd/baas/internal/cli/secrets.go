package cli

import (
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/baas-batch/baas/secrets"
)

// secretsFlags are those of commands that run a worker, for what owners may have.
func secretsFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "secrets", Usage: "`URL` of the provider of steps' secrets (BAAS_SECRETS_PROVIDER)"},
		&urfave.StringSliceFlag{Name: "allow-user", Usage: "`OWNER=USER` whom an owner's steps may run as"},
		&urfave.StringSliceFlag{Name: "secrets-allow", Usage: "`OWNER=PATH` an owner may read too (BAAS_SECRETS_ALLOW)"},
	}
}

// secrets opens the provider; nil when there is none.
func (p *Program) secrets(c *urfave.Context) (*secrets.Keeper, error) {
	rules := c.StringSlice("secrets-allow")
	if given := p.getenv("BAAS_SECRETS_ALLOW"); len(rules) == 0 && given != "" {
		rules = strings.Split(given, ",")
	}
	policy, err := secrets.ParsePolicy(rules)
	if err != nil {
		return nil, usagef("%v", err)
	}
	address := p.flagOr(c, "secrets", "BAAS_SECRETS_PROVIDER")
	if address == "" {
		if len(rules) > 0 {
			return nil, usagef("--secrets-allow without --secrets: name the provider, such as file:///etc/baas/secrets")
		}
		return nil, nil
	}
	provider, err := secrets.Open(address, func(name string) (string, bool) {
		value := p.getenv(name)
		return value, value != ""
	})
	if err != nil {
		return nil, usagef("%v", err)
	}
	return secrets.NewKeeper(provider, policy), nil
}

// users reads whom steps may run as.
func users(c *urfave.Context) ([]string, error) {
	rules := c.StringSlice("allow-user")
	for _, rule := range rules {
		if owner, user, _ := strings.Cut(rule, "="); owner == "" || user == "" || user == "root" {
			return nil, usagef("--allow-user %s: write OWNER=USER, such as billing=batch; never root", rule)
		}
	}
	return rules, nil
}
