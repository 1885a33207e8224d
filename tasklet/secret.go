package tasklet

import (
	"fmt"
	"regexp"
	"strings"
)

// EnvSecrets is the directory of the secrets that a step takes as files.
const EnvSecrets = "BAAS_SECRETS"

// Secret is one secret of a step: where it comes from, and what the command finds
// it under. It never holds the value.
type Secret struct {
	// Name of the environment variable. It holds the value, or with File the path
	// of a file with the value: BAAS_SECRETS/<name>.
	Name string `json:"name"`
	File bool   `json:"file,omitempty"`
	// Ref is a SecretRef as text. The leader alone needs it; launch data has none.
	Ref string `json:"from,omitempty"`
}

// SecretRef names a secret with its provider: a path whose first part is, unless
// the operator allows more, the owner's name, and a field of what lies there.
type SecretRef struct {
	Path  string // parts separated by "/"
	Field string // may be empty: the provider decides what that means
}

// MaxSecretRef bounds the text of a SecretRef, in bytes.
const MaxSecretRef = 255

var secretRefPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*(?:#[A-Za-z0-9][A-Za-z0-9._-]*)?$`)

// ParseSecretRef reads "path/of/it#field". Each part begins with a letter or a
// digit, so none leads out of a directory.
func ParseSecretRef(s string) (SecretRef, error) {
	if len(s) > MaxSecretRef || !secretRefPattern.MatchString(s) {
		return SecretRef{}, fmt.Errorf("%.80q names no secret: write path#field, such as billing/db#password, "+
			"each part of letters, digits, '.', '_' and '-', with a letter or a digit first", s)
	}
	path, field, _ := strings.Cut(s, "#")
	return SecretRef{path, field}, nil
}

// String gives what ParseSecretRef reads.
func (r SecretRef) String() string {
	if r.Field == "" {
		return r.Path
	}
	return r.Path + "#" + r.Field
}

// MaxSecrets bounds the values of all secrets of one step together, in bytes.
const MaxSecrets = 256 << 10
