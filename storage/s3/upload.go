package s3

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

// SignURL implements storage.Store. With the credentials of a role it may die
// before opts.Expires, together with them.
func (s *Store) SignURL(ctx context.Context, key string, opts storage.SignOptions) (storage.Signed, error) {
	name, err := s.names.Object(ctx, key)
	if err == nil {
		err = storage.CheckSign(opts)
	}
	if err != nil {
		return storage.Signed{}, fmt.Errorf("sign: %w", err)
	}
	s.askTime(ctx)
	expires := s3.WithPresignExpires(opts.Expires)
	if opts.Method == http.MethodGet {
		request, err := s.presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &s.o.Bucket, Key: &name}, expires)
		if err != nil {
			return storage.Signed{}, s.failed(ctx, "sign", key, err)
		}
		return signed(request), nil
	}
	request, err := s.presign.PresignPutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.o.Bucket, Key: &name, ServerSideEncryption: s.encryption(), SSEKMSKeyId: s.kmsKey(),
	}, expires)
	if err != nil {
		return storage.Signed{}, s.failed(ctx, "sign", key, err)
	}
	return signed(request), nil
}

// signed is a URL with the headers that are signed with it, but for those that any
// client sends by itself.
func signed(request *v4.PresignedHTTPRequest) storage.Signed {
	s := storage.Signed{URL: request.URL}
	for name, values := range request.SignedHeader {
		if name = http.CanonicalHeaderKey(name); name == "Host" || len(values) == 0 {
			continue
		}
		if s.Header == nil {
			s.Header = make(map[string]string)
		}
		s.Header[name] = values[0]
	}
	return s
}

// CreateUpload implements storage.Store.
func (s *Store) CreateUpload(ctx context.Context, key string) (string, error) {
	name, err := s.names.Object(ctx, key)
	if err != nil {
		return "", fmt.Errorf("create upload: %w", err)
	}
	id, err := s.begin(ctx, name, nil)
	if err != nil {
		return "", s.failed(ctx, "create upload of", key, err)
	}
	return *id, nil
}

func (s *Store) begin(ctx context.Context, name string, contentType *string) (*string, error) {
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.o.Bucket, Key: &name, ContentType: contentType,
		ServerSideEncryption: s.encryption(), SSEKMSKeyId: s.kmsKey(),
	})
	if err == nil && aws.ToString(out.UploadId) == "" {
		err = errors.New("the server gives the upload no ID")
	}
	if err != nil {
		return nil, err
	}
	return out.UploadId, nil
}

// SignPart implements storage.Store; see SignURL.
func (s *Store) SignPart(ctx context.Context, key, uploadID string, part int, opts storage.SignOptions) (storage.Signed, error) {
	name, err := s.names.Object(ctx, key)
	opts.Method = http.MethodPut
	if err := errors.Join(err, storage.CheckSign(opts), storage.CheckPartNumber(part, s.Capabilities())); err != nil {
		return storage.Signed{}, fmt.Errorf("sign part: %w", err)
	}
	s.askTime(ctx)
	request, err := s.presign.PresignUploadPart(ctx, &s3.UploadPartInput{
		Bucket: &s.o.Bucket, Key: &name, UploadId: &uploadID, PartNumber: aws.Int32(int32(part)),
	}, s3.WithPresignExpires(opts.Expires))
	if err != nil {
		return storage.Signed{}, s.failed(ctx, "sign part of", key, err)
	}
	return signed(request), nil
}

// CompleteUpload implements storage.Store.
func (s *Store) CompleteUpload(ctx context.Context, key, uploadID string, parts []storage.UploadPart) (storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err == nil {
		err = checkUpload(uploadID)
	}
	if err := errors.Join(err, storage.CheckParts(parts, s.Capabilities())); err != nil {
		return storage.Info{}, fmt.Errorf("complete upload: %w", err)
	}
	if _, err = s.join(ctx, key, name, uploadID, parts, false); err != nil {
		return storage.Info{}, s.failed(ctx, "complete upload of", key, err)
	}
	return s.Stat(ctx, key)
}

