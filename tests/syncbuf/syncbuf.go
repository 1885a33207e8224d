// Package syncbuf keeps what many goroutines or a process write, for tests.
package syncbuf

import (
	"bytes"
	"sync"
)

// Buffer is a bytes.Buffer for writers and readers side by side. The zero value is
// ready for use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Tail is the end of String, as a person wants to see it.
func (b *Buffer) Tail() string {
	const most = 8 << 10
	s := b.String()
	return s[max(0, len(s)-most):]
}
