package mesos

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// AgentFiles reads files of agents, such as logs in sandboxes.
type AgentFiles struct {
	client            http.Client
	principal, secret string
}

// NewAgentFiles makes a reader for agents that ask for credentials or serve https; all
// may be empty. It shares connections: logs are read often, from the same agents.
func NewAgentFiles(config *tls.Config, principal, secret string) *AgentFiles {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config.Clone()
	return &AgentFiles{
		client:    http.Client{Timeout: 30 * time.Second, Transport: transport, CheckRedirect: noRedirect},
		principal: principal, secret: secret,
	}
}

// noRedirect keeps credentials where they belong: agents redirect nowhere.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

var anonymous = NewAgentFiles(nil, "", "")

// ReadFile is AgentFiles.Read for agents that let everybody read.
func ReadFile(ctx context.Context, agentEndpoint, path string, offset, length int64) ([]byte, error) {
	return anonymous.Read(ctx, agentEndpoint, path, offset, length)
}

// FileSize is AgentFiles.Size for agents that let everybody read.
func FileSize(ctx context.Context, agentEndpoint, path string) (int64, error) {
	return anonymous.Size(ctx, agentEndpoint, path)
}

// Read reads from a file that an agent's /files endpoints know, such as one in a
// sandbox. agentEndpoint is Agent.Endpoint: host:port, or a base URL. It may give
// less than length bytes (Mesos reads at most 16 pages at a time), and gives none at
// the end of the file. A file that is not there is fs.ErrNotExist.
func (f *AgentFiles) Read(ctx context.Context, agentEndpoint, path string, offset, length int64) ([]byte, error) {
	if offset < 0 || length < 0 {
		return nil, fmt.Errorf("read %s: offset %d, length %d", path, offset, length)
	}
	page, err := f.page(ctx, agentEndpoint, path, offset, length)
	if err != nil {
		return nil, err
	}
	return []byte(page.Data), nil
}

// Size gives the size in bytes of a file that an agent's /files endpoints know.
func (f *AgentFiles) Size(ctx context.Context, agentEndpoint, path string) (int64, error) {
	// Mesos answers a read without a length at offset -1 with the size as offset
	// (src/files/files.cpp).
	page, err := f.page(ctx, agentEndpoint, path, -1, -1)
	return page.Offset, err
}

type filePage struct {
	Data   string `json:"data"`
	Offset int64  `json:"offset"`
}

func (f *AgentFiles) page(ctx context.Context, endpoint, path string, offset, length int64) (page filePage, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read %s from agent %s: %w", path, endpoint, err)
		}
	}()
	base := endpoint
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	query := url.Values{"path": {path}, "offset": {strconv.FormatInt(offset, 10)}}
	if length >= 0 {
		query.Set("length", strconv.FormatInt(length, 10))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/files/read?"+query.Encode(), nil)
	if err != nil {
		return page, err
	}
	if f.principal != "" && f.secret != "" {
		req.SetBasicAuth(f.principal, f.secret)
	}
	res, err := f.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is named already
		}
		return page, adviseTLS(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		details, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		failure := &statusError{code: res.StatusCode, details: strings.TrimSpace(string(details))}
		if res.StatusCode == http.StatusNotFound {
			return page, fmt.Errorf("%w (%w)", fs.ErrNotExist, failure)
		}
		if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
			return page, fmt.Errorf("the agent does not let principal %q read it: set Mesos credentials that its --http_credentials and --acls know (%w)", f.principal, failure)
		}
		return page, failure
	}
	return page, json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(&page)
}
