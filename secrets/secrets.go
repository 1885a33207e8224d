// Package secrets finds the values of secrets with the operator's provider (the
// worker's environment, a directory, or Vault), and decides which owner may have
// which. Nothing in it logs, caches or stores a value, and no error holds one.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/baas-batch/baas/tasklet"
)

var (
	// ErrNotFound: the provider has no such secret, for good.
	ErrNotFound = errors.New("there is no such secret")
	// ErrForbidden: the policy does not give this owner this secret.
	ErrForbidden = errors.New("the owner may not have this secret")
	// ErrNoProvider: the worker was started without one.
	ErrNoProvider = errors.New("the platform has no secrets: its workers were started without --secrets")
)

// Final tells whether asking again cannot help.
func Final(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrForbidden) || errors.Is(err, ErrNoProvider)
}

// MaxValue bounds one value, in bytes.
const MaxValue = 64 << 10

// Provider finds values. It may be used by several goroutines.
type Provider interface {
	// Get gives a value of 1 to MaxValue bytes. The error is ErrNotFound when
	// there is none; any other means that nobody knows now, and to ask again. No
	// error holds a value or a credential.
	Get(ctx context.Context, ref tasklet.SecretRef) ([]byte, error)
}

// Getenv looks a variable up, as os.LookupEnv does.
type Getenv func(name string) (string, bool)

// Open makes a provider from its URL: env://PREFIX_, file:///dir or
// vault+https://host/mount (see Vault).
func Open(address string, getenv Getenv) (Provider, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("secrets: the provider's address is not a URL") // it may hold a password
	}
	if u.User != nil {
		return nil, errors.New("secrets: credentials do not belong into the provider's address")
	}
	switch u.Scheme {
	case "env":
		return newEnv(u, getenv)
	case "file":
		return newDir(u)
	case "vault+https", "vault+http":
		return newVault(u, getenv)
	}
	return nil, fmt.Errorf("secrets: no provider is called %q: use env://PREFIX_, file:///dir or vault+https://host/mount", u.Scheme)
}

// Adhoc is the owner of flows that are run without registration. Unless a rule
// names it, it has no secrets.
const Adhoc = "adhoc"

// Everybody, as the owner of a rule, stands for all owners but Adhoc.
const Everybody = "*"

// Policy says which owner may read which prefixes beyond its own name's. The zero
// Policy gives the owner NAME what lies below NAME/, and Adhoc nothing.
type Policy map[string][]string

// ParsePolicy reads rules OWNER=PREFIX, one for each prefix: parts of a path, or
// nothing for everything. So "adhoc=" gives every secret to flows that anybody may
// start, which only a platform of one's own should.
func ParsePolicy(rules []string) (Policy, error) {
	p := make(Policy)
	for _, rule := range rules {
		owner, prefix, ok := strings.Cut(rule, "=")
		prefix = strings.TrimSuffix(prefix, "/")
		if _, err := tasklet.ParseSecretRef(owner); owner != Everybody && (err != nil || strings.ContainsAny(owner, "/#")) || !ok {
			return nil, fmt.Errorf("secrets: rule %q: write OWNER=PREFIX, such as billing=shared/smtp", rule)
		}
		if _, err := tasklet.ParseSecretRef(prefix); prefix != "" && (err != nil || strings.Contains(prefix, "#")) {
			return nil, fmt.Errorf("secrets: rule %q: %q is no path", rule, prefix)
		}
		p[owner] = append(p[owner], prefix)
	}
	return p, nil
}

// Allows tells whether an owner may read a secret.
func (p Policy) Allows(owner string, ref tasklet.SecretRef) bool {
	if owner == "" {
		return false
	}
	prefixes := slices.Clone(p[owner])
	if owner != Adhoc {
		prefixes = append(append(prefixes, owner), p[Everybody]...)
	}
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return prefix == "" || strings.HasPrefix(ref.Path, prefix+"/") || ref.Path == prefix
	})
}

// Keeper gives owners their secrets. A nil Keeper has no provider.
type Keeper struct {
	provider Provider
	policy   Policy
}

// NewKeeper makes a Keeper.
func NewKeeper(p Provider, policy Policy) *Keeper { return &Keeper{p, policy} }

// Check tells whether an owner may have all of a step's secrets, without looking
// for them. Its error is one that Final knows.
func (k *Keeper) Check(owner string, list []tasklet.Secret) error {
	for _, s := range list {
		ref, err := tasklet.ParseSecretRef(s.Ref)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		case k == nil || k.provider == nil:
			return ErrNoProvider
		case !k.policy.Allows(owner, ref):
			return fmt.Errorf("secret %s, for %s: %w: owner %q reads %s", ref, s.Name, ErrForbidden, owner, k.policy.reach(owner))
		}
	}
	return nil
}

// reach says for people what an owner may read.
func (p Policy) reach(owner string) string {
	prefixes := map[string]bool{}
	for _, prefix := range p[owner] {
		prefixes[prefix+"/"] = true
	}
	if owner != Adhoc {
		prefixes[owner+"/"] = true
		for _, prefix := range p[Everybody] {
			prefixes[prefix+"/"] = true
		}
	}
	if len(prefixes) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(prefixes)), ", ")
}

// Values finds all of a step's secrets, by name.
func (k *Keeper) Values(ctx context.Context, owner string, list []tasklet.Secret) (map[string][]byte, error) {
	if err := k.Check(owner, list); err != nil {
		return nil, err
	}
	values := make(map[string][]byte, len(list))
	size := 0
	for _, s := range list {
		ref, err := tasklet.ParseSecretRef(s.Ref)
		if err != nil {
			return nil, err
		}
		value, err := k.provider.Get(ctx, ref)
		if err == nil {
			err = checkValue(value)
		}
		if err != nil {
			return nil, fmt.Errorf("secret %s, for %s: %w", ref, s.Name, err)
		}
		if size += len(value); size > tasklet.MaxSecrets {
			return nil, fmt.Errorf("%w: the step's secrets have more than %d KiB together", ErrNotFound, tasklet.MaxSecrets>>10)
		}
		values[s.Name] = value
	}
	return values, nil
}

// Get finds a value for the platform itself, whoever owns it.
func (k *Keeper) Get(ctx context.Context, ref tasklet.SecretRef) ([]byte, error) {
	if k == nil || k.provider == nil {
		return nil, ErrNoProvider
	}
	value, err := k.provider.Get(ctx, ref)
	if err == nil {
		err = checkValue(value)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", ref, err)
	}
	return value, nil
}

func checkValue(v []byte) error {
	switch {
	case len(v) == 0:
		return fmt.Errorf("%w: it is empty", ErrNotFound)
	case len(v) > MaxValue:
		return fmt.Errorf("%w: it has over %d KiB", ErrNotFound, MaxValue>>10)
	}
	return nil
}

// noControl guards names that come from a configuration.
func noControl(s string) bool { return !strings.ContainsFunc(s, unicode.IsControl) }
