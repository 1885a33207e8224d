package tasklet

import (
	"bytes"
	"strings"
	"testing"
)

func TestSecretRef(t *testing.T) {
	for text, want := range map[string]SecretRef{
		"billing/db#password": {"billing/db", "password"}, "a": {"a", ""}, "A.1/b_2/c-3#d.e": {"A.1/b_2/c-3", "d.e"},
	} {
		if got, err := ParseSecretRef(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/", "/a", "a/", "a//b", "a#", "#a", "a#b#c", "a#b/c", "..", "a/../b", ".a", "a/.b", "a b", "a\nb", "a%2Fb", "é", strings.Repeat("a", MaxSecretRef+1)} {
		if got, err := ParseSecretRef(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
}

func TestSealedSecrets(t *testing.T) {
	key, err := NewSecretKey()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]byte{"A": []byte("one"), "B": {0, 1, 255}}
	sealed, err := SealSecrets(key.Public(), "task-1", values)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.Open("task-1", sealed); err != nil || len(got) != 2 || !bytes.Equal(got["A"], values["A"]) || !bytes.Equal(got["B"], values["B"]) {
		t.Errorf("%v, %v", got, err)
	}
	if bytes.Contains(sealed, []byte("one")) {
		t.Error("the value can be read")
	}
	other, err := NewSecretKey()
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1]++
	for name, open := range map[string]func() (map[string][]byte, error){
		"another task": func() (map[string][]byte, error) { return key.Open("task-2", sealed) },
		"another key":  func() (map[string][]byte, error) { return other.Open("task-1", sealed) },
		"damaged":      func() (map[string][]byte, error) { return key.Open("task-1", damaged) },
		"empty":        func() (map[string][]byte, error) { return key.Open("task-1", nil) },
	} {
		if got, err := open(); err == nil {
			t.Errorf("%s: opened as %v", name, got)
		}
	}
	if _, err := SealSecrets([]byte("short"), "task-1", values); err == nil {
		t.Error("sealed with what is no key")
	}
}
