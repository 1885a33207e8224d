// Package s3 keeps objects in Amazon S3 or in a server that speaks its protocol.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

func init() {
	storage.Register("s3", func(ctx context.Context, u *url.URL) (storage.Store, error) {
		o, err := ParseURL(u)
		if err != nil {
			return nil, err
		}
		return Open(ctx, o)
	})
}

// Store is a storage.Store in one bucket, or below a prefix of it.
type Store struct {
	o       Options
	client  *s3.Client
	presign *s3.PresignClient
	http    *http.Client
	names   remote.Names
	plan    remote.Plan
	clock   *remote.Clock
	joins   joins
	ca      string // PEM, for Capabilities
}

// Open makes a store. Credentials come from where the AWS tools take them: the
// environment, profiles, web identity, the role of the container or the instance.
// It makes no call: a wrong bucket or key is told by the first use.
func Open(ctx context.Context, o Options) (*Store, error) {
	var ca string
	var setUp error
	builder := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { ca, setUp = remote.SetUp(t, o.CAFile) })
	if setUp != nil {
		return nil, setUp
	}
	clock := &remote.Clock{}
	cfg, err := config.LoadDefaultConfig(ctx, func(l *config.LoadOptions) error {
		l.HTTPClient, l.SharedConfigProfile, l.Region = builder, o.Profile, o.Region
		l.Retryer, l.Logger = newRetryer, logging.Nop{} // what matters is in the errors
		l.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		l.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" && o.Endpoint == "" {
		return nil, errors.New("no region: set region=… in the storage URL, or AWS_REGION")
	}
	if given, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		builder = given // with AWS_CA_BUNDLE
	}
	client := &http.Client{Transport: builder.GetTransport(), CheckRedirect: redirect}
	s := &Store{
		o: o, http: client, clock: clock, names: remote.Names{Prefix: o.Prefix}, plan: remote.NewPlan(o.PartSize, cmp.Or(o.MaxParts, maxParts)), ca: ca,
	}
	s.client = s3.NewFromConfig(cfg, func(c *s3.Options) {
		c.Region = cmp.Or(c.Region, "us-east-1")
		c.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
		c.HTTPClient = watched{client, clock}
	})
	s.presign = s3.NewPresignClient(s.client, func(o *s3.PresignOptions) { o.Presigner = newPresigner(clock) })
	return s, nil
}

// redirect follows what keeps the method, as the SDK's own client does. That one would
// have its dialler replaced, for AWS_DEFAULTS_MODE.
func redirect(r *http.Request, via []*http.Request) error {
	if code := r.Response.StatusCode; code != http.StatusTemporaryRedirect && code != http.StatusPermanentRedirect || len(via) >= 10 {
		return http.ErrUseLastResponse
	}
	if r.URL.Host != via[len(via)-1].URL.Host {
		r.Header.Del("X-Amz-Security-Token")
	}
	return nil
}

// Capabilities implements storage.Store.
func (s *Store) Capabilities() storage.Capabilities {
	return storage.Capabilities{
		AtomicCreate: !s.o.NoConditions, MinPartSize: minPartSize, MaxParts: s.plan.Parts, ParallelGet: true, PrivateCA: s.ca,
	}
}

// Close implements storage.Store.
func (s *Store) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat: %w", err)
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.o.Bucket, Key: &name})
	if err != nil {
		return storage.Info{}, s.failed(ctx, "stat", key, err)
	}
	return storage.Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), ETag: storage.TrimETag(aws.ToString(out.ETag)),
	}, nil
}

