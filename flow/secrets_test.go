package flow

import (
	"reflect"
	"strings"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

func TestSecrets(t *testing.T) {
	f, err := Parse("f.yaml", []byte(`
name: f
defaults: {secrets: {TOKEN: billing/api#token, KEY: billing/key}}
steps:
  plain: {run: x}
  own:
    run: x
    secrets:
      KEY: {from: billing/tls/v1.2#key_pem, as: file}
      PIN: {from: billing/pin, as: variable}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	token := tasklet.Secret{Name: "TOKEN", Ref: "billing/api#token"}
	want := map[string][]tasklet.Secret{
		"plain": {token, {Name: "KEY", Ref: "billing/key"}},
		"own":   {token, {Name: "KEY", Ref: "billing/tls/v1.2#key_pem", File: true}, {Name: "PIN", Ref: "billing/pin"}},
	}
	for id, secrets := range want {
		if s, _ := f.Step(id); !reflect.DeepEqual(s.Secrets, secrets) {
			t.Errorf("%s: %+v", id, s.Secrets)
		}
	}
}

func TestTooManySecrets(t *testing.T) {
	var b strings.Builder
	for i := range MaxSecrets + 1 {
		b.WriteString(" S" + strings.Repeat("I", i) + ": a/b#c,")
	}
	src := "name: f\nsteps:\n  a:\n    run: x\n    secrets: {" + b.String() + "}\n"
	if _, err := Parse("f.yaml", []byte(src), Options{}); err == nil || !strings.Contains(err.Error(), "f.yaml:5:14: secrets: 51 of them, at most 50 are allowed") {
		t.Error(err)
	}
}
