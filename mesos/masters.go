package mesos

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// Schemes of Config.Masters that name no master themselves.
const (
	schemeZK   = "zk://"
	schemeFile = "file://"
)

// zkAddress is a path of a ZooKeeper ensemble.
type zkAddress struct {
	servers []string // host:port
	path    string   // begins with a slash
	auth    string   // user:password of the digest scheme, or ""
}

// String leaves the password out.
func (a zkAddress) String() string { return schemeZK + strings.Join(a.servers, ",") + a.path }

// SplitMasters splits a list of addresses of masters at its commas, but for those
// between the servers of a zk:// address.
func SplitMasters(list string) []string {
	var out []string
	inside := false // a zk:// address whose path is to come
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if inside && !strings.Contains(part, "://") {
			out[len(out)-1] += "," + part
		} else if part != "" {
			out = append(out, part)
		}
		if strings.HasPrefix(part, schemeZK) {
			inside = !hasPath(part[len(schemeZK):])
		} else if inside {
			inside = !hasPath(part)
		}
	}
	return out
}

// hasPath tells whether a part of a zk:// address holds the slash before its path.
// A password may hold one too: what follows the last @ counts.
func hasPath(part string) bool {
	return strings.Contains(part[strings.LastIndex(part, "@")+1:], "/")
}

// resolveMasters sorts the addresses of Config.Masters: base URLs of masters, and
// at most one ZooKeeper. What file:// names holds more of them; Mesos reads
// --master=file:///path in the same way.
func resolveMasters(entries []string) (urls []string, zk *zkAddress, err error) {
	for _, entry := range entries {
		for _, s := range SplitMasters(entry) {
			var more []string
			var found *zkAddress
			switch {
			case strings.HasPrefix(s, schemeZK):
				found, err = parseZK(s)
			case strings.HasPrefix(s, schemeFile):
				more, found, err = readMasters(strings.TrimPrefix(s, schemeFile))
			default:
				var base string
				base, err = masterURL(s)
				more = []string{base}
			}
			if err != nil {
				return nil, nil, err
			}
			if zk != nil && found != nil {
				return nil, nil, errors.New("two addresses of ZooKeeper: name all servers of one ensemble in one, zk://a:2181,b:2181/mesos")
			}
			if found != nil {
				zk = found
			}
			for _, base := range more {
				if !slices.Contains(urls, base) {
					urls = append(urls, base)
				}
			}
		}
	}
	if len(urls) == 0 && zk == nil {
		return nil, nil, errors.New("no address of a Mesos master")
	}
	return urls, zk, nil
}

// readMasters reads addresses from a file, one or more to a line.
func readMasters(path string) (urls []string, zk *zkAddress, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("addresses of the Mesos masters: %w", err)
	}
	if strings.Contains(string(data), schemeFile) {
		return nil, nil, fmt.Errorf("addresses of the Mesos masters: %s names another file", path)
	}
	urls, zk, err = resolveMasters(strings.Split(strings.TrimSpace(string(data)), "\n"))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return urls, zk, nil
}

// parseZK reads zk://[user:password@]host[:port],…/path. Its errors show no password.
func parseZK(s string) (*zkAddress, error) {
	rest := strings.TrimPrefix(s, schemeZK)
	a := &zkAddress{}
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		a.auth, rest = rest[:i], rest[i+1:]
		if user, password, _ := strings.Cut(a.auth, ":"); user == "" || password == "" {
			return nil, errors.New("address of ZooKeeper: want user:password before the @")
		}
	}
	hosts, path, _ := strings.Cut(rest, "/")
	a.path = "/" + strings.Trim(path, "/")
	if a.path == "/" {
		return nil, fmt.Errorf("address of ZooKeeper %q: want the path of the masters' --zk, such as zk://host:2181/mesos", schemeZK+rest)
	}
	for host := range strings.SplitSeq(hosts, ",") {
		server, err := zkServer(strings.TrimSpace(host))
		if err != nil {
			return nil, err
		}
		a.servers = append(a.servers, server)
	}
	return a, nil
}

func zkServer(s string) (string, error) {
	u, err := url.Parse("//" + s)
	if err != nil || u.Hostname() == "" || u.Host != s {
		return "", fmt.Errorf("address of ZooKeeper: %q is no host:port", s)
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "2181"), nil
	}
	return s, nil
}

func masterURL(s string) (string, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		var inside *url.Error
		if errors.As(err, &inside) {
			err = inside.Err // without the address, which may hold a password
		}
		return "", fmt.Errorf("address of a Mesos master: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("address of a Mesos master %q: want http://host:port, https://host:port or zk://host:port/path", u.Redacted())
	}
	if u.Hostname() == "" || u.User != nil {
		return "", fmt.Errorf("address of a Mesos master %q: want a host and no credentials in it", u.Redacted())
	}
	if u.Port() == "" {
		u.Host += ":5050"
	}
	return u.Scheme + "://" + u.Host, nil
}
