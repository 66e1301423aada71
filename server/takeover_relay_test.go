package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/pdstest"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
	"nestbox/takeover"
)

// host serves the repositories of a source as a relay does: from a server that has taken a copy
// of it over.
func (o *old) host() pdstest.Client {
	t := o.t
	t.Helper()
	source := *o.Source
	source.Dir = filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(source.Dir, os.DirFS(o.Dir)); err != nil {
		t.Fatal(err)
	}
	copied := &old{Source: &source, t: t}
	copied.must(server.Finish)
	return pdstest.Start(t, pdstest.Options{Dir: copied.Dir, Settings: []string{rotationKey}}).Client
}

// TestTakeoverFromRelay: the repository of an account whose own database is damaged comes from
// another host, if the account's key has signed it; its blobs are those that are there.
func TestTakeoverFromRelay(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 10, Records: 12})
	host := o.host()
	damaged, gone, part := o.Accounts[8], o.Accounts[9], o.Accounts[referencetest.WithPreferences]
	err := errors.Join(
		os.WriteFile(filepath.Join(o.Dir, o.Store(damaged)), []byte(strings.Repeat("nothing", 1000)), 0o600),
		os.Remove(filepath.Join(o.Dir, o.Store(gone))),
		o.Change(o.Store(part), "DELETE FROM repo_block"),
	)
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.take(t.Context(), server.Finish)
	if !errors.Is(err, takeover.ErrFaults) || len(r.Faults) != 3 || !strings.Contains(r.Faults[0].String(), "--from-relay URL") {
		t.Fatalf("without a relay: %v, %v", err, r.Faults)
	}
	o.options.Relay = host.Base
	r = o.must(server.Finish)
	if len(r.FromRelay) != 3 || r.Stored.Records != 120 || r.Stored.Accounts != 10 || r.Stored.Preferences != 1 || len(r.Lagging) > 0 {
		t.Errorf("from the relay %v, stored %+v, lagging %v", r.FromRelay, r.Stored, r.Lagging)
	}
	if r.Events.Syncs+r.Events.Statuses > 0 {
		t.Errorf("events %+v", r.Events)
	}
	pdstest.Verify(t, o.target())
	s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey}})
	for _, a := range []*referencetest.Account{damaged, gone, part} {
		got := s.Do(t, pdstest.Request{NSID: "com.atproto.sync.getLatestCommit?did=" + a.DID.String()})
		if !strings.Contains(string(got.Body), a.Head.String()) {
			t.Errorf("%s: %s, want %s", a.Handle, got.Body, a.Head)
		}
		if !a.Blob.Defined() {
			continue
		}
		got = s.Do(t, pdstest.Request{NSID: "com.atproto.sync.getBlob?did=" + a.DID.String() + "&cid=" + a.Blob.String()})
		if got.Status != http.StatusOK || got.Header.Get("Content-Type") != "image/png" {
			t.Errorf("%s, blob: %d %s", a.Handle, got.Status, got.Header)
		}
	}
}

// TestTakeoverFromRelayRefused: nothing that the account's key has not signed is taken, nor
// what is older than what the old server knows.
func TestTakeoverFromRelayRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant func(o *old, a *referencetest.Account) error
		want  string
	}{
		"no key": {func(o *old, a *referencetest.Account) error {
			return os.Remove(filepath.Join(o.ActorDir(a.DID), "key"))
		}, "its signing key is missing"},
		"another key": {func(o *old, a *referencetest.Account) error {
			return os.WriteFile(filepath.Join(o.ActorDir(a.DID), "key"), o.Accounts[0].Key.Bytes(), 0o600)
		}, "not signed by the key"},
		"older": {func(o *old, a *referencetest.Account) error {
			return errors.Join(o.rootOf(a, syntax.NewTID(time.Now().UnixMicro(), 1)),
				os.WriteFile(filepath.Join(o.Dir, o.Store(a)), []byte(strings.Repeat("nothing", 1000)), 0o600))
		}, "name a host with a newer copy"},
		"unknown there": {func(o *old, _ *referencetest.Account) error {
			o.options.Relay += "/elsewhere"
			return nil
		}, "status 404"},
		"not a repository": {func(o *old, _ *referencetest.Account) error {
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
			o.t.Cleanup(other.Close)
			o.options.Relay = other.URL
			return nil
		}, "malformed CAR file"},
		"not a URL": {func(o *old, _ *referencetest.Account) error {
			o.options.Relay = "ftp://relay.test"
			return nil
		}, "write the URL of a host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 9, Records: 6})
			o.options.Relay = o.host().Base
			a := o.Accounts[8]
			if err := errors.Join(o.Change(o.Store(a), "DELETE FROM repo_block"), c.plant(o, a)); err != nil {
				t.Fatal(err)
			}
			r, err := o.take(t.Context(), server.Finish)
			if err == nil || r.Done || !strings.Contains(fmt.Sprint(r.Faults, err), c.want) {
				t.Errorf("%v, %v, want %q", r.Faults, err, c.want)
			}
		})
	}
}

// TestFetchRepoRefused: a host that is none is an error.
func TestFetchRepoRefused(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "https://", "https:///path", "ftp://relay.example.com"} {
		if _, err := server.FetchRepo(t.Context(), host, "did:plc:ewvi7nxzyoun6zhxrhs64oiz"); err == nil || !strings.Contains(err.Error(), "write the URL of a host") {
			t.Errorf("%q: %v", host, err)
		}
	}
}
