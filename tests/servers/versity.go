package servers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// S3 is a real S3 server with its credentials.
type S3 struct {
	Endpoint  string // http(s)://127.0.0.1:PORT
	AccessKey string
	SecretKey string
	CAFile    string // "" without TLS
	Dir       string // what the server keeps there, one directory a bucket
}

// versitygw is an S3 server over a directory, under the Apache licence.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// StartS3 starts an S3 server, with TLS if cert is not nil.
func StartS3(t testing.TB, cert *Certificate) *S3 {
	t.Helper()
	address, s := FreeAddress(t), &S3{AccessKey: "test-access", SecretKey: "test-secret-key", Dir: t.TempDir()}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--port", "127.0.0.1:" + port, "--region", "us-east-1", "--keep-alive", "--quiet", "--health", "/health",
		"--iam-dir", t.TempDir(), "--iam-cache-disable", // see AddUser
	}
	client := &http.Client{}
	s.Endpoint = "http://" + address
	if cert != nil {
		args = append(args, "--cert", cert.CertFile, "--key", cert.KeyFile)
		s.Endpoint, s.CAFile = "https://"+address, cert.CertFile
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cert.Pool, MinVersion: tls.VersionTLS12}}
	}
	cmd := exec.Command(tool(t, "versitygw", versitygw), append(args, "posix", s.Dir)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+s.AccessKey, "ROOT_SECRET_ACCESS_KEY="+s.SecretKey)
	run(t, cmd).ready(t, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/health", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	})
	return s
}

// AddUser makes a user who may use all buckets, with a secret key of the same name.
func (s *S3) AddUser(t testing.TB, accessKey string) {
	t.Helper()
	s.admin(t, "create-user", "--access", accessKey, "--secret", accessKey, "--role", "admin")
}

// RemoveUser takes a user away, with all that is signed in its name.
func (s *S3) RemoveUser(t testing.TB, accessKey string) {
	t.Helper()
	s.admin(t, "delete-user", "--access", accessKey)
}

func (s *S3) admin(t testing.TB, args ...string) {
	t.Helper()
	args = append([]string{"admin", "--access", s.AccessKey, "--secret", s.SecretKey, "--endpoint-url", s.Endpoint, "--allow-insecure"}, args...)
	if out, err := exec.Command(tool(t, "versitygw", versitygw), args...).CombinedOutput(); err != nil {
		t.Fatalf("versitygw %v: %v\n%s", args[len(args)-2:], err, out)
	}
}

// Bucket makes a bucket and gives its storage URL.
func (s *S3) Bucket(t testing.TB, name string) string {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.Dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return s.URL(name)
}

// URL is the storage URL of a bucket, without credentials.
func (s *S3) URL(name string) string {
	query := url.Values{"endpoint": {s.Endpoint}, "path_style": {"true"}}
	if s.CAFile != "" {
		query.Set("ca", s.CAFile)
	}
	return fmt.Sprintf("s3://%s?%s", name, query.Encode())
}

// Credentials puts the server's credentials where the AWS tools look for them.
func (s *S3) Credentials(t testing.TB) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}
