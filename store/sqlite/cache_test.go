package sqlite

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/session"
)

// TestAccountCacheBytes: the cache of accounts is bounded by what they take, with the
// largest documents that are stored, and with those that older versions stored.
func TestAccountCacheBytes(t *testing.T) {
	const n = 250
	db := openInternal(t)
	accounts, hosted := Accounts{db}, Hosting{db}
	load := func(size int) {
		t.Helper()
		document := []byte(`"` + strings.Repeat("x", size-2) + `"`)
		for i := range n {
			name := fmt.Sprintf("a%d-%d", size, i)
			did := syntax.DID("did:plc:" + name)
			id, err := hosted.Reserve(t.Context(), hosting.Pending{
				DID: did, Handle: syntax.Handle(name + ".test"), Email: name + "@example.com", SigningKey: "did:key:x", SigningKeySealed: []byte{1},
				CreatedAt: time.UnixMilli(1),
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hosted.Activate(t.Context(), id, document, nil, account.Entry{At: time.UnixMilli(1)}); err != nil {
				t.Fatal(err)
			}
			if _, err := accounts.ByDID(t.Context(), did); err != nil {
				t.Fatal(err)
			}
		}
		db.accounts.CleanUp()
	}
	// What the cache holds, counted by hand.
	held := func() (bytes, entries int) {
		for _, a := range db.accounts.All() {
			bytes += len(a.Document)
			entries++
		}
		return bytes, entries
	}
	load(identity.MaxKept)
	if bytes, entries := held(); bytes > n*identity.MaxKept || entries != n {
		t.Errorf("%d accounts hold %d bytes of documents", entries, bytes)
	}
	load(256 << 10)
	if bytes, entries := held(); bytes > cachedAccounts || entries == 0 {
		t.Errorf("%d accounts hold %d bytes of documents", entries, bytes)
	}
}

// TestSessionCacheBytes is TestAccountCacheBytes for sessions.
func TestSessionCacheBytes(t *testing.T) {
	db := openInternal(t)
	agent := strings.Repeat("x", 4<<10)
	for i := range int64(40_000) {
		db.sessions.Set(i, &session.State{ID: i, UserAgent: agent})
	}
	db.sessions.CleanUp()
	bytes := 0
	for _, s := range db.sessions.All() {
		bytes += len(s.UserAgent)
	}
	if bytes == 0 || bytes > cachedSessions {
		t.Errorf("%d bytes", bytes)
	}
}
