package conformance

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/master"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	scheduler "github.com/baas-batch/baas/mesos"
)

// target is the cluster under test.
var target struct {
	url     string   // of the leading master
	masters []string // URLs of all that are known
	options mesostest.Options
	user    string
	role    string
	files   *fileServer
	// cluster has the hooks; nil where the target is not the embedded one.
	cluster *mesos.Cluster
}

func TestMain(m *testing.M) {
	mesostest.ExecutorMain()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if path := os.Getenv("BAAS_TEST_MESOS_CREDENTIALS"); path != "" {
		if target.options.Principal, target.options.Secret, err = scheduler.ReadCredentials(path); err != nil {
			return 0, err
		}
	}
	target.role = cmp.Or(os.Getenv("BAAS_TEST_MESOS_ROLE"), api.DefaultRole)
	if target.user = os.Getenv("BAAS_TEST_MESOS_USER"); target.user == "" {
		u, err := user.Current()
		if err != nil {
			return 0, err
		}
		target.user = u.Username
	}
	masters := os.Getenv("BAAS_TEST_MESOS")
	if masters == "" {
		return runEmbedded(m)
	}
	for u := range strings.SplitSeq(masters, ",") {
		target.masters = append(target.masters, strings.TrimSuffix(strings.TrimSpace(u), "/"))
	}
	if target.url, err = leader(target.masters); err != nil {
		return 0, err
	}
	return serveFiles(m)
}

func runEmbedded(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), mesostest.Patience)
	defer cancel()
	if target.options.Principal == "" {
		target.options.Principal, target.options.Secret = "conformance", rand.Text()
	}
	credentials := map[string]string{target.options.Principal: target.options.Secret}
	c, err := mesos.Start(ctx, mesos.Config{Dir: dir, Masters: 2, Master: master.Config{Credentials: credentials}, Agents: []mesos.AgentConfig{{
		Resources: []api.Resource{mesostest.Scalar("cpus", 4), mesostest.Scalar("mem", 2048), mesostest.Scalar("disk", 100)},
	}}})
	if err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), mesostest.Patience)
		defer cancel()
		if err := c.Terminate(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	target.cluster, target.url, target.masters = c, c.MasterURL(), c.MasterURLs()
	return serveFiles(m)
}

// serveFiles runs the tests while agents can fetch their executor.
func serveFiles(m *testing.M) (int, error) {
	files, err := startFileServer(os.Getenv("BAAS_TEST_MESOS_SERVE"), target.url)
	if err != nil {
		return 0, err
	}
	defer files.stop()
	target.files = files
	return m.Run(), nil
}

// leader asks the masters which of them leads: that one answers, the others
// redirect to it.
func leader(masters []string) (string, error) {
	for deadline := time.Now().Add(mesostest.Patience); ; time.Sleep(100 * time.Millisecond) {
		var problems []string
		for _, base := range masters {
			found, err := askLeader(base)
			if err == nil {
				return found, nil
			}
			problems = append(problems, err.Error())
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no master leads: %s", strings.Join(problems, "; "))
		}
	}
}

func askLeader(base string) (string, error) {
	req, err := http.NewRequest(http.MethodPost, base+"/api/v1", strings.NewReader(`{"type":"GET_HEALTH"}`))
	if err != nil {
		return "", err
	}
	authorise(req)
	req.Header.Set("Content-Type", mediaJSON)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return base, nil
	case http.StatusTemporaryRedirect:
		to, err := resp.Location()
		if err != nil {
			return "", fmt.Errorf("%s: %w", base, err)
		}
		return (&url.URL{Scheme: to.Scheme, Host: to.Host}).String(), nil
	}
	return "", fmt.Errorf("%s: %s", base, resp.Status)
}

func authorise(req *http.Request) {
	if target.options.Principal != "" {
		req.SetBasicAuth(target.options.Principal, target.options.Secret)
	}
}
