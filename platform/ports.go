package platform

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
)

// rememberPort keeps the port of a URL for the next start.
func rememberPort(path, rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return err
	}
	data, err := json.Marshal(struct{ Port int }{port})
	if err != nil {
		return err
	}
	return writeFile(path, bytes.NewReader(data), 0o644)
}
