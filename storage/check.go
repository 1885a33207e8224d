package storage

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// MaxSignedTime is the longest time that a signed URL may live (the limit of S3).
const MaxSignedTime = 7 * 24 * time.Hour

// MaxPage is the most keys that one page of a listing has.
const MaxPage = 1000

// PageLimit turns ListOptions.Limit into the number of keys to give.
func PageLimit(limit int) int {
	if limit <= 0 || limit > MaxPage {
		return MaxPage
	}
	return limit
}

// CheckSign tells whether SignURL can honour opts.
func CheckSign(opts SignOptions) error {
	if opts.Method != http.MethodGet && opts.Method != http.MethodPut {
		return fmt.Errorf("signed URL for method %q: only GET and PUT can be signed", opts.Method)
	}
	if opts.Expires <= 0 || opts.Expires > MaxSignedTime {
		return fmt.Errorf("signed URL for %v: want more than 0 and at most %v", opts.Expires, MaxSignedTime)
	}
	return nil
}

// CheckPartNumber tells whether an upload can have a part of that number;
// ErrInvalidPart if not.
func CheckPartNumber(part int, c Capabilities) error {
	if part < 1 || part > c.MaxParts {
		return fmt.Errorf("%w %d: part numbers go from 1 to %d", ErrInvalidPart, part, c.MaxParts)
	}
	return nil
}

// CheckParts tells whether CompleteUpload can be given these parts: at least
// one, their numbers ascending, each with its ETag. ErrInvalidPart if not. S3
// refuses any other list, so every store does.
func CheckParts(parts []UploadPart, c Capabilities) error {
	if len(parts) == 0 {
		return fmt.Errorf("%w list: it is empty; an empty object has one empty part", ErrInvalidPart)
	}
	last := 0
	for _, part := range parts {
		if err := CheckPartNumber(part.Number, c); err != nil {
			return err
		}
		if part.Number <= last {
			return fmt.Errorf("%w %d: it stands after part %d, numbers must ascend", ErrInvalidPart, part.Number, last)
		}
		if TrimETag(part.ETag) == "" {
			return fmt.Errorf("%w %d: it has no ETag", ErrInvalidPart, part.Number)
		}
		last = part.Number
	}
	return nil
}

// TrimETag takes the quotes of an HTTP header off an ETag.
func TrimETag(etag string) string {
	return strings.Trim(etag, `"`)
}
