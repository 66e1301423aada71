// Package s3test is a server of S3 in the test's process.
package s3test

import (
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Bucket is the name of the bucket that Start makes.
const Bucket = "backups"

// Start runs a server with an empty bucket until the test ends, and returns its URL. It
// accepts any keys.
func Start(tb testing.TB) string {
	tb.Helper()
	backend := s3mem.New()
	server := httptest.NewServer(gofakes3.New(backend).Server())
	tb.Cleanup(server.Close)
	if err := backend.CreateBucket(Bucket); err != nil {
		tb.Fatal(err)
	}
	return server.URL
}
