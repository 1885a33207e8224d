package remote

import "unicode/utf8"

// Text gives the longest beginning of s that is UTF-8, which is all that servers
// take, and whether that is the whole. Keys are UTF-8: none begins with another
// prefix, and listing after another name is listing after its beginning, less what
// is not after it.
func Text(s string) (text string, whole bool) {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return s[:i], false
			}
		}
	}
	return s, true
}
