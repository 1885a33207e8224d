package storage

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/baas-batch/baas/storage/internal/trust"
)

// trialPrefix is where Try puts its objects.
const trialPrefix = "checks/"

// Try uses a store as the platform does, with small objects under "checks/" that are
// gone afterwards, and tells of each thing that was tried. It returns the first error.
func Try(ctx context.Context, s Store, tell func(what string, took time.Duration, err error)) (err error) {
	client, err := signedClient(s.Capabilities().PrivateCA)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	content := []byte("written by a check of the storage\n")
	key := trialPrefix + time.Now().UTC().Format("20060102T150405.000000000Z")
	do := func(what string, f func() error) {
		if err != nil {
			return
		}
		began := time.Now()
		err = f()
		tell(what, time.Since(began), err)
	}
	do("put", func() error { _, err := PutBytes(ctx, s, key, content); return err })
	do("get", func() error {
		got, _, err := GetBytes(ctx, s, key, 1<<10)
		if err == nil && !bytes.Equal(got, content) {
			err = ErrCorrupt
		}
		return err
	})
	do("list", func() error {
		page, err := s.List(ctx, ListOptions{Prefix: key})
		if err == nil && len(page.Items) != 1 {
			err = fmt.Errorf("the listing has %d objects where one was put", len(page.Items))
		}
		return err
	})
	do("signed URL to get", func() error {
		return open(ctx, client, s, key, SignOptions{Method: http.MethodGet, Expires: time.Minute}, content, nil)
	})
	do("signed URL to put", func() error {
		return open(ctx, client, s, key, SignOptions{Method: http.MethodPut, Expires: time.Minute}, nil, content)
	})
	do("upload in parts, aborted", func() error {
		id, err := s.CreateUpload(ctx, key)
		if err != nil {
			return err
		}
		return s.AbortUpload(ctx, key, id)
	})
	left := s.Delete(context.WithoutCancel(ctx), key)
	if err == nil {
		tell("delete", 0, left)
	}
	return errors.Join(err, left)
}

// signedClient trusts what an executor trusts: the system, and the store's own CA.
func signedClient(pem string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if pem != "" {
		roots, ok := trust.Pool([]byte(pem))
		if !ok {
			return nil, errors.New("the store's CA is no certificate in PEM form")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}, nil
}

// open uses a signed URL without credentials, as an executor does.
func open(ctx context.Context, client *http.Client, s Store, key string, opts SignOptions, want, send []byte) error {
	signed, err := s.SignURL(ctx, key, opts)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, opts.Method, signed.URL, bytes.NewReader(send))
	if err != nil {
		return errors.New("the signed URL cannot be read") // the error has the URL in it
	}
	for name, value := range signed.Header {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		// Nor may the URL stand in this one.
		return fmt.Errorf("the signed URL leads nowhere: %s", strings.ReplaceAll(err.Error(), signed.URL, "…"))
	}
	defer response.Body.Close()
	got, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	switch {
	case err != nil:
		return fmt.Errorf("the signed URL's answer breaks off: %w", err)
	case response.StatusCode >= 300:
		return fmt.Errorf("the signed URL is answered with %s: %s", response.Status, got)
	case want != nil && !bytes.Equal(got, want):
		return ErrCorrupt
	}
	return nil
}
