package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/control"
	"nestbox/internal/pdstest"
	"nestbox/server"
)

// deafBucket is a server of S3 that answers nothing: arrived has a value for each request, gone one
// for each that its client has given up.
func deafBucket(t *testing.T) (url string, arrived, gone chan struct{}) {
	t.Helper()
	arrived, gone = make(chan struct{}, 100), make(chan struct{}, 100)
	s3 := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	t.Cleanup(s3.Close)
	return s3.URL, arrived, gone
}

// TestBackupEnds: a backup to a store that does not answer ends with its client, and another one can be
// made then; and it ends, with an answer, when the server stops.
func TestBackupEnds(t *testing.T) {
	t.Parallel()
	// begin has a server back itself up, and returns once the store was asked for something.
	begin := func(ctx context.Context, t *testing.T) (s *pdstest.InProcess, answer *bytes.Buffer, ended chan error, gone chan struct{}) {
		t.Helper()
		url, arrived, gone := deafBucket(t)
		s = pdstest.Start(t, pdstest.Options{Settings: []string{ //nolint:contextcheck // it has the test's
			"PDS_BACKUP_S3_ENDPOINT=" + url, "PDS_BACKUP_S3_FORCE_PATH_STYLE=true", "PDS_BACKUP_S3_REGION=us-east-1",
			"PDS_BACKUP_S3_ACCESS_KEY_ID=key", "PDS_BACKUP_S3_SECRET_ACCESS_KEY=secret",
		}})
		answer, ended = &bytes.Buffer{}, make(chan error, 1)
		go func() {
			args := server.BackupArgs{To: "s3://bucket/x", Plain: true}
			ended <- control.CallFile(ctx, s.DataDir, server.BackupCommand, args, strings.NewReader(""), answer)
		}()
		select {
		case <-arrived: // not before the request is on its way: only then it is the backup that ends it
		case err := <-ended:
			t.Fatalf("the backup ended at once: %v %s", err, answer)
		}
		return s, answer, ended, gone
	}
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		ctx, leave := context.WithCancel(t.Context())
		s, _, ended, gone := begin(ctx, t)
		leave()
		<-gone
		<-ended
		for { // the server learns of it a little later than the client
			made, err := backUp(t, s, server.BackupArgs{To: filepath.Join(t.TempDir(), "store")})
			if err == nil && made.Snapshot != nil {
				break
			}
			if err == nil || !strings.Contains(err.Error(), "being made already") {
				t.Fatalf("another backup: %+v, %v", made, err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		s, answer, ended, gone := begin(t.Context(), t)
		s.Stop()
		<-gone
		// A stop that waits in vain cuts the connection off, in the middle of the answer.
		if err := <-ended; err != nil {
			t.Fatalf("%v after %s", err, answer)
		}
		lines := strings.Split(strings.TrimSpace(answer.String()), "\n")
		var last server.BackupLine
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !strings.Contains(last.Error, "context canceled") {
			t.Errorf("%+v, %v", last, err)
		}
	})
}
