package tasklet

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"
	"fmt"
)

// Framework messages pass the Mesos master and the agent, in clear where these do
// not speak TLS. So secrets are sealed for the executor (HPKE, RFC 9180) with a key
// that it makes for one request and never stores. This hides them from whoever
// listens, not from a master or agent that puts a key of its own into the request.

// SecretKey opens one answer.
type SecretKey struct{ private *ecdh.PrivateKey }

// NewSecretKey makes a key; Public goes into the Request.
func NewSecretKey() (*SecretKey, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &SecretKey{private}, nil
}

// Public is the part that others may see.
func (k *SecretKey) Public() []byte { return k.private.PublicKey().Bytes() }

// sealInfo binds an answer to its task: another one cannot open it.
func sealInfo(taskID string) []byte { return []byte("baas secrets 1\n" + taskID) }

// SealSecrets encrypts values by Secret.Name for the task that sent the public key.
func SealSecrets(public []byte, taskID string, values map[string][]byte) ([]byte, error) {
	point, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("key of the executor: %w", err)
	}
	key, err := hpke.NewDHKEMPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("key of the executor: %w", err)
	}
	plain, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return hpke.Seal(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(taskID), plain)
}

// Open decrypts what SealSecrets made for this key and task.
func (k *SecretKey) Open(taskID string, sealed []byte) (map[string][]byte, error) {
	key, err := hpke.NewDHKEMPrivateKey(k.private)
	if err != nil {
		return nil, err
	}
	plain, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), sealInfo(taskID), sealed)
	if err != nil {
		return nil, fmt.Errorf("the secrets cannot be opened: %w", err)
	}
	defer clear(plain)
	var values map[string][]byte
	if json.Unmarshal(plain, &values) != nil { // whose error could quote it
		return nil, fmt.Errorf("the secrets cannot be read")
	}
	return values, nil
}
