package s3_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	_ "github.com/baas-batch/baas/storage/s3"
	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

func harness(s *servers.S3, change func(h *storagetest.Harness)) storagetest.Harness {
	var buckets atomic.Int64
	h := storagetest.Harness{
		New: func(t *testing.T) storage.Store {
			return storagetest.Open(t, s.Bucket(t, fmt.Sprintf("bucket-%d", buckets.Add(1))))
		},
		RefusesNesting: true, // its keys are paths of files
		KeepsCutPuts:   true,
	}
	if change != nil {
		change(&h)
	}
	return h
}

func TestConformance(t *testing.T) {
	s := servers.StartS3(t, nil)
	s.Credentials(t)
	storagetest.Run(t, harness(s, nil))
}

// Over TLS the SDK signs bodies in another way.
func TestConformanceOverTLS(t *testing.T) {
	cert := servers.NewCertificate(t)
	s := servers.StartS3(t, cert)
	s.Credentials(t)
	storagetest.Run(t, harness(s, func(h *storagetest.Harness) {
		h.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cert.Pool, MinVersion: tls.VersionTLS12}}}
		h.ManyKeys = 1200
	}))
}

// Swift's S3 API: another server, with other limits.
func TestConformanceOfSwift(t *testing.T) {
	swift := servers.StartSwift(t)
	s := swift.S3()
	s.Credentials(t)
	var buckets atomic.Int64
	storagetest.Run(t, storagetest.Harness{
		New: func(t *testing.T) storage.Store {
			name := fmt.Sprintf("bucket-%d", buckets.Add(1))
			swift.Container(t, name)
			return storagetest.Open(t, s.URL(name)+"&conditions=false&max_parts=1000")
		},
		ManyKeys:      1200,
		ListLag:       10 * time.Second,
		PartsStayOpen: true,
	})
}
