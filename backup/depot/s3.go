package depot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"nestbox/backup"
)

// S3Settings are how buckets are reached.
type S3Settings struct {
	// Endpoint is a URL; empty is Amazon's.
	Endpoint, Region string
	AccessKey        string
	SecretKey        string
	// PathStyle: the bucket is in the path, not in the host's name.
	PathStyle bool
	// Stall bounds how long a server may take nothing of an object that is sent to it;
	// two minutes if it is zero.
	Stall time.Duration
}

// S3 keeps objects in a bucket, below a prefix.
type S3 struct {
	client         *minio.Client
	bucket, prefix string // the prefix is empty or ends with a slash
	stall          time.Duration
}

var _ backup.Depot = (*S3)(nil)

const (
	scheme = "s3://"
	// amazon is the endpoint if none is set.
	amazon = "https://s3.amazonaws.com"
	// atOnce is how many objects are sent at once: each waits for the network.
	atOnce = 8
	// stall bounds how long a server may take to begin its answer.
	stall = time.Minute
)

// errBucket: see OpenS3.
var errBucket = errors.New("name a bucket and a prefix, like s3://bucket/prefix; " +
	"a bucket has 3 to 63 small letters, digits, points and dashes")

// notInBucket reports whether the name of a bucket may not have a character.
func notInBucket(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
}

// OpenS3 returns the store that s3://bucket/prefix names.
func OpenS3(address string, s S3Settings) (*S3, error) {
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(address, scheme), "/")
	if len(bucket) < 3 || len(bucket) > 63 || strings.ContainsFunc(bucket, notInBucket) {
		return nil, errBucket
	}
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	endpoint := s.Endpoint
	if endpoint == "" {
		endpoint = amazon
	}
	host, secure := strings.CutPrefix(endpoint, "https://")
	if !secure {
		host = strings.TrimPrefix(endpoint, "http://")
	}
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, fmt.Errorf("prepare connections to %s: %w", endpoint, err)
	}
	transport.ResponseHeaderTimeout = stall
	lookup := minio.BucketLookupAuto
	if s.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(strings.TrimSuffix(host, "/"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Secure: secure, Region: s.Region, BucketLookup: lookup,
		Transport: transport,
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", endpoint, err)
	}
	return &S3{client, bucket, prefix, cmp.Or(s.Stall, 2*stall)}, nil
}

// String implements backup.Depot.
func (s *S3) String() string { return scheme + s.bucket + "/" + strings.TrimSuffix(s.prefix, "/") }

// Writers implements backup.Depot.
func (s *S3) Writers() int { return atOnce }

// Put implements backup.Depot.
func (s *S3) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(s.stall, func() { cancel(errStalled) })
	defer idle.Stop()
	count := &counter{r: body, each: func() { idle.Reset(s.stall) }}
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, count, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", NumThreads: 1, DisableMultipart: size <= largest,
		DisableContentSha256: size == 0, // else it would be sent without a length, which no server accepts
	})
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	if err != nil {
		return s.explain(err)
	}
	if n, _ := body.Read(make([]byte, 1)); n > 0 || count.n != size {
		return errors.Join(fmt.Errorf("the object has another size than %d bytes", size), s.Remove(ctx, name))
	}
	return nil
}

// largest is the size of the largest object that one request may send.
const largest int64 = 5 << 30

// errStalled: see S3Settings.Stall.
var errStalled = errors.New("the server accepts nothing of what is sent to it: look at its disk and its log")

// counter counts what is read, and calls each for each part.
type counter struct {
	r    io.Reader
	n    int64
	each func()
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.each()
	return n, err
}

// Get implements backup.Depot.
func (s *S3) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	object, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, s.explain(err)
	}
	if _, err := object.Stat(); err != nil { // GetObject asks nobody yet
		if minio.ToErrorResponse(err).StatusCode == http.StatusForbidden {
			return nil, errors.Join(fmt.Errorf("%w: %w", backup.ErrRefused, s.explain(err)), object.Close())
		}
		return nil, errors.Join(s.explain(err), object.Close())
	}
	return object, nil
}

// List implements backup.Depot.
func (s *S3) List(ctx context.Context, prefix string, yield func(backup.Object) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing
	for o := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return s.explain(o.Err)
		}
		if err := yield(backup.Object{Name: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size, At: o.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Remove implements backup.Depot.
func (s *S3) Remove(ctx context.Context, name string) error {
	if err := s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{}); err != nil {
		return s.explain(err)
	}
	return nil
}

// Flush implements backup.Depot: an object that was put is durable.
func (s *S3) Flush(context.Context) error { return nil }

// explain makes an error one that names what to do.
func (s *S3) explain(err error) error {
	said := minio.ToErrorResponse(err)
	switch {
	case said.Code == minio.NoSuchKey:
		return backup.ErrMissing
	case said.Code == minio.NoSuchBucket:
		return fmt.Errorf("there is no bucket %s: make it, or check PDS_BACKUP_S3_ENDPOINT and PDS_BACKUP_S3_REGION: %w", s.bucket, err)
	case said.StatusCode == http.StatusForbidden:
		return fmt.Errorf("the bucket %s refuses this: check PDS_BACKUP_S3_ACCESS_KEY_ID, PDS_BACKUP_S3_SECRET_ACCESS_KEY "+
			"and what they may do: %w", s.bucket, err)
	default:
		return err
	}
}
