package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/baas-batch/baas/storage/internal/remote"
)

// The SDK mends the time of its own calls when the server refuses it, but not that of
// the URLs that it signs.

// watched is an HTTP client that has an eye on the server's clock.
type watched struct {
	aws.HTTPClient
	clock *remote.Clock
}

func (w watched) Do(r *http.Request) (*http.Response, error) {
	response, err := w.HTTPClient.Do(r)
	if err == nil {
		w.clock.See(response)
	}
	return response, err
}

// presigner signs URLs by the server's clock.
type presigner struct {
	s3.HTTPPresignerV4
	clock *remote.Clock
}

func newPresigner(clock *remote.Clock) presigner {
	// As S3 wants it: its keys are escaped once.
	return presigner{v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }), clock}
}

func (p presigner) PresignHTTP(ctx context.Context, credentials aws.Credentials, r *http.Request,
	payloadHash, service, region string, _ time.Time, options ...func(*v4.SignerOptions),
) (string, http.Header, error) {
	return p.HTTPPresignerV4.PresignHTTP(ctx, credentials, r, payloadHash, service, region, p.clock.Now(), options...)
}

// askTime has a call made if the server's clock is not known. Should it fail, ours is
// taken.
func (s *Store) askTime(ctx context.Context) {
	s.clock.Learn(ctx, func(ctx context.Context) {
		_, _ = s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.o.Bucket}, func(o *s3.Options) { o.RetryMaxAttempts = 1 })
	})
}

// leastSkew is a difference of the clocks that some servers refuse: Swift's S3 API by
// default. S3 itself takes 15 minutes (its documentation, error code
// RequestTimeTooSkewed).
const leastSkew = 5 * time.Minute

// skewed explains a refusal by the clocks, "" if the call was signed for the time of
// the server, or nearly so.
func skewed(err error) string {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil || response.Response.Request == nil {
		return ""
	}
	date, err := http.ParseTime(response.Response.Header.Get("Date"))
	signed, signErr := time.Parse("20060102T150405Z", response.Response.Request.Header.Get("X-Amz-Date"))
	ahead := date.Sub(signed)
	if err != nil || signErr != nil || ahead.Abs() < leastSkew {
		return ""
	}
	return fmt.Sprintf("this machine's clock is %s %s the server's: set the one that is wrong (NTP)",
		ahead.Abs(), map[bool]string{true: "behind", false: "ahead of"}[ahead > 0])
}
