package remote

import "fmt"

// Range is the value of a Range header for length bytes from offset; length < 0
// means to the end. "" is the whole.
func Range(offset, length int64) string {
	switch {
	case length >= 0:
		return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
	case offset > 0:
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return ""
}
