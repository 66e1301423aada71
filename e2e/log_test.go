package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// logRounds is how many times the server is killed while its log is sent.
const logRounds = 5

// written is a record that the server accepted, and when.
type written struct {
	key string
	at  time.Time
}

// writeTimed writes records until stop is called, which returns those that were accepted.
func writeTimed(t *testing.T, server *pdstest.Process, s pdstest.Session, round int) (stop func() []written) {
	end := make(chan struct{})
	var mu sync.Mutex
	var all []written
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				if key := fmt.Sprintf("r%d-%d-%d", round, n, i); writeOne(t, server.Client, s, key, n == 0) {
					mu.Lock()
					all = append(all, written{key, time.Now()})
					mu.Unlock()
				}
			}
		})
	}
	return func() []written { close(end); writers.Wait(); return all }
}

// TestLogKill kills the real binary while its log is sent, again and again. Whatever time is
// restored then has everything that was accepted an interval earlier, and nothing younger.
func TestLogKill(t *testing.T) {
	t.Parallel()
	dir, store := pdstest.TempDir(t), filepath.Join(t.TempDir(), "store")
	server := pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn", "PDS_BACKUP_TO="+store, "PDS_BACKUP_LOG_EVERY=1s")
	alice := server.SignUp(t, "alice")
	var all []written
	var marks []time.Time
	for round := range logRounds {
		stop := writeTimed(t, server, alice, round)
		time.Sleep(time.Duration(2500+rand.IntN(1500)) * time.Millisecond)
		marks = append(marks, time.Now())
		time.Sleep(time.Duration(rand.IntN(1200)) * time.Millisecond)
		server.Kill()
		all = append(all, stop()...)
		server.Restart()
		alice = server.SignIn(t, alice.DID, pdstest.Password)
	}
	server.Stop()
	if len(all) == 0 {
		t.Fatal("nothing was written")
	}
	for _, at := range append(marks, time.Now()) {
		restored := filepath.Join(pdstest.TempDir(t), "restored")
		result := pdstest.Exec(t, pdstest.Invocation{
			Args:     []string{"restore", store, "--to", restored, "--json", "--at", at.UTC().Format(time.RFC3339Nano)},
			Settings: []string{"PDS_DEV_MODE=true"},
		})
		if result.Code != 0 {
			t.Fatalf("restore to %s: %s%s", at, result.Stdout, result.Stderr)
		}
		again := pdstest.Launch(t, restored, "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL=embedded")
		has := recordsOf(t, again, alice.DID)
		again.Stop()
		lost, young := 0, 0
		for _, w := range all {
			switch {
			case w.at.Before(at.Add(-5*time.Second)) && !has[w.key]:
				lost++
			case w.at.After(at.Add(time.Second)) && has[w.key]:
				young++
			}
		}
		if lost > 0 || young > 0 {
			t.Errorf("restored to %s, of %d: %d are lost, %d are younger\n%s", at, len(all), lost, young, result.Stdout)
		}
	}
}

// recordsOf returns the keys of all records of an account.
func recordsOf(t *testing.T, server *pdstest.Process, did string) map[string]bool {
	t.Helper()
	has, cursor := map[string]bool{}, ""
	for {
		path := "com.atproto.repo.listRecords?limit=100&collection=com.example.post&repo=" + did
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		got := server.Do(t, pdstest.Request{NSID: path})
		var page struct {
			Cursor  string
			Records []struct{ URI string }
		}
		if err := json.Unmarshal(got.Body, &page); err != nil {
			t.Fatal(strconv.Quote(string(got.Body)), err)
		}
		for _, r := range page.Records {
			has[r.URI[strings.LastIndexByte(r.URI, '/')+1:]] = true
		}
		if cursor = page.Cursor; cursor == "" || len(page.Records) == 0 {
			return has
		}
	}
}
