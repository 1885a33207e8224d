package swift_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

// Each way to log in, as the OpenStack tools have it; a token that has died is
// replaced without a restart.
func TestLogins(t *testing.T) {
	s := servers.StartSwift(t)
	container := s.Container(t, "container")
	identity := servers.StartIdentity(t, s)
	v3 := identity.URL + "/v3"
	user := map[string]string{
		"OS_USERNAME": servers.IdentityUser, "OS_PASSWORD": servers.IdentityPassword, "OS_PROJECT_NAME": servers.IdentityProject,
		"OS_USER_DOMAIN_NAME": servers.IdentityDomain, "OS_PROJECT_DOMAIN_NAME": servers.IdentityDomain,
		"OS_REGION_NAME": servers.IdentityRegion,
	}
	dir := t.TempDir()
	files := map[string]string{
		"clouds.yaml": fmt.Sprintf(`
clouds:
  whole: {auth: {auth_url: %[1]s, username: %[2]s, password: "%[3]s", project_name: %[4]s, user_domain_name: %[5]s, project_domain_name: %[5]s}, region_name: %[6]s}
  split: {auth: {auth_url: %[1]s, username: %[2]s, project_name: %[4]s, user_domain_name: %[5]s, project_domain_name: %[5]s}, region_name: %[6]s}
  credential: {auth_type: v3applicationcredential, auth: {auth_url: %[7]s, application_credential_id: "%[8]s", application_credential_secret: "%[9]s"}, region_name: %[6]s}
  old: {auth_type: v2password, auth: {auth_url: %[7]s/v2.0, username: %[2]s, password: "%[3]s", tenant_name: %[4]s}, region_name: %[6]s}
  v1: {auth_type: v1password, auth: {auth_url: %[10]s, username: "%[11]s", password: "%[12]s"}}
  south: {auth_type: v3applicationcredential, auth: {auth_url: %[1]s, application_credential_id: "%[8]s", application_credential_secret: "%[9]s"}, region_name: south}
`, v3, servers.IdentityUser, servers.IdentityPassword, servers.IdentityProject, servers.IdentityDomain, servers.IdentityRegion,
			identity.URL, servers.IdentityCredential, servers.IdentitySecret, s.AuthURL, s.User, s.Password),
		"secure.yaml": fmt.Sprintf("clouds: {split: {auth: {password: \"%s\"}}}\n", servers.IdentityPassword),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		authURL, cloud string
		env            map[string]string
		want           string // "" for v1, of which Swift itself knows
	}{
		"v3 password":               {authURL: v3, env: user, want: "v3 password"},
		"no version in the address": {authURL: identity.URL, env: user, want: "v3 password"},
		"v2 password":               {authURL: identity.URL + "/v2.0", env: user, want: "v2 password"},
		"application credential": {authURL: v3, want: "v3 application credential", env: map[string]string{
			"OS_APPLICATION_CREDENTIAL_ID": servers.IdentityCredential, "OS_APPLICATION_CREDENTIAL_SECRET": servers.IdentitySecret,
			"OS_REGION_NAME": servers.IdentityRegion,
		}},
		"application credential by name": {authURL: v3, want: "v3 application credential by name", env: map[string]string{
			"OS_APPLICATION_CREDENTIAL_NAME": servers.IdentityCredentialName, "OS_APPLICATION_CREDENTIAL_SECRET": servers.IdentitySecret,
			"OS_USERNAME": servers.IdentityUser, "OS_USER_DOMAIN_NAME": servers.IdentityDomain, "OS_REGION_NAME": servers.IdentityRegion,
		}},
		"clouds.yaml":                 {cloud: "whole", want: "v3 password"},
		"secure.yaml":                 {cloud: "split", want: "v3 password"},
		"clouds.yaml with credential": {cloud: "credential", want: "v3 application credential"},
		"clouds.yaml of v2":           {cloud: "old", want: "v2 password"},
		"clouds.yaml of v1":           {cloud: "v1"},
		"the URL's region first":      {cloud: "south&region=" + servers.IdentityRegion, want: "v3 application credential"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range os.Environ() {
				if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OS_") || strings.HasPrefix(name, "ST_") {
					t.Setenv(name, "")
				}
			}
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			url := container
			if t.Setenv("OS_AUTH_URL", c.authURL); c.cloud != "" {
				t.Setenv("OS_CLIENT_CONFIG_FILE", filepath.Join(dir, "clouds.yaml"))
				url += "?cloud=" + c.cloud
			}
			before := len(identity.Logins())
			var want []string
			if c.want != "" {
				identity.StaleOnce()
				want = []string{c.want, c.want}
			}
			store := storagetest.Open(t, url)
			for range 2 {
				if _, err := storage.PutBytes(t.Context(), store, "key", []byte("content")); err != nil {
					t.Fatal(err)
				}
			}
			if got := identity.Logins()[before:]; !slices.Equal(got, want) {
				t.Errorf("logged in by %v, want %v: a token that Swift does not take, and a good one", got, want)
			}
		})
	}
}
