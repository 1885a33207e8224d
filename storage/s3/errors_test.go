package s3_test

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage/storagetest"
	"github.com/baas-batch/baas/tests/servers"
)

// with changes parameters of a storage URL.
func with(t *testing.T, rawURL string, parameters ...string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for i := 0; i < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
		if parameters[i+1] == "" {
			query.Del(parameters[i])
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// Each wrong setting is told in a way that says what to change, without the secret.
func TestWrongSettings(t *testing.T) {
	s, secured := servers.StartS3(t, nil), servers.StartS3(t, servers.NewCertificate(t))
	good, safe := s.Bucket(t, "bucket"), secured.Bucket(t, "bucket")
	const secret = "not-the-secret-key"
	setUp := func(t testing.TB) {
		s.Credentials(t)
		t.Setenv("AWS_REGION", "")
	}
	storagetest.WrongSettings(t, setUp, secret, map[string]storagetest.Setting{
		"no bucket":         {URL: "s3:///prefix", Want: "want s3://BUCKET"},
		"bucket name":       {URL: s.URL("My_Bucket"), Want: "want 3 to 63 small letters"},
		"port":              {URL: "s3://127.0.0.1:9000/bucket", Want: "endpoint=http://HOST:PORT"},
		"endpoint":          {URL: with(t, good, "endpoint", "127.0.0.1:9000"), Want: "parameter endpoint: want http://HOST:PORT"},
		"parameter":         {URL: with(t, good, "regoin", "x"), Want: `unknown parameter "regoin"; known are: ca, conditions, endpoint`},
		"encryption":        {URL: with(t, good, "sse", "aes"), Want: "want AES256 or aws:kms"},
		"credentials":       {URL: "s3://key:" + secret + "@bucket", Want: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"region":            {URL: "s3://bucket", Want: "set region=… in the storage URL, or AWS_REGION"},
		"profile":           {URL: with(t, good, "profile", "nobody"), Want: "nobody"},
		"CA file":           {URL: with(t, safe, "ca", "/nowhere/ca.pem"), Want: "certificates of the CA: open /nowhere/ca.pem"},
		"bucket":            {URL: s.URL("other"), Want: "the bucket does not exist there: create it"},
		"access key":        {URL: good, Env: map[string]string{"AWS_ACCESS_KEY_ID": "unknown"}, Want: "the access key is unknown there: check AWS_ACCESS_KEY_ID"},
		"secret key":        {URL: good, Env: map[string]string{"AWS_SECRET_ACCESS_KEY": secret}, Want: "the secret key is wrong: check AWS_SECRET_ACCESS_KEY"},
		"no credentials":    {URL: good, Env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_EC2_METADATA_DISABLED": "true"}, Want: "no credentials: set AWS_ACCESS_KEY_ID"},
		"region of another": {URL: with(t, good, "region", "eu-west-1"), Want: "set region=… in the storage URL"},
		"no server":         {URL: with(t, good, "endpoint", "http://127.0.0.1:1"), Want: "nothing can be reached at 127.0.0.1:1"},
		"no host":           {URL: with(t, good, "endpoint", "http://no-such-host.invalid"), Want: "there is no host"},
		"no TLS":            {URL: with(t, good, "endpoint", strings.Replace(s.Endpoint, "http:", "https:", 1)), Want: "write the endpoint with http://"},
		"unknown CA":        {URL: with(t, safe, "ca", ""), Want: "unknown CA: name its certificate with ca=FILE"},
	})
	if _, err := os.Stat(s.Dir + "/other"); err == nil {
		t.Error("a bucket was made")
	}
}
