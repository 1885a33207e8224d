// Package remote holds what the backends behind a network have in common: connections
// that give up on a silent peer, uploads of streams in parts, downloads that go on
// after a cut.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/baas-batch/baas/storage/internal/trust"
)

// Stall is how long a connection may be silent in both directions before it is
// given up. Servers take long to join the parts of a large object, but those that
// do send white space meanwhile.
const Stall = 2 * time.Minute

const (
	dialTimeout = 10 * time.Second
	// perHost bounds the idle connections that are kept; transfers go side by side.
	perHost = 32
)

// SetUp makes a transport fit for object stores. caFile may be empty; else its text
// is given back, for Capabilities.
func SetUp(t *http.Transport, caFile string) (pem string, err error) {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &stallConn{Conn: conn, limit: Stall}, nil
	}
	t.TLSHandshakeTimeout = dialTimeout
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 4*perHost, perHost
	t.IdleConnTimeout = 50 * time.Second // before common servers close theirs
	t.DisableCompression = true          // what is stored is what is read
	if caFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return "", fmt.Errorf("certificates of the CA: %w", err)
	}
	pool, ok := trust.Pool(text)
	if !ok {
		return "", fmt.Errorf("certificates of the CA: %s holds none in PEM form", caFile)
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.TLSClientConfig.RootCAs = pool
	return string(text), nil
}

// stallConn ends when nothing has passed in either direction for a while.
type stallConn struct {
	net.Conn
	limit time.Duration
}

func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write goes on in pieces, each with its own deadline, so that a slow line is told
// apart from a dead one.
func (c *stallConn) Write(p []byte) (n int, err error) {
	const piece = 256 << 10
	for len(p) > 0 && err == nil {
		if err := c.extend(); err != nil {
			return n, err
		}
		var sent int
		sent, err = c.Conn.Write(p[:min(len(p), piece)])
		n, p = n+sent, p[sent:]
	}
	return n, err
}

// extend moves both deadlines: while a body goes out, the transport already waits
// for the answer.
func (c *stallConn) extend() error { return c.SetDeadline(time.Now().Add(c.limit)) }

// Hint explains a failure of the network below HTTP, "" if it is none.
func Hint(err error) string {
	var (
		dns       *net.DNSError
		op        *net.OpError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		expired   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("there is no host %s: correct the endpoint", dns.Name)
	case errors.As(err, &authority):
		return "the server's certificate is signed by an unknown CA: name its certificate with ca=FILE in the storage URL"
	case errors.As(err, &host), errors.As(err, &expired):
		return "the server's certificate is not valid for this endpoint"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "the server does not speak TLS there: write the endpoint with http://"
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Sprintf("nothing can be reached at %v: is the endpoint right, and the server up?", op.Addr)
	}
	return ""
}

// Passing tells whether a failure below HTTP may pass by itself: a connection that
// was refused or cut, also one that was kept alive too long, but not a wrong name or
// certificate.
func Passing(err error) bool {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, http.ErrSchemeMismatch):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return !errors.As(err, &authority) && !errors.As(err, &host) && !errors.As(err, &invalid) && !errors.As(err, &record)
}
