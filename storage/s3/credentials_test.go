package s3_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

// role hands out the credentials of one user of the server after the other.
type role struct {
	mu    sync.Mutex
	user  string
	lives time.Duration
	file  string // that the user's name stands in, for a process
}

func (r *role) set(t *testing.T, user string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.user = user
	if err := os.WriteFile(r.file, []byte(user+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// credentials are those of the moment, in the form of the metadata service. They have no session token: the server knows none.
func (r *role) credentials() map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return map[string]any{
		"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time.Now().UTC().Format(time.RFC3339),
		"AccessKeyId": r.user, "SecretAccessKey": r.user,
		"Expiration": time.Now().Add(r.lives).UTC().Format(time.RFC3339),
	}
}

// metadata is the instance metadata service, version 2 (Amazon's documentation,
// "Retrieve security credentials from instance metadata").
func (r *role) metadata(w http.ResponseWriter, request *http.Request) {
	const session, path = "imds-session", "/latest/meta-data/iam/security-credentials/"
	switch {
	case request.Method == http.MethodPut && request.URL.Path == "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		fmt.Fprint(w, session)
	case request.Header.Get("X-Aws-Ec2-Metadata-Token") != session:
		http.Error(w, "no session", http.StatusUnauthorized)
	case request.URL.Path == path:
		fmt.Fprint(w, "batch-role")
	case request.URL.Path == path+"batch-role":
		_ = json.NewEncoder(w).Encode(r.credentials())
	default:
		http.NotFound(w, request)
	}
}

// sts answers AssumeRoleWithWebIdentity for the token that stands in a file.
func (r *role) sts(tokenFile string) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		token, err := os.ReadFile(tokenFile)
		if err != nil || request.FormValue("Action") != "AssumeRoleWithWebIdentity" || request.FormValue("WebIdentityToken") != string(token) {
			http.Error(w, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>", http.StatusBadRequest)
			return
		}
		c := r.credentials()
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, c["AccessKeyId"], c["SecretAccessKey"], c["Expiration"])
	}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// Credentials that change are taken without a restart; URLs that were signed with the
// old ones die with them.
func TestRotatedCredentials(t *testing.T) {
	server := servers.StartS3(t, nil)
	for name, c := range map[string]struct {
		lives time.Duration // the SDK renews those of a container five minutes early
		setUp func(t *testing.T, r *role) (parameters []string)
	}{
		"instance role": {2 * time.Second, func(t *testing.T, r *role) []string {
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", serve(t, r.metadata))
			return nil
		}},
		"container role": {5*time.Minute + 2*time.Second, func(t *testing.T, r *role) []string {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", serve(t, func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(r.credentials())
			}))
			return nil
		}},
		"web identity": {2 * time.Second, func(t *testing.T, r *role) []string {
			token := write(t, "token", "a signed token")
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/batch")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
			t.Setenv("AWS_ENDPOINT_URL_STS", serve(t, r.sts(token)))
			return nil
		}},
		"process of a profile": {2 * time.Second, func(t *testing.T, r *role) []string {
			script := write(t, "credentials", "#!/bin/sh\nread user <"+r.file+"\n"+
				`printf '{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"%s","Expiration":"%s"}' "$user" "$user" "$(date -u -d '+2 seconds' +%FT%TZ)"`)
			t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile batch]\ncredential_process = "+script+"\n"))
			return []string{"profile", "batch"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server.Credentials(t)
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			bucket := strings.ReplaceAll(name, " ", "-")
			user := bucket + "-0"
			server.AddUser(t, user)
			r := &role{lives: c.lives, file: filepath.Join(t.TempDir(), "user")}
			r.set(t, user)
			s := storagetest.Open(t, with(t, server.Bucket(t, bucket), c.setUp(t, r)...))
			if _, err := storage.PutBytes(t.Context(), s, "key", []byte("content")); err != nil {
				t.Fatal(err)
			}
			// They may end by themselves before their user goes, which shows nothing.
			refusals := 0
			for round := 1; refusals == 0 && round <= 20; round++ {
				next := fmt.Sprintf("%s-%d", bucket, round)
				server.AddUser(t, next)
				refusals = rotate(t, s, func() {
					r.set(t, next)
					server.RemoveUser(t, user)
				})
				user = next
			}
			if refusals == 0 {
				t.Error("the old credentials have never been refused: nothing is shown")
			}
			if status := put(t, signPut(t, s), "content"); status != http.StatusOK {
				t.Errorf("a URL that was signed anew: %d", status)
			}
		})
	}
}

func signPut(t *testing.T, s storage.Store) storage.Signed {
	t.Helper()
	signed, err := s.SignURL(t.Context(), "signed", storage.SignOptions{Method: http.MethodPut, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// rotate changes the credentials of a store, and waits until it has the new ones. It
// tells how often the old ones were refused.
func rotate(t *testing.T, s storage.Store, change func()) (refusals int) {
	t.Helper()
	old := signPut(t, s)
	change()
	if status := put(t, old, "content"); status < 400 {
		t.Errorf("a URL that was signed with credentials that are no more: %d", status)
	}
	deadline, pause := time.Now().Add(30*time.Second), time.NewTicker(100*time.Millisecond)
	defer pause.Stop()
	for ; ; refusals++ {
		_, _, err := storage.GetBytes(t.Context(), s, "key", 10)
		if err == nil {
			return refusals
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the credentials have changed: %v", err)
		}
		<-pause.C
	}
}

// A profile is chosen by the URL, else by the environment.
func TestProfiles(t *testing.T) {
	server := servers.StartS3(t, nil)
	url := server.Bucket(t, "bucket")
	server.AddUser(t, "batch-user")
	file := write(t, "credentials", "[default]\naws_access_key_id = nobody\naws_secret_access_key = nobody\n"+
		"[batch]\naws_access_key_id = batch-user\naws_secret_access_key = batch-user\n")
	for name, c := range map[string]struct {
		env        string
		parameters []string
		want       bool
	}{
		"in the URL":         {"", []string{"profile", "batch"}, true},
		"in the environment": {"batch", nil, true},
		"default":            {"", nil, false},
		"the URL's first":    {"batch", []string{"profile", "default"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			server.Credentials(t)
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			t.Setenv("AWS_PROFILE", c.env)
			s := storagetest.Open(t, with(t, url, c.parameters...))
			if _, err := storage.PutBytes(t.Context(), s, "key", []byte("content")); (err == nil) != c.want {
				t.Errorf("Put: %v", err)
			}
		})
	}
}
