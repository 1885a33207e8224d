// Package trust says whose certificates are believed.
package trust

import "crypto/x509"

// Pool is the authorities that the system trusts, and those in PEM; false if there is
// none in it.
func Pool(pem []byte) (*x509.CertPool, bool) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	return pool, pool.AppendCertsFromPEM(pem)
}
