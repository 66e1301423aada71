package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// TestStoredDocuments: a stranger's document that an older version stored breaks no
// answer: clients get a document that can be read.
func TestStoredDocuments(t *testing.T) {
	documents := []string{
		"{\"id\":\"x\",\"a\":\"\xff\"}", `{"id":"x","a":"\ud800"}`, `{"id":"x","id":"y"}`, `{"id":"x"`, `null`, `7`, `{"id":"x"} {}`,
		`{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		`{"a":"` + strings.Repeat("x", 250<<10) + `"}`,
	}
	s := pdstest.Start(t, pdstest.Options{})
	sessions := make([]pdstest.Session, len(documents))
	for i := range documents {
		sessions[i] = s.SignUp(t, fmt.Sprintf("alice%d", i))
	}
	dir := s.DataDir
	s.Stop()
	store(t, dir, sessions, documents)
	s = pdstest.Start(t, pdstest.Options{Dir: dir})
	for i, was := range sessions {
		for _, r := range []pdstest.Request{
			{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": was.DID, "password": pdstest.Password}},
			{NSID: "com.atproto.server.refreshSession", Method: http.MethodPost, Auth: pdstest.Bearer(was.RefreshJwt)},
			{NSID: "com.atproto.server.getSession", Auth: pdstest.Bearer(was.AccessJwt)},
			{NSID: "com.atproto.repo.describeRepo?repo=" + was.DID},
		} {
			a := s.Do(t, r)
			var out struct {
				DIDDoc struct {
					ID string `json:"id"`
				} `json:"didDoc"`
			}
			if err := json.Unmarshal(a.Body, &out); err != nil || a.Status != http.StatusOK || out.DIDDoc.ID != was.DID {
				t.Errorf("%.40q: %s: %d %.200s, %v", documents[i], r.NSID, a.Status, a.Body, err)
			}
		}
	}
}

// store puts documents in the database as an older version did.
func store(t *testing.T, dir string, sessions []pdstest.Session, documents []string) {
	t.Helper()
	db := storetest.Open(t, storetest.Options{Dir: dir})
	defer db.Close()
	for i, was := range sessions {
		a, err := db.Accounts.ByDID(t.Context(), syntax.DID(was.DID))
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Identity.SaveDocument(t.Context(), a.ID, []byte(documents[i]), false, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}
