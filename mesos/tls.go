package mesos

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// TLSFiles are PEM files for connections to masters and agents.
type TLSFiles struct {
	CA        string // authorities to trust; empty: those of the system
	Cert, Key string // of this client; both or none
}

// Load reads the files. The client certificate is read again for each connection, so
// one that is renewed is used from then on; while that cannot be read, the last one
// is. For new authorities, load again.
func (f TLSFiles) Load() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		data, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("TLS for Mesos: CA: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("TLS for Mesos: CA: %s holds no certificate in PEM", f.CA)
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("TLS for Mesos: a client certificate needs its key, and a key its certificate")
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("TLS for Mesos: client certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		cfg.GetClientCertificate = f.renewing(&pair)
	}
	return cfg, nil
}

// renewing gives the client certificate as the files have it now, else the last that
// they had. They may just be being replaced, one after the other.
func (f TLSFiles) renewing(last *tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	var newest atomic.Pointer[tls.Certificate]
	newest.Store(last)
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if pair, err := tls.LoadX509KeyPair(f.Cert, f.Key); err == nil {
			newest.Store(&pair)
		}
		return newest.Load(), nil
	}
}
