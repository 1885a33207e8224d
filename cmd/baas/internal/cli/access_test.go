package cli

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes a file for a test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWorkerIsLetIn(t *testing.T) {
	asJSON := write(t, "credential.json", `{"principal": "batch", "secret": "s3cret"}`)
	asLine := write(t, "credential", "batch s3cret\n")
	secret := write(t, "secret", "s3cret\n")
	for _, c := range []struct {
		name      string
		variables map[string]string
		flags     []string
		tls       bool
	}{
		{"credentials", nil, []string{"--mesos-credentials", asJSON}, false},
		{"in a line", map[string]string{"BAAS_MESOS_CREDENTIALS": asLine}, nil, false},
		{"the flag goes first", map[string]string{"BAAS_MESOS_CREDENTIALS": "none"}, []string{"--mesos-credentials", asLine, "--mesos-tls"}, true},
		{"secret file", nil, []string{"--principal", "batch", "--secret-file", secret}, false},
		{"variables", map[string]string{"BAAS_MESOS_PRINCIPAL": "batch", "BAAS_MESOS_SECRET": "s3cret", "BAAS_MESOS_TLS": "1"}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.env["BAAS_MESOS"] = "zk://u:p@a:2181,b:2181/mesos,http://c:5050"
			for k, v := range c.variables {
				b.env[k] = v
			}
			var got WorkerOptions
			b.program.Parts.Worker = func(_ context.Context, o WorkerOptions) error { got = o; return nil }
			b.expect(ExitDone, append([]string{"worker"}, c.flags...)...)
			access, err := got.MesosAccess.Open()
			if err != nil || access.Principal != "batch" || access.Secret != "s3cret" || (access.TLS != nil) != c.tls {
				t.Errorf("principal %q, secret %q, TLS %v, error %v", access.Principal, access.Secret, access.TLS != nil, err)
			}
			if want := []string{"zk://u:p@a:2181,b:2181/mesos", "http://c:5050"}; !slices.Equal(got.Masters, want) {
				t.Errorf("masters are %q", got.Masters)
			}
		})
	}
}

func TestAccessMistakes(t *testing.T) {
	for _, c := range []struct {
		variables map[string]string
		says      string
	}{
		{map[string]string{"BAAS_MESOS_CREDENTIALS": "/nowhere/credential"}, "/nowhere/credential"},
		{map[string]string{"BAAS_MESOS_CREDENTIALS": write(t, "credential", "hidden")}, "want a principal and its secret"},
		{map[string]string{"BAAS_MESOS_SECRET": "hidden"}, "no principal"},
		{map[string]string{"BAAS_MESOS_CA": write(t, "ca.pem", "x")}, "holds no certificate"},
		{map[string]string{"BAAS_MESOS_CERT": "/nowhere/cert.pem"}, "needs its key"},
	} {
		b := newBench(t)
		b.env["BAAS_MESOS"] = "http://m:5050"
		for k, v := range c.variables {
			b.env[k] = v
		}
		b.expect(ExitUsage, "worker")
		if said := b.stderr.String(); !strings.Contains(said, c.says) || strings.Contains(said, "hidden") {
			t.Errorf("%v: said %q, want %q", c.variables, said, c.says)
		}
	}
}
