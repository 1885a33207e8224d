package secrets

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

func ref(t *testing.T, text string) tasklet.SecretRef {
	t.Helper()
	r, err := tasklet.ParseSecretRef(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t *testing.T, address string, getenv Getenv) Provider {
	t.Helper()
	p, err := Open(address, getenv)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func variables(m map[string]string) Getenv {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func TestAddresses(t *testing.T) {
	token := variables(map[string]string{"VAULT_TOKEN": "t"})
	dir := t.TempDir()
	for _, address := range []string{
		"env://BAAS_SECRET_", "file://" + dir, "vault+https://vault:8200/secret", "vault+https://vault/team/kv?kv=1&namespace=a",
		"vault+http://127.0.0.1:8200/secret",
	} {
		if _, err := Open(address, token); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{
		"", "env://", "env://A B", "env://A/b", "file://host/dir", "file://" + dir + "/none", "file:relative",
		"vault+https://vault", "vault+https:///x", "vault+https://v/x?kv=3", "vault+https://v/x?tokenfile=y", "vault+http://vault/x",
		"vault+https://v/x?ca_file=/none", "vault+https://me:pass@v/x", "https://v/x", "://pass",
	} {
		if _, err := Open(address, token); err == nil || strings.Contains(err.Error(), "pass") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := Open("vault+https://v/x", variables(nil)); err == nil {
		t.Error("vault without a token")
	}
}

func TestEnv(t *testing.T) {
	p := open(t, "env://S_", variables(map[string]string{
		"S_BILLING__DB___PASSWORD": "one", "S_BILLING_DB__X": "two", "S_A": "",
	}))
	for text, want := range map[string]string{"billing/db#password": "one", "billing-db/x": "two"} {
		if got, err := p.Get(t.Context(), ref(t, text)); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	// No two refs share a variable, whoever owns them.
	for _, text := range []string{"billing/db/password", "billing_db/x", "Billing/db#password", "billing/db.x", "none/x"} {
		if got, err := p.Get(t.Context(), ref(t, text)); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("billing/db/password", "one\n", 0o600)
	write("billing/token", "two\n\n", 0o400)
	write("billing/loose", "three", 0o644)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "billing/link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "billing/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, "file://"+dir, nil)
	for text, want := range map[string]string{"billing/db#password": "one", "billing/db/password": "one", "billing/token": "two\n"} {
		if got, err := p.Get(t.Context(), ref(t, text)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for text, missing := range map[string]bool{
		"billing/db": true, "billing/none": true, "billing/token#x": true, "billing/pipe": true, // there is nothing to have
		"billing/loose": false, "billing/link": false, // the operator's to mend
	} {
		if got, err := p.Get(t.Context(), ref(t, text)); err == nil || errors.Is(err, ErrNotFound) != missing {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

func TestPolicy(t *testing.T) {
	p, err := ParsePolicy([]string{"billing=shared/smtp", "*=common/", "adhoc=sandbox", "root="})
	if err != nil {
		t.Fatal(err)
	}
	for owner, texts := range map[string][]string{
		"billing": {"billing/db#x", "billing#x", "shared/smtp#x", "common/a"},
		"adhoc":   {"sandbox/x"},
		"root":    {"anything/at#all"},
	} {
		for _, text := range texts {
			if !p.Allows(owner, ref(t, text)) {
				t.Errorf("%s may not have %s", owner, text)
			}
		}
	}
	for owner, texts := range map[string][]string{
		"billing": {"billing2/x", "billin/x", "shared/smtp2", "shared/x", "sandbox/x"},
		"adhoc":   {"adhoc/x", "common/a", "sandbox2/x"},
		"":        {"x/y", "common/a"},
		"*":       {"x/y"},
	} {
		for _, text := range texts {
			if p.Allows(owner, ref(t, text)) {
				t.Errorf("%q may have %s", owner, text)
			}
		}
	}
	for _, rule := range []string{"billing", "=x", "a/b=x", "a=../x", "a=x#y", "a=/x", "a=x y"} {
		if _, err := ParsePolicy([]string{rule}); err == nil {
			t.Errorf("rule %q is taken", rule)
		}
	}
}

type fakeProvider func(tasklet.SecretRef) ([]byte, error)

func (f fakeProvider) Get(_ context.Context, r tasklet.SecretRef) ([]byte, error) { return f(r) }

func TestKeeper(t *testing.T) {
	away := errors.New("does not answer")
	k := NewKeeper(fakeProvider(func(r tasklet.SecretRef) ([]byte, error) {
		switch r.Field {
		case "away":
			return nil, away
		case "empty":
			return nil, nil
		case "big":
			return make([]byte, MaxValue), nil
		case "bigger":
			return make([]byte, MaxValue+1), nil
		}
		return []byte("value of " + r.String()), nil
	}), nil)
	one := func(text string) []tasklet.Secret { return []tasklet.Secret{{Name: "A", Ref: text}} }
	got, err := k.Values(t.Context(), "billing", append(one("billing/db#x"), tasklet.Secret{Name: "B", Ref: "billing/y"}))
	if err != nil || string(got["A"]) != "value of billing/db#x" || string(got["B"]) != "value of billing/y" {
		t.Errorf("%q, %v", got, err)
	}
	var many []tasklet.Secret
	for _, name := range []string{"A", "B", "C", "D", "E"} {
		many = append(many, tasklet.Secret{Name: name, Ref: "billing/x#big"})
	}
	for name, c := range map[string]struct {
		keeper *Keeper
		owner  string
		list   []tasklet.Secret
		want   error
		final  bool
	}{
		"forbidden":    {k, "other", one("billing/db#x"), ErrForbidden, true},
		"adhoc":        {k, Adhoc, one("adhoc/x"), ErrForbidden, true},
		"no provider":  {nil, "billing", one("billing/x"), ErrNoProvider, true},
		"no ref":       {k, "billing", one("../x"), ErrNotFound, true},
		"empty":        {k, "billing", one("billing/x#empty"), ErrNotFound, true},
		"too big":      {k, "billing", one("billing/x#bigger"), ErrNotFound, true},
		"too many":     {k, "billing", many, ErrNotFound, true},
		"unreachable":  {k, "billing", one("billing/x#away"), away, false},
		"nothing need": {nil, "", nil, nil, false},
	} {
		values, err := c.keeper.Values(t.Context(), c.owner, c.list)
		if !errors.Is(err, c.want) || Final(err) != c.final || err != nil && values != nil {
			t.Errorf("%s: %v, %v", name, values, err)
		}
	}
}