// Delete implements storage.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	name, err := s.names.Object(ctx, key)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	_, err = s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.o.Bucket, Key: &name})
	if err = s.failed(ctx, "delete", key, err); errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// Get implements storage.Store. A body that is cut is asked for again from there.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, storage.Info, error) {
	name, err := s.names.Object(ctx, key)
	if err == nil && offset < 0 {
		err = fmt.Errorf("offset %d", offset)
	}
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("get: %w", err)
	}
	if length == 0 {
		return remote.Nothing(ctx, s, key)
	}
	in := &s3.GetObjectInput{Bucket: &s.o.Bucket, Key: &name, Range: byteRange(offset, length)}
	out, err := s.client.GetObject(ctx, in)
	if isCode(err, "InvalidRange") {
		return remote.Nothing(ctx, s, key) // it begins beyond the end
	}
	if err != nil {
		return nil, storage.Info{}, s.failed(ctx, "get", key, err)
	}
	info := storage.Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), ETag: storage.TrimETag(aws.ToString(out.ETag)),
	}
	if out.ContentRange != nil {
		if info.Size, err = totalSize(*out.ContentRange); err != nil {
			return nil, storage.Info{}, errors.Join(fmt.Errorf("get %q: %w", key, err), out.Body.Close())
		}
	}
	sent := aws.ToInt64(out.ContentLength)
	in.IfMatch = out.ETag
	return remote.Resume(ctx, out.Body, offset, sent, func(ctx context.Context, from int64) (io.ReadCloser, error) {
		in.Range = byteRange(from, offset+sent-from)
		out, err := s.client.GetObject(ctx, in)
		if isCode(err, "PreconditionFailed") {
			return nil, fmt.Errorf("get %q: %w", key, storage.ErrChanged)
		}
		if err != nil {
			return nil, s.failed(ctx, "go on with", key, err)
		}
		return out.Body, nil
	}), info, nil
}

func byteRange(offset, length int64) *string {
	if asked := remote.Range(offset, length); asked != "" {
		return &asked
	}
	return nil
}

// totalSize reads the last number of a Content-Range.
func totalSize(contentRange string) (n int64, err error) {
	_, total, _ := strings.Cut(contentRange, "/")
	if _, err = fmt.Sscan(total, &n); err != nil {
		return 0, fmt.Errorf("the server answers with Content-Range %q", contentRange)
	}
	return n, nil
}

// List implements storage.Store.
func (s *Store) List(ctx context.Context, opts storage.ListOptions) (storage.Page, error) {
	var page storage.Page
	if err := ctx.Err(); err != nil {
		return page, fmt.Errorf("list: %w", err)
	}
	if _, text := remote.Text(opts.Prefix); !text {
		return page, nil
	}
	limit := storage.PageLimit(opts.Limit)
	in := &s3.ListObjectsV2Input{
		Bucket: &s.o.Bucket, Prefix: aws.String(s.names.Of(opts.Prefix)), MaxKeys: aws.Int32(int32(limit)),
		EncodingType: types.EncodingTypeUrl,
	}
	if after, _ := remote.Text(opts.After); after != "" {
		in.StartAfter = aws.String(s.names.Of(after))
	}
	// A page may consist of names that are not ours.
	for len(page.Items) == 0 {
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return storage.Page{}, s.failed(ctx, "list", opts.Prefix, err)
		}
		if err := s.collect(&page, out, opts.After); err != nil {
			return storage.Page{}, err
		}
		if !aws.ToBool(out.IsTruncated) {
			return page, nil
		}
		if len(page.Items) > 0 {
			page.Next = page.Items[len(page.Items)-1].Key
		}
		in.ContinuationToken = out.NextContinuationToken
	}
	return page, nil
}

func (s *Store) collect(page *storage.Page, out *s3.ListObjectsV2Output, after string) error {
	for _, o := range out.Contents {
		name, err := decoded(o.Key, out.EncodingType)
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		key, ours := s.names.Key(name)
		if !ours || key <= after || storage.CheckKey(key) != nil {
			continue
		}
		page.Items = append(page.Items, storage.Info{
			Key: key, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified), ETag: storage.TrimETag(aws.ToString(o.ETag)),
		})
	}
	return nil
}

// decoded is a name in a listing, which not every server encodes though asked to.
func decoded(name *string, encoding types.EncodingType) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return aws.ToString(name), nil
	}
	plain, err := url.QueryUnescape(aws.ToString(name))
	if err != nil {
		return "", fmt.Errorf("the server names an object %q: %w", aws.ToString(name), err)
	}
	return plain, nil
}
