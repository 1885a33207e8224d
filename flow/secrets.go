package flow

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/baas-batch/baas/tasklet"
)

// stepSecrets reads `secrets:` over what is there already.
//
//	secrets:
//	  DB_PASSWORD: bank/db#password            # in the variable
//	  TLS_KEY: {from: bank/tls#key, as: file}  # in a file that the variable names
func (d *document) stepSecrets(n *yaml.Node, weak []tasklet.Secret) []tasklet.Secret {
	out := slices.Clone(weak)
	d.entries(n, "secrets", "variable", func(name string, key, value *yaml.Node) {
		if strings.HasPrefix(name, "BAAS_") || strings.HasPrefix(name, "MESOS_") {
			d.node(key, fmt.Sprintf("secrets: %s is the platform's to set", name), "use another name")
			return
		}
		s := tasklet.Secret{Name: name}
		if !d.secretSource(&s, value) {
			return
		}
		if i := slices.IndexFunc(out, func(o tasklet.Secret) bool { return o.Name == name }); i >= 0 {
			out[i] = s
			return
		}
		out = append(out, s)
	})
	if len(out) > MaxSecrets {
		d.node(n, fmt.Sprintf("secrets: %d of them, at most %d are allowed", len(out), MaxSecrets), "")
		return nil
	}
	return out
}

// secretSource reads where a secret comes from, and how the command gets it.
func (d *document) secretSource(s *tasklet.Secret, n *yaml.Node) bool {
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		ref, ok := d.secretRef(n, "secret "+s.Name)
		s.Ref = ref
		return ok
	}
	given := false
	ok := d.fields(n, "secret "+s.Name, []field{
		{"from", func(n *yaml.Node) {
			var ok bool
			if s.Ref, ok = d.secretRef(n, "from"); ok {
				given = true
			}
		}},
		{"as", func(n *yaml.Node) {
			word, _ := d.oneOf(n, "as", []string{"file", "variable"})
			s.File = word == "file"
		}},
	})
	if ok && !d.has(n, "from") {
		d.node(n, fmt.Sprintf("secret %s does not say where it comes from", s.Name), "write from: path#field")
	}
	return given
}

func (d *document) secretRef(n *yaml.Node, what string) (string, bool) {
	text, ok := d.text(n, what)
	if !ok {
		return "", false
	}
	if strings.Contains(text, "${{") {
		d.node(n, what+": an expression cannot name a secret", "write path#field as it is")
		return "", false
	}
	if _, err := tasklet.ParseSecretRef(text); err != nil {
		d.node(n, fmt.Sprintf("%s: %q names no secret", what, clip(text)),
			"write path#field, such as billing/db#password, of letters, digits, '.', '_' and '-'")
		return "", false
	}
	return text, true
}

// secretsApart refuses a name that is a variable of env as well.
func (p *parser) secretsApart(d *draft, n *yaml.Node) {
	for _, e := range d.env {
		if slices.ContainsFunc(d.step.Secrets, func(s tasklet.Secret) bool { return s.Name == e.name }) {
			p.node(n, fmt.Sprintf("step %q: %s is both a secret and a variable of env", d.step.ID, e.name), "rename one of them")
		}
	}
}