// join makes an object of parts. Of the answer only the ETag is sure.
func (s *Store) join(ctx context.Context, key, name, id string, parts []storage.UploadPart, ifAbsent bool) (storage.Info, error) {
	done := make([]types.CompletedPart, len(parts))
	for i, part := range parts {
		done[i] = types.CompletedPart{PartNumber: aws.Int32(int32(part.Number)), ETag: &part.ETag}
	}
	s.joins.begin(id)
	out, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.o.Bucket, Key: &name, UploadId: &id, IfNoneMatch: ifNoneMatch(ifAbsent),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	}, withoutRace(ifAbsent))
	if err == nil || isRefusal(err) {
		s.joins.end(id)
	}
	if isCode(err, "NoSuchUpload", "NoSuchKey", "NotFound") {
		// The upload is gone: by this very call, made before, if its object is there.
		info, statErr := s.Stat(ctx, key)
		if statErr == nil && info.ETag == joined(parts) {
			return info, nil
		}
	}
	if err != nil {
		return storage.Info{}, err
	}
	return storage.Info{Key: key, ETag: storage.TrimETag(aws.ToString(out.ETag))}, nil
}

// isRefusal tells whether the last try of a call had an answer that says no.
func isRefusal(err error) bool {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	status := response.HTTPStatusCode()
	return status >= 400 && status < 499 && status != http.StatusRequestTimeout
}

// joins are the uploads whose parts may become an object at any moment: servers go on
// with a call whose client has left, and Swift's S3 API takes the parts away from
// below it when the upload is aborted then.
type joins struct {
	mu    sync.Mutex
	since map[string]time.Time // by ID
}

func (j *joins) begin(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	maps.DeleteFunc(j.since, func(_ string, since time.Time) bool { return time.Since(since) > remote.Settled })
	if j.since == nil {
		j.since = make(map[string]time.Time)
	}
	j.since[id] = time.Now()
}

func (j *joins) end(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.since, id)
}

func (j *joins) open(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	since, ok := j.since[id]
	return ok && time.Since(since) < remote.Settled
}

// checkUpload keeps what is surely no ID away from the server.
func checkUpload(id string) error {
	if id == "" || id != url.PathEscape(id) {
		return fmt.Errorf("%w: upload %q", storage.ErrNotExist, id)
	}
	return nil
}

// AbortUpload implements storage.Store.
func (s *Store) AbortUpload(ctx context.Context, key, uploadID string) error {
	name, err := s.names.Object(ctx, key)
	if err != nil {
		return fmt.Errorf("abort upload: %w", err)
	}
	if checkUpload(uploadID) != nil {
		return nil
	}
	return s.failed(ctx, "abort upload of", key, s.abort(ctx, name, &uploadID))
}

// abort leaves parts that may still become an object: ListUploads shows them.
func (s *Store) abort(ctx context.Context, name string, id *string) error {
	if s.joins.open(*id) {
		return nil
	}
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.o.Bucket, Key: &name, UploadId: id})
	if isCode(err, "NoSuchUpload", "NoSuchKey", "NotFound") {
		return nil
	}
	return err
}

// ListUploads implements storage.Store.
func (s *Store) ListUploads(ctx context.Context, prefix string) (uploads []storage.Upload, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.o.Bucket, Prefix: aws.String(s.names.Of(prefix)), EncodingType: types.EncodingTypeUrl}
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return nil, s.failed(ctx, "list uploads of", prefix, err)
		}
		for _, u := range out.Uploads {
			name, err := decoded(u.Key, out.EncodingType)
			if err != nil {
				return nil, fmt.Errorf("list uploads: %w", err)
			}
			if key, ours := s.names.Key(name); ours {
				uploads = append(uploads, storage.Upload{Key: key, ID: aws.ToString(u.UploadId), Created: aws.ToTime(u.Initiated)})
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return uploads, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}
