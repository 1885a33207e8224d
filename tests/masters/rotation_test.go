package masters

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tests/harness"
)

// copyFile puts a file in another's place at once, as whoever renews certificates does.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The authority, the client's certificate and the secret are all replaced while the
// framework runs: its next subscription uses the new ones.
func TestFilesAreReadAgain(t *testing.T) {
	dir, here := harness.Dir(t), harness.Dir(t)
	files := mesos.TLSFiles{CA: filepath.Join(here, "ca.pem"), Cert: filepath.Join(here, "baas.pem"), Key: filepath.Join(here, "baas.key")}
	credential := filepath.Join(here, "credential")
	// begin replaces the files, and starts the cluster with what goes with them.
	begin := func(secret string) *embeddedmesos.Cluster {
		t.Helper()
		ca := newAuthority(t, "ca")
		made := ca.client("baas")
		copyFile(t, made.CA, files.CA)
		copyFile(t, made.Cert, files.Cert)
		copyFile(t, made.Key, files.Key)
		if err := os.WriteFile(credential, []byte("batch "+secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		server := ca.server("master", soon(), localhost)
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, load(t, mesos.TLSFiles{CA: files.CA}).RootCAs
		return cluster(t, func(cfg *embeddedmesos.Config) {
			cfg.Dir, cfg.Master.TLS, cfg.Master.Credentials = dir, server, map[string]string{"batch": secret}
		})
	}
	c := begin("old")
	s := subscribe(t, c.MasterURL(), func(cfg *mesos.Config) {
		cfg.Access = func() (a mesos.Access, err error) {
			if a.Principal, a.Secret, err = mesos.ReadCredentials(credential); err == nil {
				a.TLS, err = files.Load()
			}
			return a, err
		}
	})
	s.await()
	address := c.MasterURL()
	c.Stop()
	if c = begin("new"); c.MasterURL() != address {
		t.Fatalf("the master has moved from %s to %s", address, c.MasterURL())
	}
	s.await()

	// A file that cannot be read leaves what was read before; that is said once.
	if err := os.Remove(credential); err != nil {
		t.Fatal(err)
	}
	if err := c.RestartMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.await()
	s.logged("cannot be read again", 1)
}

// A client certificate that is renewed is used by the next connection.
func TestClientCertificateIsReadAgain(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := ca.client("baas")
	config := load(t, files)
	before, err := config.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	ca.client("baas")
	after, err := config.GetClientCertificate(nil)
	if err != nil || string(after.Certificate[0]) == string(before.Certificate[0]) {
		t.Errorf("still the old certificate (%v)", err)
	}
	copyFile(t, ca.file("ca.key"), files.Key) // while the two do not fit together
	last, err := config.GetClientCertificate(nil)
	if err != nil || string(last.Certificate[0]) != string(after.Certificate[0]) {
		t.Errorf("not the last good certificate (%v)", err)
	}
}
