package server_test

import (
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// TestSchemasOfOthers takes the whole way: an account of another server publishes a
// Lexicon, and a record here is checked by it once it is at hand.
func TestSchemasOfOthers(t *testing.T) {
	t.Parallel()
	there := pdstest.Start(t, pdstest.Options{})
	signUp := func(s *pdstest.InProcess, name string) (a person) {
		t.Helper()
		s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]any{
			"handle": name + ".test", "email": name + "@example.com", "password": "correct horse battery",
		}}).Decode(t, &a)
		return a
	}
	author := signUp(there, "author")
	if out := write(t, there, author, "com.atproto.lexicon.schema", "com.example.thing", map[string]any{
		"lexicon": 1, "id": "com.example.thing", "defs": map[string]any{"main": map[string]any{
			"type": "record", "key": "any", "record": map[string]any{
				"type": "object", "required": []string{"text"}, "properties": map[string]any{"text": map[string]any{"type": "string"}},
			},
		}},
	}); out.Error != "" {
		t.Fatal(out)
	}

	unpublished := pdstest.Start(t, pdstest.Options{Settings: []string{
		"PDS_DID_PLC_URL=" + there.PLC, "PDS_LEXICON_AUTHORITY_DID=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
	}})
	elsewhere := pdstest.Start(t, pdstest.Options{Settings: []string{
		"PDS_DID_PLC_URL=" + there.PLC, "PDS_LEXICON_AUTHORITY_DID=" + author.DID,
	}})
	for _, c := range []struct {
		name  string
		s     *pdstest.InProcess
		known bool
	}{{"of another server", elsewhere, true}, {"of nobody", unpublished, false}} {
		checkSchema(t, c.name, signUp(c.s, "writer"), c.s, c.known)
	}

	there.Stop()
	again := pdstest.Start(t, pdstest.Options{Dir: there.DataDir, Settings: []string{"PDS_LEXICON_AUTHORITY_DID=" + author.DID}})
	checkSchema(t, "of an account here", author, again, true)
}

type written struct {
	ValidationStatus string
	Error, Message   string
}

type person struct{ DID, AccessJWT string }

func write(t *testing.T, s *pdstest.InProcess, a person, collection, rkey string, value map[string]any) (out written) {
	t.Helper()
	s.Do(t, pdstest.Request{NSID: "com.atproto.repo.putRecord", Auth: "Bearer " + a.AccessJWT, Body: map[string]any{
		"repo": a.DID, "collection": collection, "rkey": rkey, "record": value,
	}}).Decode(t, &out)
	return out
}

// checkSchema writes records of com.example.thing until its schema is at hand, if it is
// to be known, and then one that it refuses.
func checkSchema(t *testing.T, name string, writer person, s *pdstest.InProcess, known bool) {
	t.Helper()
	const collection = "com.example.thing"
	if out := write(t, s, writer, collection, "first", map[string]any{"text": 7}); out.ValidationStatus != "unknown" {
		t.Errorf("%s: before it is at hand: %+v", name, out)
	}
	status := ""
	for deadline := time.Now().Add(time.Minute); status != "valid" && time.Now().Before(deadline); {
		status = write(t, s, writer, collection, "second", map[string]any{"text": "x"}).ValidationStatus
		if !known {
			break
		}
	}
	out := write(t, s, writer, collection, "third", map[string]any{"text": 7})
	refused := strings.Contains(out.Message, "Invalid com.example.thing record")
	if (status == "valid") != known || refused != known || !known && out.ValidationStatus != "unknown" {
		t.Errorf("%s: %q, then %+v", name, status, out)
	}
}
