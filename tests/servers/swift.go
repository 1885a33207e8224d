package servers

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"
)

//go:embed swift
var swiftFiles embed.FS

// Swift is a real OpenStack Swift of one node, with temporary URLs, static large
// objects and the S3 API, which logs in users by itself (tempauth).
type Swift struct {
	AuthURL  string // of v1
	User     string
	Password string
	Dir      string // what the servers keep there

	storageURL string
	proxy      *process
}

// swiftPorts are what the configuration files name.
type swiftPorts struct {
	Dir, User                                   string
	Proxy, Object, Container, Account, Memcache string

	ahead time.Duration
}

// StartSwift starts the servers of Debian's packages swift-proxy, swift-account,
// swift-container, swift-object and memcached.
func StartSwift(t testing.TB) *Swift {
	t.Helper()
	return StartSkewedSwift(t, 0)
}

// StartSkewedSwift starts Swift with a clock that is so far ahead of ours, by Debian's
// package faketime.
func StartSkewedSwift(t testing.TB, ahead time.Duration) *Swift {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	p := swiftPorts{Dir: t.TempDir(), User: me.Username, ahead: ahead}
	for _, port := range []*string{&p.Proxy, &p.Object, &p.Container, &p.Account, &p.Memcache} {
		if _, *port, err = net.SplitHostPort(FreeAddress(t)); err != nil {
			t.Fatal(err)
		}
	}
	p.configure(t)
	etc := filepath.Join(p.Dir, "etc")
	if out, err := exec.Command("/usr/bin/python3", etc+"/rings.py", etc, p.Object, p.Container, p.Account).CombinedOutput(); err != nil {
		t.Fatalf("the rings of Swift: %v\n%s", err, out)
	}
	run(t, exec.Command("memcached", "-l", "127.0.0.1", "-p", p.Memcache, "-U", "0", "-m", "16", "-t", "1", "-u", me.Username))
	for kind, port := range map[string]string{"account": p.Account, "container": p.Container, "object": p.Object} {
		// The proxy puts aside a node that refuses connections.
		p.run(t, kind).ready(t, func(ctx context.Context) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	}
	s := &Swift{AuthURL: "http://127.0.0.1:" + p.Proxy + "/auth/v1.0", User: "test:tester", Password: "testing", Dir: p.Dir}
	s.proxy = p.run(t, "proxy")
	s.proxy.ready(t, func(ctx context.Context) error {
		account, err := s.call(ctx, http.MethodGet, s.AuthURL)
		if err == nil {
			s.storageURL = account.Get("X-Storage-Url")
			_, err = s.call(ctx, http.MethodHead, s.storageURL)
		}
		return err
	})
	return s
}

func (p *swiftPorts) configure(t testing.TB) {
	t.Helper()
	for _, dir := range []string{"etc", "devices/disk"} {
		if err := os.MkdirAll(filepath.Join(p.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files, err := template.ParseFS(swiftFiles, "swift/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files.Templates() {
		var text strings.Builder
		if err := file.Execute(&text, p); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(p.Dir, "etc", file.Name()), []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *swiftPorts) run(t testing.TB, kind string) *process {
	t.Helper()
	etc := filepath.Join(p.Dir, "etc")
	cmd := exec.Command("/usr/bin/python3", etc+"/run.py", etc, "/usr/bin/swift-"+kind+"-server", etc+"/"+kind+"-server.conf")
	if p.ahead != 0 {
		// The library by itself: the command faketime would stay between us and the server.
		library, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
		if err != nil || len(library) == 0 {
			t.Fatalf("no libfaketime.so.1 (Debian: faketime): %v", err)
		}
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+library[0], "DONT_FAKE_MONOTONIC=1",
			fmt.Sprintf("FAKETIME=%+ds", int(p.ahead.Seconds())))
	}
	return run(t, cmd)
}

// call makes a call as the user; those to the login carry the password.
func (s *Swift) call(ctx context.Context, method, url string) (http.Header, error) {
	login, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AuthURL, nil)
	if err != nil {
		return nil, err
	}
	login.Header.Set("X-Auth-User", s.User)
	login.Header.Set("X-Auth-Key", s.Password)
	header, err := answer(login)
	if err != nil || url == s.AuthURL {
		return header, err
	}
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-Auth-Token", header.Get("X-Auth-Token"))
	return answer(request)
}

func answer(r *http.Request) (http.Header, error) {
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s", r.Method, r.URL, response.Status)
	}
	return response.Header, errors.Join(err, response.Body.Close())
}

// Container makes a container and gives its storage URL.
func (s *Swift) Container(t testing.TB, name string) string {
	t.Helper()
	s.proxy.ready(t, func(ctx context.Context) error { // a busy machine has it answer 503 at first
		_, err := s.call(ctx, http.MethodPut, s.storageURL+"/"+url.PathEscape(name))
		return err
	})
	return "swift://" + name
}

// Credentials puts who we are where the OpenStack tools look for it.
func (s *Swift) Credentials(t testing.TB) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("ST_AUTH", s.AuthURL)
	t.Setenv("ST_USER", s.User)
	t.Setenv("ST_KEY", s.Password)
}

// Address is host:port of the server.
func (s *Swift) Address() string {
	return strings.TrimPrefix(strings.TrimSuffix(s.AuthURL, "/auth/v1.0"), "http://")
}

// S3 is the same server by its S3 API. Its buckets are containers.
func (s *Swift) S3() *S3 {
	return &S3{Endpoint: "http://" + s.Address(), AccessKey: s.User, SecretKey: s.Password}
}
