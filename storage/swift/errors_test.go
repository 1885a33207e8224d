package swift_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage/storagetest"
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
	storagetest.WrongSettings(t, s.Credentials, password, map[string]storagetest.Setting{
		"no container": {URL: "swift:///prefix", Want: "want swift://CONTAINER"},
		"address":      {URL: "swift://127.0.0.1:8080/container", Want: "the address is that of OS_AUTH_URL"},
		"parameter":    {URL: good + "?clod=x", Want: `unknown parameter "clod"; known are: ca, cloud, part_size, region`},
		"part size":    {URL: good + "?part_size=8MB", Want: "want a number of MiB from 1 to"},
		"credentials":  {URL: "swift://user:" + password + "@container", Want: "set OS_USERNAME and OS_PASSWORD, or name a cloud"},
		"no login":     {URL: good, Env: map[string]string{"ST_AUTH": ""}, Want: "set OS_AUTH_URL"},
		"cloud":        {URL: good + "?cloud=yours", Env: map[string]string{"OS_CLIENT_CONFIG_FILE": "/nowhere/clouds.yaml"}, Want: `there is no clouds.yaml for cloud "yours"; looked for /nowhere`},
		"clouds.yaml":  {URL: good + "?cloud=mine", Env: map[string]string{"OS_CLIENT_CONFIG_FILE": clouds}, Want: "is not well-formed YAML"},
		"container":    {URL: "swift://other", Want: "the container does not exist: create it"},
		"user":         {URL: good, Env: map[string]string{"ST_USER": "test:nobody"}, Want: "user, password, project or domain are wrong"},
		"password":     {URL: good, Env: map[string]string{"ST_KEY": password}, Want: "user, password, project or domain are wrong"},
		"role":         {URL: good, Env: map[string]string{"ST_USER": "test:reader", "ST_KEY": "reading"}, Want: "needs a role that writes"},
		"no server":    {URL: good, Env: map[string]string{"ST_AUTH": "http://127.0.0.1:1/auth/v1.0"}, Want: "nothing can be reached at 127.0.0.1:1"},
		"no TLS":       {URL: good, Env: map[string]string{"ST_AUTH": strings.Replace(s.AuthURL, "http:", "https:", 1)}, Want: "write the endpoint with http://"},
	})
}
