package s3_test

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
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
	for name, c := range map[string]struct {
		url  string
		env  map[string]string
		want string
	}{
		"no bucket":         {url: "s3:///prefix", want: "want s3://BUCKET"},
		"bucket name":       {url: s.URL("My_Bucket"), want: "want 3 to 63 small letters"},
		"port":              {url: "s3://127.0.0.1:9000/bucket", want: "endpoint=http://HOST:PORT"},
		"endpoint":          {url: with(t, good, "endpoint", "127.0.0.1:9000"), want: "parameter endpoint: want http://HOST:PORT"},
		"parameter":         {url: with(t, good, "regoin", "x"), want: `unknown parameter "regoin"; known are: ca, conditions, endpoint`},
		"encryption":        {url: with(t, good, "sse", "aes"), want: "want AES256 or aws:kms"},
		"credentials":       {url: "s3://key:" + secret + "@bucket", want: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"region":            {url: "s3://bucket", want: "set region=… in the storage URL, or AWS_REGION"},
		"profile":           {url: with(t, good, "profile", "nobody"), want: "nobody"},
		"CA file":           {url: with(t, safe, "ca", "/nowhere/ca.pem"), want: "certificates of the CA: open /nowhere/ca.pem"},
		"bucket":            {url: s.URL("other"), want: "the bucket does not exist there: create it"},
		"access key":        {url: good, env: map[string]string{"AWS_ACCESS_KEY_ID": "unknown"}, want: "the access key is unknown there: check AWS_ACCESS_KEY_ID"},
		"secret key":        {url: good, env: map[string]string{"AWS_SECRET_ACCESS_KEY": secret}, want: "the secret key is wrong: check AWS_SECRET_ACCESS_KEY"},
		"no credentials":    {url: good, env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_EC2_METADATA_DISABLED": "true"}, want: "no credentials: set AWS_ACCESS_KEY_ID"},
		"region of another": {url: with(t, good, "region", "eu-west-1"), want: "set region=… in the storage URL"},
		"no server":         {url: with(t, good, "endpoint", "http://127.0.0.1:1"), want: "nothing can be reached at 127.0.0.1:1"},
		"no host":           {url: with(t, good, "endpoint", "http://no-such-host.invalid"), want: "there is no host"},
		"no TLS":            {url: with(t, good, "endpoint", strings.Replace(s.Endpoint, "http:", "https:", 1)), want: "write the endpoint with http://"},
		"unknown CA":        {url: with(t, safe, "ca", ""), want: "unknown CA: name its certificate with ca=FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Credentials(t)
			t.Setenv("AWS_REGION", "")
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			err := use(ctx, c.url)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant one line with %q", err, c.want)
			}
		})
	}
	if _, err := os.Stat(s.Dir + "/other"); err == nil {
		t.Error("a bucket was made")
	}
}

func use(ctx context.Context, url string) error {
	s, err := storage.Open(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = storage.PutBytes(ctx, s, "key", []byte("content"))
	return err
}
