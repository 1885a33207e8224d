package masters

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/mesos"
)

// Who is not let in learns why, and what to mend; Run ends, since it will not get
// better by itself.
func TestRefusals(t *testing.T) {
	c := cluster(t, func(cfg *embeddedmesos.Config) {
		cfg.Master.Credentials = map[string]string{"batch": "s3cret", "guest": "s4cret"}
		cfg.Master.Roles = map[string][]string{"guest": {"guests"}}
	})
	as := func(principal, secret string, roles ...string) func(*mesos.Config) {
		return func(cfg *mesos.Config) { cfg.Principal, cfg.Secret, cfg.Roles = principal, secret, roles }
	}
	for _, r := range []struct {
		name   string
		change func(*mesos.Config)
		says   []string
	}{
		{"no credentials", as("", ""), []string{"lets nobody in without credentials", "--credentials"}},
		{"no secret", as("batch", ""), []string{"lets nobody in without credentials"}},
		{"wrong secret", as("batch", "hidden"), []string{`principal "batch"`, "--credentials"}},
		{"unknown principal", as("batsch", "s3cret"), []string{`principal "batsch"`, "--credentials"}},
		{"role", as("guest", "s4cret", "bank"), []string{`principal "guest"`, "roles bank", "register_frameworks", "--acls"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := subscribe(t, c.MasterURL(), r.change)
			err := s.awaitEnd()
			if !errors.Is(err, mesos.ErrRefused) {
				t.Fatalf("the framework ends with %v", err)
			}
			for _, words := range r.says {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("error does not say %q: %v", words, err)
				}
			}
			if all := err.Error() + s.log.String(); strings.Contains(all, "hidden") || strings.Contains(all, "s3cret") || strings.Contains(all, "s4cret") {
				t.Errorf("a secret is told: %s", all)
			}
		})
	}
	subscribe(t, c.MasterURL(), as("batch", "s3cret")).await()
	subscribe(t, c.MasterURL(), as("guest", "s4cret", "guests/day")).await()
}

func TestReadCredentials(t *testing.T) {
	for _, c := range []struct{ text, principal, secret, says string }{
		{"batch s3cret\n", "batch", "s3cret", ""},
		{`{"principal": "batch", "secret": "s 3"}`, "batch", "s 3", ""},
		{"\n {\"secret\": \"x\", \"principal\": \"p\"}\n", "p", "x", ""},
		{"batch", "", "", "not 1 words"},
		{"batch hidden more", "", "", "not 3 words"},
		{"", "", "", "not 0 words"},
		{`{"principal": "batch", "secret": hidden}`, "", "", `want {"principal"`},
		{`{"principal": "batch", "password": "hidden"}`, "", "", `want {"principal"`},
	} {
		path := filepath.Join(t.TempDir(), "credential")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		principal, secret, err := mesos.ReadCredentials(path)
		if principal != c.principal || secret != c.secret || (err == nil) != (c.says == "") {
			t.Errorf("%q: %q, %q, %v", c.text, principal, secret, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hidden")) {
			t.Errorf("%q: error is %v", c.text, err)
		}
	}
	if _, _, err := mesos.ReadCredentials(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}
