package secrets

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/baas-batch/baas/tasklet"
)

// env takes secrets from variables of the worker's environment.
type env struct {
	prefix string
	getenv Getenv
}

var prefixPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func newEnv(u *url.URL, getenv Getenv) (Provider, error) {
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || !prefixPattern.MatchString(u.Host) {
		return nil, errors.New("secrets: write env://PREFIX_ with the letters that the variables begin with")
	}
	return &env{u.Host, getenv}, nil
}

// plainPart is what variables can be told apart by: two refs never share one.
var plainPart = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// variable gives PREFIX_BILLING__DB___PASSWORD for billing/db#password: "-" is
// one underscore, "/" two, "#" three.
func (e *env) variable(ref tasklet.SecretRef) (string, bool) {
	parts := strings.Split(ref.Path, "/")
	if ref.Field != "" {
		parts = append(parts, ref.Field)
	}
	for _, p := range parts {
		if !plainPart.MatchString(p) {
			return "", false
		}
	}
	name := strings.NewReplacer("-", "_", "/", "__", "#", "___").Replace(ref.String())
	return e.prefix + strings.ToUpper(name), true
}

func (e *env) Get(_ context.Context, ref tasklet.SecretRef) ([]byte, error) {
	name, ok := e.variable(ref)
	if !ok {
		return nil, fmt.Errorf("%w: variables have names for small letters, digits and single hyphens only", ErrNotFound)
	}
	value, ok := e.getenv(name)
	if !ok {
		return nil, fmt.Errorf("%w: the worker's environment has no variable %s", ErrNotFound, name)
	}
	return []byte(value), nil
}
