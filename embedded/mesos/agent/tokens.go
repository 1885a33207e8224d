package agent

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// tokens issues and reads executors' tokens: JSON web tokens signed by
// HMAC-SHA256, as Mesos' own are. Without a key there are none.
type tokens struct{ key []byte }

// claims name one run of an executor, in Mesos' words.
type claims struct {
	Framework string `json:"fid"`
	Executor  string `json:"eid"`
	Container string `json:"cid"`
}

// openTokens keeps the key in a file, so that tokens outlive the agent.
func openTokens(path string) (tokens, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key)
		err = os.WriteFile(path, key, 0o600)
	}
	if err == nil && len(key) < 32 {
		err = errors.New(path + ": key is too short")
	}
	return tokens{key}, err
}

var tokenHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

func (e *executorRun) claims() claims {
	return claims{e.framework.Value, e.id().Value, e.containerID}
}

func (t tokens) issue(e *executorRun) string {
	payload, err := json.Marshal(e.claims())
	if err != nil {
		panic(err) // three strings
	}
	signed := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + t.sign(signed)
}

func (t tokens) sign(s string) string {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(s))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// read gives the claims of a header Authorization, if they are ours.
func (t tokens) read(authorization string) (claims, bool) {
	scheme, token, _ := strings.Cut(authorization, " ")
	cut := strings.LastIndexByte(token, '.')
	if !strings.EqualFold(scheme, "Bearer") || cut < 0 {
		return claims{}, false
	}
	signed, signature := token[:cut], token[cut+1:]
	if !hmac.Equal([]byte(t.sign(signed)), []byte(signature)) {
		return claims{}, false
	}
	_, payload, _ := strings.Cut(signed, ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return claims{}, false
	}
	var c claims
	return c, json.Unmarshal(data, &c) == nil
}
