package mesos

import (
	"context"
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

// ReadFile reads from a file that an agent's /files endpoints know, such as one in
// a sandbox. agentEndpoint is host:port or a base URL. It may give less than
// length bytes (Mesos reads at most 16 pages at a time), and gives none at the
// end of the file. A file that is not there is fs.ErrNotExist.
func ReadFile(ctx context.Context, agentEndpoint, path string, offset, length int64) ([]byte, error) {
	if offset < 0 || length < 0 {
		return nil, fmt.Errorf("read %s: offset %d, length %d", path, offset, length)
	}
	page, err := readPage(ctx, agentEndpoint, path, offset, length)
	if err != nil {
		return nil, err
	}
	return []byte(page.Data), nil
}

// FileSize gives the size in bytes of a file that an agent's /files endpoints know.
func FileSize(ctx context.Context, agentEndpoint, path string) (int64, error) {
	// Mesos answers a read without a length at offset -1 with the size as offset
	// (src/files/files.cpp).
	page, err := readPage(ctx, agentEndpoint, path, -1, -1)
	return page.Offset, err
}

type filePage struct {
	Data   string `json:"data"`
	Offset int64  `json:"offset"`
}

// fileClient is shared by all agents; logs are read often, from the same ones.
var fileClient = &http.Client{Timeout: 30 * time.Second}

func readPage(ctx context.Context, endpoint, path string, offset, length int64) (page filePage, err error) {
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
	res, err := fileClient.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is named already
		}
		return page, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		details, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		failure := &statusError{code: res.StatusCode, details: strings.TrimSpace(string(details))}
		if res.StatusCode == http.StatusNotFound {
			return page, fmt.Errorf("%w (%w)", fs.ErrNotExist, failure)
		}
		return page, failure
	}
	return page, json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(&page)
}
