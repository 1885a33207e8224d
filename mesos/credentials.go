package mesos

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxCredentials bounds a file of credentials: it holds two words.
const maxCredentials = 64 << 10

// ReadCredentials reads a principal and its secret from a file in one of the forms
// that Mesos' own --credential takes: JSON {"principal": …, "secret": …}, or the
// two words in a line. Its errors show nothing of what the file holds.
func ReadCredentials(path string) (principal, secret string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("credentials for Mesos: %w", err)
	}
	if len(data) > maxCredentials {
		return "", "", fmt.Errorf("credentials for Mesos: %s has over %d bytes", path, maxCredentials)
	}
	if principal, secret, err = parseCredentials(data); err != nil {
		return "", "", fmt.Errorf("credentials for Mesos: %s: %w", path, err)
	}
	return principal, secret, nil
}

func parseCredentials(data []byte) (principal, secret string, err error) {
	text := strings.TrimSpace(string(data))
	if strings.HasPrefix(text, "{") {
		var c struct{ Principal, Secret string }
		if json.Unmarshal([]byte(text), &c) != nil || c.Principal == "" || c.Secret == "" {
			return "", "", errors.New(`want {"principal": …, "secret": …}, both of them strings`)
		}
		return c.Principal, c.Secret, nil
	}
	words := strings.Fields(text)
	if len(words) != 2 {
		return "", "", fmt.Errorf("want a principal and its secret in one line, not %d words", len(words))
	}
	return words[0], words[1], nil
}
