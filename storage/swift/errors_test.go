package swift_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/tests/servers"
)

// Each wrong setting is told in a way that says what to change, without the password.
func TestWrongSettings(t *testing.T) {
	s := servers.StartSwift(t)
	good := s.Container(t, "container")
	const password = "not-the-password"
	clouds := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(clouds, []byte("clouds: {mine: {auth: {password: "+password+"}}, broken: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		env  map[string]string
		want string
	}{
		"no container": {url: "swift:///prefix", want: "want swift://CONTAINER"},
		"address":      {url: "swift://127.0.0.1:8080/container", want: "the address is that of OS_AUTH_URL"},
		"parameter":    {url: good + "?clod=x", want: `unknown parameter "clod"; known are: ca, cloud, part_size, region`},
		"part size":    {url: good + "?part_size=8MB", want: "want a number of MiB from 1 to"},
		"credentials":  {url: "swift://user:" + password + "@container", want: "set OS_USERNAME and OS_PASSWORD, or name a cloud"},
		"no login":     {url: good, env: map[string]string{"ST_AUTH": ""}, want: "set OS_AUTH_URL"},
		"cloud":        {url: good + "?cloud=yours", env: map[string]string{"OS_CLIENT_CONFIG_FILE": "/nowhere/clouds.yaml"}, want: `there is no clouds.yaml for cloud "yours"; looked for /nowhere`},
		"clouds.yaml":  {url: good + "?cloud=mine", env: map[string]string{"OS_CLIENT_CONFIG_FILE": clouds}, want: "is not well-formed YAML"},
		"container":    {url: "swift://other", want: "the container does not exist: create it"},
		"user":         {url: good, env: map[string]string{"ST_USER": "test:nobody"}, want: "user, password, project or domain are wrong"},
		"password":     {url: good, env: map[string]string{"ST_KEY": password}, want: "user, password, project or domain are wrong"},
		"role":         {url: good, env: map[string]string{"ST_USER": "test:reader", "ST_KEY": "reading"}, want: "needs a role that writes"},
		"no server":    {url: good, env: map[string]string{"ST_AUTH": "http://127.0.0.1:1/auth/v1.0"}, want: "nothing can be reached at 127.0.0.1:1"},
		"no TLS":       {url: good, env: map[string]string{"ST_AUTH": strings.Replace(s.AuthURL, "http:", "https:", 1)}, want: "write the endpoint with http://"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Credentials(t)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			err := use(ctx, c.url)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant one line with %q", err, c.want)
			}
		})
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
