package secrets

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vaultServer answers as the KV engines of Vault document it (api-docs/secret/kv).
func vaultServer(t *testing.T) *httptest.Server {
	t.Helper()
	answers := map[string]string{
		"/v1/secret/data/billing/db": `{"request_id":"1","lease_duration":0,"data":{"data":{"password":"hunter2","port":5432,"value":"plain","none":null},"metadata":{"version":3}}}`,
		"/v1/old/kv/billing/db":      `{"request_id":"1","lease_duration":2764800,"data":{"password":"older"}}`,
		"/v1/secret/data/billing/no": `not JSON hunter2`,
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet || r.Header.Get("X-Vault-Request") != "true":
			http.Error(w, `{"errors":["bad request"]}`, http.StatusBadRequest)
		case r.Header.Get("X-Vault-Token") != "s.token" || r.Header.Get("X-Vault-Namespace") != "team":
			http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
		case r.URL.Path == "/v1/secret/data/billing/sealed":
			http.Error(w, `{"errors":["Vault is sealed"]}`, http.StatusServiceUnavailable)
		case !strings.HasPrefix(r.URL.Path, "/v1/secret/") && !strings.HasPrefix(r.URL.Path, "/v1/old/kv/"):
			http.Error(w, `{"errors":["no handler for route"]}`, http.StatusNotFound)
		case answers[r.URL.Path] == "":
			http.Error(w, `{"errors":[]}`, http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(answers[r.URL.Path]))
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func caFile(t *testing.T, server *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVault(t *testing.T) {
	server := vaultServer(t)
	ca := caFile(t, server)
	tokens := filepath.Join(t.TempDir(), "token")
	token := func(text string) {
		t.Helper()
		if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token("s.token\n")
	host := "vault+" + server.URL
	two := open(t, host+"/secret?namespace=team&token_file="+tokens+"&ca_file="+ca, nil)
	one := open(t, host+"/old/kv?kv=1&namespace=team&ca_file="+ca, variables(map[string]string{"VAULT_TOKEN": "s.token"}))
	for _, c := range []struct {
		p    Provider
		ref  string
		want string
	}{
		{two, "billing/db#password", "hunter2"}, {two, "billing/db#port", "5432"}, {two, "billing/db", "plain"}, {one, "billing/db#password", "older"},
	} {
		if got, err := c.p.Get(t.Context(), ref(t, c.ref)); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.ref, got, err)
		}
	}
	for text, missing := range map[string]bool{
		"billing/none#x": true, "billing/db#none": true, "billing/db#other": true, "billing/sealed#x": false, "billing/no#x": false,
	} {
		got, err := two.Get(t.Context(), ref(t, text))
		if err == nil || errors.Is(err, ErrNotFound) != missing || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	lost := open(t, host+"/sercet?namespace=team&ca_file="+ca, variables(map[string]string{"VAULT_TOKEN": "s.token"}))
	if _, err := lost.Get(t.Context(), ref(t, "billing/db#password")); err == nil || Final(err) || !strings.Contains(err.Error(), "no KV engine at") {
		t.Errorf("an engine that is not there: %v", err)
	}
	// An agent has renewed the token, and then let it expire: the operator's trouble, not the step's.
	token("s.other")
	if _, err := two.Get(t.Context(), ref(t, "billing/db#password")); err == nil || Final(err) || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "s.other") {
		t.Error(err)
	}
	token("s.token")
	if _, err := two.Get(t.Context(), ref(t, "billing/db#password")); err != nil {
		t.Error(err)
	}
	server.Close()
	if _, err := two.Get(t.Context(), ref(t, "billing/db#password")); err == nil || Final(err) || strings.Contains(err.Error(), "s.token") {
		t.Error(err)
	}
}

// The token goes along to the active server, but never in clear over a network.
func TestVaultRedirects(t *testing.T) {
	server := vaultServer(t)
	var to string
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(standby.Close)
	p := open(t, "vault+"+standby.URL+"/secret?namespace=team&ca_file="+caFile(t, server), variables(map[string]string{"VAULT_TOKEN": "s.token"}))
	to = server.URL
	if got, err := p.Get(t.Context(), ref(t, "billing/db#password")); err != nil || string(got) != "hunter2" {
		t.Errorf("%q, %v", got, err)
	}
	asked := false
	away := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		asked = true
		return nil, errors.New("no network here")
	}}
	p.(*vault).client.Transport = through{"vault.example.com", away, p.(*vault).client.Transport}
	to = "http://vault.example.com:8200"
	if _, err := p.Get(t.Context(), ref(t, "billing/db#password")); err == nil || Final(err) || asked || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("asked in clear: %t; %v", asked, err)
	}
}

// through sends what is for one host another way.
type through struct {
	host         string
	there, other http.RoundTripper
}

func (t through) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() == t.host {
		return t.there.RoundTrip(r)
	}
	return t.other.RoundTrip(r)
}

// The token goes to no server whose certificate is not trusted.
func TestVaultWithUnknownCA(t *testing.T) {
	server := vaultServer(t)
	p := open(t, "vault+"+server.URL+"/secret", variables(map[string]string{"VAULT_TOKEN": "s.token"}))
	if _, err := p.Get(t.Context(), ref(t, "billing/db#password")); err == nil || Final(err) || !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}
