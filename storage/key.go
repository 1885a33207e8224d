package storage

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a key, in bytes. They are what S3, Swift and common file systems
// hold in common.
const (
	MaxKeyLength       = 1023
	MaxComponentLength = 254 // of what stands between two slashes
)

// ReservedPrefix begins the names, in a store's top level, that belong to the
// backends. No key starts with it.
const ReservedPrefix = ".baas"

// CheckKey tells whether every store can hold key; ErrInvalidKey if not. A key
// is UTF-8 without control characters: components separated by "/", none of
// them empty, "." or "..", none too long. The rule that no key is also a
// directory of another ("x" and "x/y") is the stores' to enforce where they can.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: it is empty", ErrInvalidKey)
	}
	if problem := keyProblem(key); problem != "" {
		return fmt.Errorf("%w %s: %s", ErrInvalidKey, quoteShort(key), problem)
	}
	return nil
}

func keyProblem(key string) string {
	switch {
	case len(key) > MaxKeyLength:
		return fmt.Sprintf("%d bytes, at most %d are allowed", len(key), MaxKeyLength)
	case !utf8.ValidString(key):
		return "not UTF-8"
	case strings.HasPrefix(key, "/"):
		return `starts with "/"`
	case strings.HasSuffix(key, "/"):
		return `ends with "/"`
	case strings.HasPrefix(key, ReservedPrefix):
		return fmt.Sprintf("starts with %q, which is reserved", ReservedPrefix)
	}
	for component := range strings.SplitSeq(key, "/") {
		switch {
		case component == "":
			return `has "//" in it`
		case component == ".", component == "..":
			return fmt.Sprintf("has a component %q", component)
		case len(component) > MaxComponentLength:
			return fmt.Sprintf("has a component of %d bytes, at most %d are allowed", len(component), MaxComponentLength)
		}
	}
	for i, r := range key {
		if unicode.IsControl(r) {
			return fmt.Sprintf("has the control character %U at byte %d", r, i)
		}
	}
	return ""
}

// quoteShort keeps error messages readable when a key is huge.
func quoteShort(key string) string {
	const most = 120
	if len(key) <= most {
		return fmt.Sprintf("%q", key)
	}
	return fmt.Sprintf("%q...", key[:most])
}
