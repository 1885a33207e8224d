// Package storage is the one abstraction over object stores. A Store is chosen
// by URL, outside the code; flow files and tasklets never name one.
package storage

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that every Store returns, wrapped with the key and the cause.
var (
	ErrNotExist   = errors.New("no such object")
	ErrExist      = errors.New("object exists already")
	ErrInvalidKey = errors.New("invalid key")
	// ErrInvalidPart: CompleteUpload was given a part that was never sent, was
	// sent again since, or stands out of order.
	ErrInvalidPart = errors.New("invalid part")
	// ErrChanged: an object was replaced while it was read.
	ErrChanged = errors.New("the object was replaced while it was read")
)

// Store holds immutable-by-convention objects under keys (see CheckKey).
//
// Put and CompleteUpload make an object visible as a whole or not at all, also
// when the process dies half-way. A reader sees either the old or the new
// object. No method may rest on atomic creation unless Capabilities says so.
type Store interface {
	// Put stores r, of unknown length, under key and replaces what was there.
	// When r or ctx fails, nothing is visible and nothing is left behind.
	// With PutOptions.IfAbsent and AtomicCreate, ErrExist if the key is taken.
	Put(ctx context.Context, key string, r io.Reader, opts PutOptions) (Info, error)
	// Get opens length bytes from offset; length < 0 means to the end. An offset
	// beyond the end gives an empty reader. ErrNotExist.
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error)
	// Stat gives size and time. ErrNotExist.
	Stat(ctx context.Context, key string) (Info, error)
	// List gives keys that start with Prefix, after After, in byte order, at
	// most Limit (0: the store's page size, at most 1,000). An empty page is no error.
	List(ctx context.Context, opts ListOptions) (Page, error)
	// Delete removes an object. Deleting what is not there succeeds.
	Delete(ctx context.Context, key string) error

	// SignURL gives a URL that lets its bearer GET or PUT exactly this object
	// until it expires. GET serves Range requests; PUT stores as Put does.
	SignURL(ctx context.Context, key string, opts SignOptions) (Signed, error)

	// CreateUpload begins a multipart upload; nothing is visible under key until
	// CompleteUpload. Parts are numbered from 1 to MaxParts; all but the last
	// have at least MinPartSize bytes. A part may be sent again: the last one counts.
	CreateUpload(ctx context.Context, key string) (uploadID string, err error)
	// SignPart gives a URL to PUT one part; the answer carries its ETag header. Signed.Header
	// is the same for all parts of an upload.
	SignPart(ctx context.Context, key, uploadID string, part int, opts SignOptions) (Signed, error)
	// CompleteUpload joins the parts, in the order given, which is ascending (see
	// CheckParts). Repeating it after success succeeds. ErrNotExist for an upload
	// that was aborted or never was, ErrInvalidPart.
	CompleteUpload(ctx context.Context, key, uploadID string, parts []UploadPart) (Info, error)
	// AbortUpload throws all parts away. Aborting what is not there succeeds. Parts that
	// a CompleteUpload without an answer may still make an object of are left as they
	// are; ListUploads shows them, and an hour later they can be aborted.
	AbortUpload(ctx context.Context, key, uploadID string) error
	// ListUploads gives unfinished uploads under a prefix, for sweeping.
	ListUploads(ctx context.Context, prefix string) ([]Upload, error)

	Capabilities() Capabilities
	Close() error
}

// Capabilities tells what a store can do beyond the contract.
type Capabilities struct {
	AtomicCreate bool  // PutOptions.IfAbsent holds among concurrent writers
	MinPartSize  int64 // bytes
	MaxParts     int
	ParallelGet  bool // ranges that are fetched side by side come faster than one stream
	// PrivateCA is PEM of the authorities that signed URLs need beside those that a
	// system trusts; "": none.
	PrivateCA string
}

// Info describes one object.
type Info struct {
	Key      string
	Size     int64 // bytes
	Modified time.Time
	ETag     string // opaque; changes when the content changes
}

// PutOptions are the options of Put.
type PutOptions struct {
	ContentType string
	IfAbsent    bool // honoured only where AtomicCreate is true; else an error
}

// SignOptions are the options of SignURL and SignPart.
type SignOptions struct {
	Method  string        // http.MethodGet or http.MethodPut; SignPart always means PUT
	Expires time.Duration // how long the URL opens the object; at most 7 days
}

// Signed is a signed URL.
type Signed struct {
	URL string
	// Header must be sent with it, as it stands; nil for none, and always with GET.
	Header map[string]string
}

// UploadPart is one part of a multipart upload.
type UploadPart struct {
	Number int
	ETag   string
}

// Upload is an unfinished multipart upload.
type Upload struct {
	Key     string
	ID      string
	Created time.Time
}

// ListOptions are the options of List.
type ListOptions struct {
	Prefix string
	After  string // exclusive
	Limit  int
}

// Page is one page of a listing.
type Page struct {
	Items []Info
	Next  string // After of the next page; "" when there is none
}
