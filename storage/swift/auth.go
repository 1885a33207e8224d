package swift

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/ncw/swift/v2"
)

// login holds the token of the account.
type login struct {
	mu   sync.Mutex
	conn *swift.Connection
}

// session is what a call needs.
type session struct {
	account string // URL of the account
	token   string
}

// get logs in if there is no token, or if the given one was refused.
func (l *login) get(ctx context.Context, refused string) (session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refused != "" && l.conn.AuthToken == refused {
		l.conn.UnAuthenticate()
	}
	if !l.conn.Authenticated() {
		if err := l.conn.Authenticate(ctx); err != nil {
			return session{}, loginError(l.conn, err)
		}
	}
	return session{strings.TrimSuffix(l.conn.StorageUrl, "/"), l.conn.AuthToken}, nil
}

// newLogin reads who we are, by the rules of the OpenStack tools.
func newLogin(o Options, transport http.RoundTripper) (*login, error) {
	conn := &swift.Connection{}
	cloud := o.Cloud
	if cloud == "" {
		cloud = os.Getenv("OS_CLOUD")
	}
	if cloud == "" {
		if err := conn.ApplyEnvironment(); err != nil {
			return nil, err
		}
	} else if err := fromClouds(conn, cloud); err != nil {
		return nil, err
	}
	if o.Region != "" {
		conn.Region = o.Region
	}
	conn.Transport, conn.UserAgent = transport, "baas"
	if conn.AuthUrl == "" {
		return nil, errors.New("no address to log in at: set OS_AUTH_URL (or ST_AUTH for v1), or name a cloud of clouds.yaml with cloud=NAME")
	}
	complete(conn)
	return &login{conn: conn}, nil
}

var named = regexp.MustCompile(`/v[123](\.\d)?/?$`)

// complete adds to the address of the login the version that the OpenStack tools find
// out by themselves, where none is named: 3.
func complete(conn *swift.Connection) {
	if conn.AuthVersion == 3 || conn.AuthVersion == 0 && os.Getenv("OS_AUTH_URL") != "" {
		if !named.MatchString(conn.AuthUrl) {
			conn.AuthVersion, conn.AuthUrl = 3, strings.TrimRight(conn.AuthUrl, "/")+"/v3"
		}
	}
}

// cloudsFile is clouds.yaml, as far as it matters here (its documentation:
// openstacksdk, "Configuring OpenStack SDK Applications").
type cloudsFile struct {
	Clouds map[string]struct {
		AuthType  string            `yaml:"auth_type"`
		Auth      map[string]string `yaml:"auth"`
		Region    string            `yaml:"region_name"`
		Interface string            `yaml:"interface"`
		Version   string            `yaml:"identity_api_version"`
	} `yaml:"clouds"`
}

// cloudsFiles are looked for in this order; secrets may stand in secure.yaml beside.
func cloudsFiles() []string {
	if file := os.Getenv("OS_CLIENT_CONFIG_FILE"); file != "" {
		return []string{file}
	}
	files := []string{"clouds.yaml"}
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "openstack", "clouds.yaml"))
	}
	return append(files, "/etc/openstack/clouds.yaml")
}

func fromClouds(conn *swift.Connection, name string) error {
	for _, file := range cloudsFiles() {
		var clouds cloudsFile
		if err := readClouds(file, &clouds); errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		cloud, ok := clouds.Clouds[name]
		if !ok {
			return fmt.Errorf("%s has no cloud %q", file, name)
		}
		var secure cloudsFile
		err := readClouds(filepath.Join(filepath.Dir(file), "secure.yaml"), &secure)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, auth := range []map[string]string{cloud.Auth, secure.Clouds[name].Auth} {
			applyCloud(conn, auth)
		}
		conn.Region, conn.EndpointType = cloud.Region, swift.EndpointType(cloud.Interface)
		switch {
		case cloud.AuthType == "v1password" || cloud.Version == "1":
			conn.AuthVersion = 1
		case strings.HasPrefix(cloud.AuthType, "v2") || strings.HasPrefix(cloud.Version, "2"):
			conn.AuthVersion = 2
		default:
			conn.AuthVersion = 3
		}
		return nil
	}
	return fmt.Errorf("there is no clouds.yaml for cloud %q; looked for %s", name, strings.Join(cloudsFiles(), ", "))
}

func readClouds(file string, into *cloudsFile) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		// The message may repeat lines of the file, with a password in them.
		return fmt.Errorf("%s is not well-formed YAML, or not a clouds.yaml", file)
	}
	return nil
}

func applyCloud(conn *swift.Connection, auth map[string]string) {
	for name, field := range map[string]*string{
		"auth_url": &conn.AuthUrl, "username": &conn.UserName, "user_id": &conn.UserId, "password": &conn.ApiKey,
		"user_domain_name": &conn.Domain, "user_domain_id": &conn.DomainId,
		"project_name": &conn.Tenant, "project_id": &conn.TenantId, "tenant_name": &conn.Tenant, "tenant_id": &conn.TenantId,
		"project_domain_name": &conn.TenantDomain, "project_domain_id": &conn.TenantDomainId,
		"application_credential_id": &conn.ApplicationCredentialId, "application_credential_name": &conn.ApplicationCredentialName,
		"application_credential_secret": &conn.ApplicationCredentialSecret,
	} {
		if value := auth[name]; value != "" {
			*field = value
		}
	}
}
