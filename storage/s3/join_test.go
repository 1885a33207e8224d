package s3_test

import (
	"net/http"
	"testing"

	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

func isJoin(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

func TestJoins(t *testing.T) {
	s := servers.StartS3(t, nil)
	s.Credentials(t)
	gate := storagetest.NewGate(t, s.Endpoint, isJoin)
	storagetest.RunJoins(t, storagetest.Open(t, with(t, s.Bucket(t, "bucket"), "endpoint", gate.URL)), gate)
}

// Swift's S3 API, which would take the parts away from below an object.
func TestJoinsOfSwift(t *testing.T) {
	swift := servers.StartSwift(t)
	s := swift.S3()
	s.Credentials(t)
	swift.Container(t, "bucket")
	gate := storagetest.NewGate(t, s.Endpoint, isJoin)
	storagetest.RunJoins(t, storagetest.Open(t, with(t, s.URL("bucket"), "conditions", "false", "max_parts", "1000", "endpoint", gate.URL)), gate)
}
