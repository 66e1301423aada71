// Package s3test is a server of S3 in the test's process.
package s3test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Bucket is the name of the bucket that Start makes.
const Bucket = "backups"

// WriteOnly is an access key that may put objects and list them, and do nothing else.
const WriteOnly = "write-only"

// Start runs a server with an empty bucket until the test ends, and returns its URL. It
// accepts any keys, each of which but WriteOnly may do everything.
func Start(tb testing.TB) string {
	tb.Helper()
	backend := s3mem.New()
	all := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Authorization"), "Credential="+WriteOnly+"/") && !mayWriteOnly(r) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`) // the client may have left
			return
		}
		all.ServeHTTP(w, r)
	}))
	tb.Cleanup(server.Close)
	if err := backend.CreateBucket(Bucket); err != nil {
		tb.Fatal(err)
	}
	return server.URL
}

// mayWriteOnly reports whether a request is allowed by s3:PutObject and s3:ListBucket.
func mayWriteOnly(r *http.Request) bool {
	_, object, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	return r.Method == http.MethodPut && object != "" || r.Method == http.MethodGet && object == "" && r.URL.Query().Has("list-type")
}
