package masters

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tests/harness"
)

// authority signs certificates, in files below a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: harness.Dir(t)}
	a.cert, a.key = a.make(name, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	})
	return a
}

// make writes a certificate and its key; the first one signs itself.
func (a *authority) make(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	a.check(err)
	cert, err := x509.ParseCertificate(der)
	a.check(err)
	secret, err := x509.MarshalECPrivateKey(key)
	a.check(err)
	a.check(os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	a.check(os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

func (a *authority) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// server is the configuration of a server whose certificate names hosts.
func (a *authority) server(name string, until time.Time, hosts ...string) *tls.Config {
	a.t.Helper()
	template := &x509.Certificate{NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	a.make(name, template)
	pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	a.check(err)
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// client makes a client certificate, and gives the files that a client needs.
func (a *authority) client(name string) mesos.TLSFiles {
	a.t.Helper()
	a.make(name, &x509.Certificate{NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return mesos.TLSFiles{CA: a.file("ca.pem"), Cert: a.file(name + ".pem"), Key: a.file(name + ".key")}
}

func load(t *testing.T, files mesos.TLSFiles) *tls.Config {
	t.Helper()
	cfg, err := files.Load()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const localhost = "127.0.0.1"

func soon() time.Time { return time.Now().Add(time.Hour) }

func secure(server *tls.Config) func(*embeddedmesos.Config) {
	return func(cfg *embeddedmesos.Config) { cfg.Master.TLS = server }
}

// Masters that want client certificates let in who has one; found by address, by
// redirect and in ZooKeeper.
func TestTLSWithClientCertificates(t *testing.T) {
	ca := newAuthority(t, "ca")
	server := ca.server("master", soon(), localhost)
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, load(t, mesos.TLSFiles{CA: ca.file("ca.pem")}).RootCAs
	c := cluster(t, func(cfg *embeddedmesos.Config) {
		cfg.Masters = 2
		cfg.Master.TLS = server
		cfg.Master.Credentials = map[string]string{"batch": "s3cret"}
	})
	files := ca.client("baas")
	in := func(cfg *mesos.Config) {
		cfg.TLS, cfg.Principal, cfg.Secret = load(t, files), "batch", "s3cret"
	}
	z := harness.StartZooKeeper(t)
	z.HoldElection(c, "/mesos", "")
	for name, masters := range map[string]string{
		"leader": c.MasterURL(), "standby": c.MasterURLs()[1], "ZooKeeper": z.URL("/mesos"),
	} {
		s := subscribe(t, masters, in)
		if sub := s.await(); sub.Master != c.MasterURL() || !strings.HasPrefix(sub.Master, "https://") {
			t.Errorf("%s: subscribed to %s", name, sub.Master)
		}
	}

	without := subscribe(t, c.MasterURL(), func(cfg *mesos.Config) {
		in(cfg)
		cfg.TLS = load(t, mesos.TLSFiles{CA: files.CA})
	})
	without.warned("wants a client certificate")
	other := newAuthority(t, "ca").client("stranger")
	stranger := subscribe(t, c.MasterURL(), func(cfg *mesos.Config) {
		in(cfg)
		cfg.TLS = load(t, mesos.TLSFiles{CA: files.CA, Cert: other.Cert, Key: other.Key})
	})
	stranger.warned("wants another client certificate")
}

// Each mistake about certificates is said in one message that says what to mend.
func TestTLSMistakes(t *testing.T) {
	ca := newAuthority(t, "ca")
	trust := load(t, mesos.TLSFiles{CA: ca.file("ca.pem")})
	good := cluster(t, secure(ca.server("good", soon(), localhost)))
	plain := cluster(t, nil)
	for _, c := range []struct {
		name    string
		masters string
		trust   *tls.Config
		says    string
	}{
		{"unknown authority", good.MasterURL(), nil, "name the file of its CA"},
		{"another name", cluster(t, secure(ca.server("other", soon(), "mesos.example"))).MasterURL(), trust, "names other hosts"},
		{"expired", cluster(t, secure(ca.server("old", time.Now().Add(-time.Hour), localhost))).MasterURL(), trust, "not valid now"},
		{"no TLS", strings.Replace(plain.MasterURL(), "http:", "https:", 1), trust, "does not speak TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			subscribe(t, c.masters, func(cfg *mesos.Config) { cfg.TLS = c.trust }).warned(c.says)
		})
	}
}

func TestTLSFilesSayWhatIsWrong(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := ca.client("baas")
	for _, c := range []struct {
		files mesos.TLSFiles
		says  string
	}{
		{mesos.TLSFiles{CA: files.CA + "x"}, "no such file"},
		{mesos.TLSFiles{CA: files.Key}, "no certificate"},
		{mesos.TLSFiles{Cert: files.Cert}, "needs its key"},
		{mesos.TLSFiles{Cert: files.Cert, Key: ca.file("ca.key")}, "client certificate"},
	} {
		if _, err := c.files.Load(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: error is %v, want one that says %q", c.files, err, c.says)
		}
	}
}

// Files of agents that serve https and ask for credentials.
func TestReadFilesOverTLS(t *testing.T) {
	ca := newAuthority(t, "ca")
	c := cluster(t, func(cfg *embeddedmesos.Config) {
		cfg.Agent.TLS, cfg.Agent.TLSCA = ca.server("agent", soon(), localhost), ca.file("ca.pem")
		cfg.Agent.Credentials = map[string]string{"batch": "s3cret"}
	})
	agent := c.Agents()[0]
	endpoint := "https://" + agent.Address
	trust := load(t, mesos.TLSFiles{CA: ca.file("ca.pem")})
	// There is no such file, which the agent tells only to who may know.
	const path = "/slave/none"
	if _, err := mesos.NewAgentFiles(trust, "batch", "s3cret").Read(t.Context(), endpoint, path, 0, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
	for name, r := range map[string]struct {
		files *mesos.AgentFiles
		says  string
	}{
		"wrong secret":      {mesos.NewAgentFiles(trust, "batch", "hidden"), `does not let principal "batch" read`},
		"no credentials":    {mesos.NewAgentFiles(trust, "", ""), "set Mesos credentials"},
		"unknown authority": {mesos.NewAgentFiles(nil, "batch", "s3cret"), "name the file of its CA"},
	} {
		_, err := r.files.Read(t.Context(), endpoint, path, 0, 10)
		if err == nil || !strings.Contains(err.Error(), r.says) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: error is %v, want one that says %q", name, err, r.says)
		}
	}
}
