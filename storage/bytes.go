package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ErrTooLarge is returned by GetBytes and GetJSON for an object over the limit.
var ErrTooLarge = errors.New("object is too large")

// PutBytes stores b under key.
func PutBytes(ctx context.Context, s Store, key string, b []byte) (Info, error) {
	return s.Put(ctx, key, bytes.NewReader(b), PutOptions{})
}

// PutJSON stores v as JSON under key.
func PutJSON(ctx context.Context, s Store, key string, v any) (Info, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Info{}, fmt.Errorf("put %q as JSON: %w", key, err)
	}
	return s.Put(ctx, key, bytes.NewReader(b), PutOptions{ContentType: "application/json"})
}

// GetBytes reads a whole object of at most limit bytes; ErrTooLarge beyond,
// ErrNotExist.
func GetBytes(ctx context.Context, s Store, key string, limit int64) (_ []byte, _ Info, err error) {
	r, info, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, Info{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if info.Size > limit {
		return nil, info, fmt.Errorf("get %q: %w: %d bytes, the limit is %d", key, ErrTooLarge, info.Size, limit)
	}
	b := make([]byte, info.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, info, fmt.Errorf("get %q: %w", key, err)
	}
	return b, info, nil
}

// GetJSON reads an object of at most limit bytes into v; ErrTooLarge, ErrNotExist.
func GetJSON(ctx context.Context, s Store, key string, limit int64, v any) error {
	b, _, err := GetBytes(ctx, s, key, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("get %q as JSON: %w", key, err)
	}
	return nil
}

// All goes over every key that opts selects, page by page, in byte order.
// opts.Limit is the size of a page. After an error it ends.
func All(ctx context.Context, s Store, opts ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for {
			page, err := s.List(ctx, opts)
			if err != nil {
				yield(Info{}, err)
				return
			}
			for _, info := range page.Items {
				if !yield(info, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			opts.After = page.Next
		}
	}
}
