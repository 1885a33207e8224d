package secrets

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// vault reads the KV secrets engine of a Vault or OpenBao server by its HTTP API.
type vault struct {
	base      string // https://host:8200/v1/
	mount     string
	version   string // of the engine: "1" or "2"
	namespace string
	tokenFile string
	getenv    Getenv
	client    *http.Client
}

// vaultTimeout bounds one request.
const vaultTimeout = 10 * time.Second

// newVault reads vault+https://host[:port]/mount and its parameters:
//
//	kv=1           the engine's version, 2 if not given
//	token_file=F   read anew for each request, so that an agent may renew it;
//	               without it the variable VAULT_TOKEN is used
//	namespace=N    X-Vault-Namespace
//	ca_file=F      the CA that signed the server's certificate
//
// Plain http is for a server on the same machine: tokens would be seen.
func newVault(u *url.URL, getenv Getenv) (Provider, error) {
	query := u.Query()
	for name := range query {
		if !slices.Contains([]string{"kv", "token_file", "namespace", "ca_file"}, name) {
			return nil, fmt.Errorf("secrets: vault has no parameter %q", name)
		}
	}
	v := &vault{
		mount: strings.Trim(u.Path, "/"), version: query.Get("kv"), namespace: query.Get("namespace"),
		tokenFile: query.Get("token_file"), getenv: getenv,
	}
	if v.version == "" {
		v.version = "2"
	}
	scheme := strings.TrimPrefix(u.Scheme, "vault+")
	switch {
	case u.Host == "" || v.mount == "":
		return nil, errors.New("secrets: write vault+https://host:port/mount")
	case v.version != "1" && v.version != "2":
		return nil, fmt.Errorf("secrets: vault: kv=%s: the engine's version is 1 or 2", v.version)
	case scheme == "http" && !local(u):
		return nil, errors.New("secrets: vault+http is for this machine only; use vault+https")
	}
	if _, err := v.token(); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}
	if file := query.Get("ca_file"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("secrets: vault: CA file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("secrets: vault: %s holds no certificate", file)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	v.base = scheme + "://" + u.Host + "/v1/"
	v.client = &http.Client{
		Transport: transport, Timeout: vaultTimeout,
		// A standby sends to the active server, and the token goes along as it does
		// with Vault's own clients, but never in clear.
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			inClear := r.URL.Scheme != "https" && (scheme == "https" || !local(r.URL))
			if inClear || len(via) > 2 {
				return errors.New("a redirect that is not followed")
			}
			return nil
		},
	}
	return v, nil
}

func local(u *url.URL) bool {
	return slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname())
}

func (v *vault) token() (string, error) {
	if v.tokenFile == "" {
		if token, ok := v.getenv("VAULT_TOKEN"); ok && token != "" {
			return token, nil
		}
		return "", errors.New("vault: no token: set VAULT_TOKEN or give token_file=FILE")
	}
	data, err := os.ReadFile(v.tokenFile)
	if err != nil {
		return "", fmt.Errorf("vault: token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || !noControl(token) {
		return "", fmt.Errorf("vault: %s holds no token", v.tokenFile)
	}
	return token, nil
}

// Get reads the newest version of a secret and takes one field of it; without a
// field the one that is called "value".
func (v *vault) Get(ctx context.Context, ref tasklet.SecretRef) ([]byte, error) {
	body, err := v.read(ctx, ref)
	if err != nil {
		return nil, err
	}
	fields, err := v.fields(body)
	if err != nil {
		return nil, err
	}
	name := ref.Field
	if name == "" {
		name = "value"
	}
	raw, ok := fields[name]
	if !ok || string(raw) == "null" {
		return nil, fmt.Errorf("%w: Vault's %s has no field %q", ErrNotFound, ref.Path, name)
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []byte(text), nil
	}
	return raw, nil // a number or an object, as JSON
}

// fields unpacks an answer: version 2 of the engine wraps the data once more.
func (v *vault) fields(body []byte) (map[string]json.RawMessage, error) {
	var one struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	var two struct {
		Data struct {
			Data map[string]json.RawMessage `json:"data"`
		} `json:"data"`
	}
	// The decoder's errors could quote the body.
	if v.version == "1" {
		if json.Unmarshal(body, &one) != nil {
			return nil, errors.New("vault: the answer is not what its KV engine sends")
		}
		return one.Data, nil
	}
	if json.Unmarshal(body, &two) != nil {
		return nil, errors.New("vault: the answer is not what version 2 of its KV engine sends; kv=1 for the older one")
	}
	return two.Data.Data, nil
}

// hasErrors tells a missing engine from a missing secret, for which the list of
// errors is empty.
func hasErrors(body []byte) bool {
	var answer struct {
		Errors []string `json:"errors"`
	}
	return json.Unmarshal(body, &answer) == nil && len(answer.Errors) > 0
}

// maxVaultAnswer bounds an answer, in bytes.
const maxVaultAnswer = 4 << 20

func (v *vault) read(ctx context.Context, ref tasklet.SecretRef) ([]byte, error) {
	token, err := v.token()
	if err != nil {
		return nil, err
	}
	path := v.mount + "/data/" + ref.Path
	if v.version == "1" {
		path = v.mount + "/" + ref.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+path, nil)
	if err != nil {
		return nil, errors.New("vault: the address cannot be asked")
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	if v.namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.namespace)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("vault does not answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxVaultAnswer))
	switch {
	case resp.StatusCode == http.StatusNotFound && hasErrors(body):
		// Nothing serves that path at all, which the operator mends.
		return nil, fmt.Errorf("vault has no KV engine at %s: correct the mount in --secrets (404)", v.mount)
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%w: Vault has nothing at %s", ErrNotFound, path)
	case resp.StatusCode == http.StatusForbidden:
		// The token's fault (expired, too narrow), which the operator mends.
		return nil, fmt.Errorf("vault refuses the platform's token for %s (403)", path)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("vault answers %d for %s", resp.StatusCode, path)
	case err != nil:
		return nil, fmt.Errorf("vault: the answer breaks off: %w", err)
	}
	return body, nil
}
