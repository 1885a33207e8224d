package servers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Identity is a small identity service beside a Swift, of versions 2 and 3 as far as
// logins go. It hands out Swift's own tokens: a stand-in for Keystone.
type Identity struct {
	URL string // without version

	mu     sync.Mutex
	stale  bool
	logins []string
}

// What the one user of an Identity logs in with. The application credential is of the
// same project.
const (
	IdentityUser, IdentityPassword, IdentityProject, IdentityDomain = "ann", "ann's password", "batch", "Default"
	IdentityCredential, IdentityCredentialName, IdentitySecret      = "0a1b2c", "ann's credential", "ann's secret"
	IdentityRegion                                                  = "north"
)

// StartIdentity starts an identity service that knows Swift in IdentityRegion, and
// something else in another region.
func StartIdentity(t testing.TB, s *Swift) *Identity {
	t.Helper()
	i := &Identity{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/auth/tokens", i.answer(t, s, i.v3))
	mux.HandleFunc("POST /v2.0/tokens", i.answer(t, s, i.v2))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

// StaleOnce makes the next login give a token that Swift does not take.
func (i *Identity) StaleOnce() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stale = true
}

// Logins tells how each login was made.
func (i *Identity) Logins() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]string(nil), i.logins...)
}

// login is either version's request; the names do not clash.
type login struct {
	Auth struct {
		Identity struct {
			Methods  []string
			Password struct {
				User identityUser
			}
			Credential struct {
				ID, Name, Secret string
				User             identityUser
			} `json:"application_credential"`
		}
		Scope *struct {
			Project struct {
				Name   string
				Domain struct{ Name string }
			}
		}
		PasswordCredentials struct{ Username, Password string }
		TenantName          string
	}
}

type identityUser struct {
	Name, Password string
	Domain         struct{ Name string }
}

// answer is an endpoint of one version, of which kind tells by what a login is good,
// "" if it is not, and the answer.
func (i *Identity) answer(t testing.TB, s *Swift, version func(l login, token, storage string) (kind string, answer any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var l login
		if err := json.NewDecoder(r.Body).Decode(&l); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		own, err := s.call(r.Context(), http.MethodGet, s.AuthURL)
		if err != nil {
			t.Errorf("Swift's own login: %v", err)
			http.Error(w, "no token", http.StatusInternalServerError)
			return
		}
		token := own.Get("X-Auth-Token")
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.stale {
			token = fmt.Sprintf("AUTH_tk%032d", len(i.logins))
		}
		kind, answer := version(l, token, own.Get("X-Storage-Url"))
		if kind == "" {
			http.Error(w, "the request you have made requires authentication", http.StatusUnauthorized)
			return
		}
		i.stale = false
		i.logins = append(i.logins, kind)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Subject-Token", token)
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (i *Identity) v3(l login, _, storage string) (string, any) {
	type object = map[string]any
	kind, id := "", l.Auth.Identity
	switch own := (identityUser{Name: IdentityUser, Domain: struct{ Name string }{IdentityDomain}}); {
	case len(id.Methods) != 1:
	case id.Methods[0] == "password":
		own.Password = IdentityPassword
		if scope := l.Auth.Scope; id.Password.User == own && scope != nil && scope.Project.Name == IdentityProject && scope.Project.Domain.Name == IdentityDomain {
			kind = "v3 password"
		}
	case id.Methods[0] == "application_credential" && id.Credential.Secret == IdentitySecret && l.Auth.Scope == nil:
		if id.Credential.ID == IdentityCredential {
			kind = "v3 application credential"
		} else if id.Credential.Name == IdentityCredentialName && id.Credential.User == own {
			kind = "v3 application credential by name"
		}
	}
	endpoint := func(region, url string) object {
		return object{"interface": "public", "region": region, "region_id": region, "url": url}
	}
	return kind, object{"token": object{
		"expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "methods": id.Methods,
		"catalog": []object{
			{"type": "compute", "endpoints": []object{endpoint(IdentityRegion, "http://127.0.0.1:1/compute")}},
			{"type": "object-store", "endpoints": []object{
				endpoint("south", "http://127.0.0.1:1/v1/AUTH_south"), endpoint(IdentityRegion, storage),
			}},
		},
	}}
}

func (i *Identity) v2(l login, token, storage string) (kind string, answer any) {
	type object = map[string]any
	if c := l.Auth.PasswordCredentials; c.Username == IdentityUser && c.Password == IdentityPassword && l.Auth.TenantName == IdentityProject {
		kind = "v2 password"
	}
	return kind, object{"access": object{
		"token":          object{"id": token, "expires": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
		"serviceCatalog": []object{{"type": "object-store", "endpoints": []object{{"region": IdentityRegion, "publicURL": storage}}}},
	}}
}
