package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

// Put implements storage.Store. What is longer than a part goes up in parts, side by
// side; each call carries the MD5 of its body, which every server compares.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err == nil && opts.IfAbsent && s.o.NoConditions {
		err = errors.New("this store cannot create an object only if there is none (conditions=false)")
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("put: %w", err)
	}
	p := &put{s: s, key: key, name: name, opts: opts}
	size, err := remote.Split(ctx, r, s.plan, remote.Sinks{Whole: p.whole, Begin: p.begin, Send: p.send, Join: p.join, Abort: p.abort})
	if err != nil {
		return storage.Info{}, s.failed(ctx, "put", key, err)
	}
	// Near enough: the server's own time would cost another call.
	return storage.Info{Key: key, Size: size, Modified: time.Now(), ETag: p.etag}, nil
}

// put is one Put on its way.
type put struct {
	s         *Store
	key, name string
	opts      storage.PutOptions

	id    *string // of the multipart upload, once it has begun
	etags []string
	etag  string // of the object
}

func ifNoneMatch(ifAbsent bool) *string {
	if ifAbsent {
		return aws.String("*")
	}
	return nil
}

func (p *put) contentType() *string {
	if p.opts.ContentType == "" {
		return nil
	}
	return &p.opts.ContentType
}

func (p *put) whole(ctx context.Context, body []byte) error {
	out, err := p.s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &p.s.o.Bucket, Key: &p.name, Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))), ContentMD5: sumOf(body),
		ContentType: p.contentType(), IfNoneMatch: ifNoneMatch(p.opts.IfAbsent),
		ServerSideEncryption: p.s.encryption(), SSEKMSKeyId: p.s.kmsKey(),
	}, withoutRace(p.opts.IfAbsent))
	if err == nil {
		p.etag = storage.TrimETag(aws.ToString(out.ETag))
	}
	return err
}

func (p *put) begin(ctx context.Context) (err error) {
	p.etags = make([]string, p.s.plan.Parts)
	p.id, err = p.s.begin(ctx, p.name, p.contentType())
	return err
}

func (p *put) send(ctx context.Context, part remote.Part) error {
	out, err := p.s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &p.s.o.Bucket, Key: &p.name, UploadId: p.id, PartNumber: aws.Int32(int32(part.Number)),
		Body: bytes.NewReader(part.Body), ContentLength: aws.Int64(int64(len(part.Body))), ContentMD5: sumOf(part.Body),
	})
	if err == nil {
		p.etags[part.Number-1] = aws.ToString(out.ETag)
	}
	return err
}

func (p *put) join(ctx context.Context, parts int) error {
	list := make([]storage.UploadPart, parts)
	for i := range list {
		list[i] = storage.UploadPart{Number: i + 1, ETag: p.etags[i]}
	}
	info, err := p.s.join(ctx, p.key, p.name, *p.id, list, p.opts.IfAbsent)
	p.etag = info.ETag
	return err
}

func (p *put) abort(ctx context.Context) error {
	if p.id == nil {
		return nil
	}
	return p.s.abort(ctx, p.name, p.id)
}

func (s *Store) encryption() types.ServerSideEncryption {
	return types.ServerSideEncryption(s.o.Encryption)
}

func (s *Store) kmsKey() *string {
	if s.o.KMSKey == "" {
		return nil
	}
	return &s.o.KMSKey
}

// sumOf is what Content-MD5 wants. It guards against broken memory and lines, not
// against people.
func sumOf(body []byte) *string {
	sum := md5.Sum(body)
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// joined is the ETag that S3 gives an object of parts: the MD5 of their MD5s, and
// their number. "" if an ETag is no MD5.
func joined(parts []storage.UploadPart) string {
	hash := md5.New()
	for _, part := range parts {
		sum, err := hex.DecodeString(storage.TrimETag(part.ETag))
		if err != nil || len(sum) != md5.Size {
			return ""
		}
		hash.Write(sum)
	}
	return fmt.Sprintf("%x-%d", hash.Sum(nil), len(parts))
}
