package s3

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

// Options say where the objects are. Open makes them from a URL.
type Options struct {
	Bucket string
	Prefix string // of all keys, without the slash at its end; may be empty

	Endpoint  string // http(s)://host:port of a server other than Amazon's
	Region    string // empty: the environment's or the profile's; us-east-1 with an Endpoint
	Profile   string // of the AWS configuration files; empty: the environment's
	PathStyle bool   // http://host/bucket/key; what most servers other than Amazon's want
	CAFile    string // PEM, beside the system's

	// Encryption at rest: AES256 or aws:kms; empty: as the bucket is set up.
	Encryption string
	KMSKey     string // its ID, with aws:kms

	PartSize int64 // bytes of the first parts of an upload; 0: 6 MiB
	MaxParts int   // of one upload; 0: 10,000
	// NoConditions is for servers without If-None-Match, on which nothing can be
	// created once among several writers.
	NoConditions bool
}

// The limits of S3 (its documentation, "Amazon S3 multipart upload limits").
const (
	minPartSize = 5 << 20 // bytes
	maxPartSize = 5 << 30
	maxParts    = 10_000
)

// bucketName follows the S3 documentation, "Bucket naming rules", as far as all
// servers keep them.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// parameters of the URL, each with what it sets.
var parameters = map[string]func(o *Options, value string) error{
	"endpoint":   func(o *Options, v string) error { o.Endpoint = v; return checkEndpoint(v) },
	"region":     func(o *Options, v string) error { o.Region = v; return nil },
	"profile":    func(o *Options, v string) error { o.Profile = v; return nil },
	"ca":         func(o *Options, v string) error { o.CAFile = v; return nil },
	"path_style": func(o *Options, v string) (err error) { o.PathStyle, err = parseBool(v); return err },
	"conditions": func(o *Options, v string) error {
		on, err := parseBool(v)
		o.NoConditions = !on
		return err
	},
	"sse": func(o *Options, v string) error {
		o.Encryption = v
		if v != string(types.ServerSideEncryptionAes256) && v != string(types.ServerSideEncryptionAwsKms) {
			return fmt.Errorf("%q is unknown: want AES256 or aws:kms", v)
		}
		return nil
	},
	"kms_key": func(o *Options, v string) error { o.KMSKey = v; return nil },
	"part_size": func(o *Options, v string) (err error) {
		o.PartSize, err = remote.PartSize(v, minPartSize, maxPartSize)
		return err
	},
	"max_parts": func(o *Options, v string) (err error) {
		o.MaxParts, err = strconv.Atoi(v)
		if err != nil || o.MaxParts < 1 || o.MaxParts > maxParts {
			return fmt.Errorf("%q: want a number from 1 to %d", v, maxParts)
		}
		return nil
	},
}

func parseBool(v string) (bool, error) {
	switch v {
	case "", "true", "on", "1":
		return true, nil
	case "false", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q: want true or false", v)
}

func checkEndpoint(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("want http://HOST:PORT or https://HOST:PORT")
	}
	return nil
}

// ParseURL reads s3://BUCKET/PREFIX?endpoint=…&region=….
func ParseURL(u *url.URL) (Options, error) {
	var o Options
	var err error
	o.Bucket, o.Prefix, err = remote.Place(u, "s3://BUCKET or s3://BUCKET/PREFIX, the server's address as endpoint=http://HOST:PORT",
		"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
	if err != nil {
		return o, err
	}
	if !bucketName.MatchString(o.Bucket) {
		return o, fmt.Errorf("bucket %q: want 3 to 63 small letters, digits, dots and dashes", o.Bucket)
	}
	if err := storage.Parameters(u, parameters, &o); err != nil {
		return o, err
	}
	if o.KMSKey != "" && o.Encryption != string(types.ServerSideEncryptionAwsKms) {
		return o, fmt.Errorf("kms_key needs sse=aws:kms")
	}
	return o, nil
}
