package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

// retryer is the SDK's, and heeds Retry-After.
type retryer struct{ aws.RetryerV2 }

func newRetryer() aws.Retryer {
	return retryer{retry.NewStandard(func(o *retry.StandardOptions) {
		o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			// What a HEAD answers does not name the clock; the next try goes by the server's.
			if isCode(err, "Forbidden") && skewed(err) != "" {
				return aws.TrueTernary
			}
			return aws.UnknownTernary
		}))
		o.MaxAttempts, o.MaxBackoff = remote.MaxTries, 5*time.Second
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(neverPasses)}, o.Retryables...)
		o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{
			http.StatusTooManyRequests: {}, http.StatusRequestTimeout: {},
		}})
	})}
}

func neverPasses(err error) aws.Ternary {
	if remote.Passing(err) {
		return aws.UnknownTernary
	}
	return aws.FalseTernary
}

func (r retryer) RetryDelay(attempt int, err error) (time.Duration, error) {
	delay, delayErr := r.RetryerV2.RetryDelay(attempt, err)
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		delay = max(delay, remote.RetryAfter(response.Response.Header, time.Now()))
	}
	return delay, delayErr
}

// withoutRace makes a conditional call again that S3 refuses because another one is
// under way: afterwards it is known who won.
func withoutRace(conditional bool) func(*s3.Options) {
	return func(o *s3.Options) {
		if conditional {
			o.Retryer = retry.AddWithErrorCodes(o.Retryer, "ConditionalRequestConflict")
		}
	}
}

func isCode(err error, codes ...string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode())
}

// failed says what was tried, what is wrong and what would be right.
func (s *Store) failed(ctx context.Context, what, key string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	if kind := kindOf(err); kind != nil {
		return fmt.Errorf("%s %q: %w: %w", what, key, kind, err)
	}
	if hint := s.hint(err); hint != "" {
		return fmt.Errorf("%s %q in bucket %s: %s: %w", what, key, s.o.Bucket, hint, err)
	}
	return fmt.Errorf("%s %q in bucket %s: %w", what, key, s.o.Bucket, err)
}

// kindOf maps the server's codes to the errors of package storage.
func kindOf(err error) error {
	switch {
	case isCode(err, "NoSuchKey", "NotFound", "NoSuchUpload"):
		return storage.ErrNotExist
	case isCode(err, "InvalidPart", "InvalidPartOrder", "EntityTooSmall"):
		return storage.ErrInvalidPart
	case isCode(err, "PreconditionFailed"):
		return storage.ErrExist
	case isCode(err, "KeyTooLongError", "ObjectParentIsFile", "ExistingObjectIsDirectory", "DirectoryObjectContainsData"):
		return storage.ErrInvalidKey
	}
	return nil
}

const unknownKey = "the access key is unknown there: check AWS_ACCESS_KEY_ID or the profile, and that the endpoint is the right one"

// hints by the server's code; what a HEAD answers has none but the status.
var hints = map[string]string{
	"NoSuchBucket":                       "the bucket does not exist there: create it, or correct the storage URL",
	"InvalidBucketName":                  "the bucket's name is not valid: correct the storage URL",
	"XAdminUserNotFound":                 unknownKey, // versitygw's word
	"InvalidAccessKeyId":                 unknownKey,
	"SignatureDoesNotMatch":              "the secret key is wrong: check AWS_SECRET_ACCESS_KEY or the profile",
	"AccessDenied":                       "the credentials do not allow it: the policy must allow s3:GetObject, PutObject, DeleteObject, ListBucket, AbortMultipartUpload and ListBucketMultipartUploads",
	"Forbidden":                          "the credentials are wrong or do not allow it",
	"ExpiredToken":                       "the credentials have expired: renew them",
	"InvalidToken":                       "the session token is not valid there: renew the credentials, and check that the endpoint is the right one",
	"RequestTimeTooSkewed":               "the clocks of this machine and of the server differ too much: set this machine's (NTP)",
	"PermanentRedirect":                  "the bucket is in another region: set region=… in the storage URL",
	"MovedPermanently":                   "the bucket is in another region: set region=… in the storage URL",
	"AuthorizationHeaderMalformed":       "the region is not the server's: set region=… in the storage URL",
	"IllegalLocationConstraintException": "the region is not the bucket's: set region=… in the storage URL",
	"NotImplemented":                     "the server does not know this call: for If-None-Match, set conditions=false in the storage URL",
}

func (s *Store) hint(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		if why := skewed(err); why != "" && isCode(err, "RequestTimeTooSkewed", "Forbidden", "AccessDenied", "SignatureDoesNotMatch") {
			return why
		}
		if hint := hints[api.ErrorCode()]; hint != "" {
			return hint
		}
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusMovedPermanently {
		return hints["MovedPermanently"]
	}
	if hint := remote.Hint(err); hint != "" {
		return hint
	}
	// The SDK has no type for it.
	if strings.Contains(err.Error(), "get credentials") {
		return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, or run with a role"
	}
	return ""
}
