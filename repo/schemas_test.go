package repo_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/lexicon"
	"nestbox/repo"
)

// published is what was found of other authors' schemas.
type published struct {
	mu    sync.Mutex
	known map[syntax.NSID]*lexicon.Catalogue
	asked []string
	doubt []string
}

func (p *published) Records(writer syntax.DID, collection syntax.NSID) *lexicon.Catalogue {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, writer.String()+" "+collection.String())
	return p.known[collection]
}

func (p *published) Doubt(writer syntax.DID, collection syntax.NSID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubt = append(p.doubt, writer.String()+" "+collection.String())
}

// TestPublishedSchemas: a record is checked by a schema that its author published once
// that is at hand, and is written as unknown before.
func TestPublishedSchemas(t *testing.T) {
	w := newWorld(t)
	found := &published{known: map[syntax.NSID]*lexicon.Catalogue{}}
	w.Schemas = found
	alice := w.person("alice")
	write := func(record string, validate *bool) (repo.RecordOutput, error) {
		return w.CreateRecord(t.Context(), alice.caller, repo.CreateRecordInput{
			Repo: alice.did.String(), Collection: foo, Validate: validate, Record: []byte(record),
		})
	}
	status := func(what, record string, validate *bool, want string) {
		t.Helper()
		if out, err := write(record, validate); err != nil || out.ValidationStatus != want {
			t.Errorf("%s: %q, %v, want %q", what, out.ValidationStatus, err, want)
		}
	}
	yes, no := new(true), new(false)
	const good, bad = `{"text":"x"}`, `{"text":7}`
	status("not at hand", bad, nil, "unknown")
	_, err := write(good, yes)
	wantError(t, "not at hand, but demanded", err, 400, "InvalidRequest", "Unknown lexicon type: "+foo)

	parts := lexicon.NewParts(lexicon.Known(), foo)
	err = parts.Add([]byte(`{"lexicon":1,"id":"` + foo + `","defs":{"main":{"type":"record","key":"tid","record":{"type":"object",
		"required":["text"],"properties":{"text":{"type":"string"},"kind":{"type":"string","enum":["` + strings.Repeat("x", 5000) + `"]}}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if found.known[foo], err = parts.Catalogue(); err != nil {
		t.Fatal(err)
	}
	status("at hand", good, nil, "valid")
	status("at hand and demanded", good, yes, "valid")
	found.asked = nil
	status("nobody asks", bad, no, "")
	if len(found.asked) > 0 || len(found.doubt) > 0 {
		t.Errorf("looked up although nobody asks: %q %q", found.asked, found.doubt)
	}
	_, err = write(bad, nil)
	wantError(t, "wrong", err, 400, "InvalidRequest", "Invalid "+foo+" record: Expected string value type (got 7) at $.record.text")
	_, err = write(bad, yes)
	wantError(t, "wrong and demanded", err, 400, "InvalidRequest", "Invalid "+foo+" record: Expected string value type (got 7) at $.record.text")
	if want := alice.did.String() + " " + foo; len(found.doubt) != 2 || found.doubt[0] != want || found.asked[0] != want {
		t.Errorf("asked %q, doubted %q, want %q", found.asked, found.doubt, want)
	}
	_, err = write(`{"text":"x","kind":"y"}`, nil)
	if err == nil || len(err.Error()) > 3000 {
		t.Errorf("a fault of %d bytes, in a stranger's words", len(err.Error()))
	}
	if _, err := alice.create(foo, new("not-a-tid"), good); err == nil || !strings.Contains(err.Error(), "Invalid record key for "+foo) {
		t.Errorf("a key of another type: %v", err)
	}

	// Of what this program knows nobody else is asked.
	found.asked = nil
	if _, err := alice.create("app.bsky.feed.post", nil, `{"text":"x","createdAt":"2026-01-01T00:00:00Z"}`); err != nil || len(found.asked) > 0 {
		t.Errorf("%v; asked %q", err, found.asked)
	}
}
