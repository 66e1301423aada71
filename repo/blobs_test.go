package repo_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
)

// upload makes a blob of the account; its bytes do not matter here.
func (p *person) upload(name, mimeType string, size int64) cid.Cid {
	p.w.t.Helper()
	store, key := p.w.Blobs, p.did.String()+name
	b := blob.Blob{CID: dagcbor.RawCID(sha256.Sum256([]byte(name))), Size: size, MimeType: mimeType, Key: key, CreatedAt: p.w.Now()}
	if err := store.Intend(p.w.t.Context(), key, p.w.Now()); err != nil {
		p.w.t.Fatal(err)
	}
	if _, err := store.Add(p.w.t.Context(), p.id, b, 0); err != nil {
		p.w.t.Fatal(err)
	}
	return b.CID
}

// ref returns a reference to a blob.
func ref(id cid.Cid, mimeType string, size int64) string {
	return fmt.Sprintf(`{"$type":"blob","ref":{"$link":%q},"mimeType":%q,"size":%d}`, id.String(), mimeType, size)
}

// picture returns a post with one picture.
func picture(ref string) string {
	return `{"$type":"app.bsky.feed.post","text":"","createdAt":"2026-08-01T12:00:00.000Z",` +
		`"embed":{"$type":"app.bsky.embed.images","images":[{"alt":"","image":` + ref + `}]}}`
}

// used returns the blobs that records refer to.
func (p *person) used() []cid.Cid {
	p.w.t.Helper()
	ids, err := p.w.Blobs.List(p.w.t.Context(), p.id, "", "", 1000, nil)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return ids
}

// TestBlobs is the table of references: the blob must be uploaded by this account, be
// what the reference claims, and fit the schema.
func TestBlobs(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.person("alice"), w.person("bob")
	png, text, huge := alice.upload("png", "image/png", 70), alice.upload("text", "text/plain", 5), alice.upload("huge", "image/png", 3_000_000)
	bobs := bob.upload("bob's", "image/png", 70)
	none := dagcbor.RawCID(sha256.Sum256(nil))
	at := alice.head().CID
	for what, c := range map[string]struct{ ref, name, message string }{
		"what is not there": {ref(none, "image/png", 70), "BlobNotFound", "Could not find blob: " + none.String()},
		"another's":         {ref(bobs, "image/png", 70), "BlobNotFound", "Could not find blob: " + bobs.String()},
		"another type":      {ref(png, "image/jpeg", 70), "InvalidMimeType", "Referenced Mimetype does not match stored blob. Expected: image/png, Got: image/jpeg"},
		"another size":      {ref(png, "image/png", 71), "InvalidSize", "Referenced Size does not match stored blob. Expected: 70, Got: 71"},
		"a wrong type":      {ref(text, "text/plain", 5), "InvalidRequest", `Invalid app.bsky.feed.post record: Expected "image/*" (got "text/plain") at $.record.embed.images[0].image.mimeType`},
		"too large":         {ref(huge, "image/png", 3_000_000), "InvalidRequest", "Invalid app.bsky.feed.post record: blob too big (maximum 2000000, got 3000000) at $.record.embed.images[0].image"},
	} {
		_, err := alice.create(post, nil, picture(c.ref))
		wantError(t, what, err, 400, c.name, c.message)
		_, err = alice.apply(step("create", foo, "k", `{}`), step("create", post, "", picture(c.ref)))
		if err == nil {
			t.Errorf("%s, in a batch: taken", what)
		}
	}
	if alice.head().CID != at || len(alice.used()) != 0 {
		t.Fatal("a refused reference made a commit")
	}

	out := alice.mustCreate(post, new("3jui7kd54zh2y"), picture(ref(png, "image/png", 70)))
	alice.mustCreate(foo, new("k"), `{"a":`+ref(text, "text/plain", 5)+`,"b":[`+ref(text, "text/plain", 5)+`,`+ref(huge, "image/png", 3_000_000)+`]}`)
	if got := alice.used(); len(got) != 3 {
		t.Errorf("in use: %v", got)
	}
	// A record that came from elsewhere may misdescribe an old blob; the schema still
	// binds what the blob really is.
	if _, err := alice.put(post, "3jui7kd54zh2y", picture(ref(png, "image/jpeg", 1))); err != nil {
		t.Errorf("an old blob by another name: %v", err)
	}
	_, err := alice.create(post, nil, picture(ref(text, "image/png", 5)))
	wantError(t, "a text by another name", err, 400, "InvalidMimeType", "Stored blob of type text/plain may not be used at $.record.embed.images[0].image")
	_, err = alice.create(post, nil, picture(ref(huge, "image/png", 5)))
	wantError(t, "a large one by another name", err, 400, "InvalidSize", "Stored blob of 3000000 bytes is too large for $.record.embed.images[0].image (maximum 2000000)")
	if _, err := w.CreateRecord(t.Context(), alice.caller, repo.CreateRecordInput{
		Repo: "alice.test", Collection: post, Record: []byte(picture(ref(huge, "image/png", 5))), Validate: new(false),
	}); err != nil {
		t.Errorf("not validated: %v", err)
	}

	if _, err := alice.remove(post, "3jui7kd54zh2y"); err != nil {
		t.Fatal(err)
	}
	if got := alice.used(); slices.Contains(got, png) || len(got) != 2 {
		t.Errorf("in use after the delete of %s: %v", out.URI, got)
	}
	alice.verifyChain(0)
}

// TestBlobGoes: if a blob is collected between the check and the commit, the error
// names it all the same, and the record is not made.
func TestBlobGoes(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	png := alice.upload("png", "image/png", 70)
	w.Service.Store = &racing{w.Service.Store, func() {
		later := w.Now().Add(time.Hour)
		if _, _, err := w.Blobs.Collect(t.Context(), later, later); err != nil {
			t.Error(err)
		}
	}}
	_, err := alice.create(post, nil, picture(ref(png, "image/png", 70)))
	wantError(t, "a blob that went", err, 400, "BlobNotFound", "Could not find blob: "+png.String())
	if got := alice.records(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// TestOldReferences: a profile from before 2023 can be edited, and then has
// references in today's form.
func TestOldReferences(t *testing.T) {
	const profile = "app.bsky.actor.profile"
	w := newWorld(t)
	m := newMover(t, w)
	png, jpeg, none := m.upload("png", "image/png", 70), m.upload("jpeg", "image/jpeg", 80), dagcbor.RawCID(sha256.Sum256(nil))
	old := func(id cid.Cid, mimeType string) string { return fmt.Sprintf(`{"cid":%q,"mimeType":%q}`, id, mimeType) }
	of := func(avatar, banner, more string) string {
		return `{"avatar":` + avatar + `,"banner":` + banner + `,"description":"new"` + more + `}`
	}
	edited := of(old(png, "image/png"), ref(jpeg, "image/jpeg", 80), "")
	refused := "Invalid " + profile + ` record: Expected blob value type (got {"cid": ..., "mimeType": ...}) at $.record.avatar`

	_, err := m.put(profile, "self", edited)
	wantError(t, "a profile that was not there", err, 400, "InvalidRequest", refused)
	m.mustImport(m.file(t, map[string]car.Block{profile + "/self": block(map[string]any{
		"$type": profile, "avatar": map[string]any{"cid": png.String(), "mimeType": "image/png"}, "banner": map[string]any{"cid": none.String(), "mimeType": "image/png"},
	})}).bytes())
	for what, c := range map[string]struct{ record, message string }{
		"a blob that is not here": {of(old(png, "image/png"), old(none, "image/png"), ""), "Blob not found"},
		"a type that none may have": {
			of(old(png, "image/gif"), ref(jpeg, "image/jpeg", 80), ""),
			"Invalid " + profile + ` record: Expected one of "image/png" or "image/jpeg" (got "image/gif") at $.record.avatar.mimeType`,
		},
		"elsewhere in a profile": {of(old(png, "image/png"), ref(jpeg, "image/jpeg", 80), `,"own":{"avatar":`+old(png, "image/png")+`}`), "Legacy blobs are not allowed (" + png.String() + ")"},
		"another property":       {of(old(png, "image/png"), ref(jpeg, "image/jpeg", 80), `,"own":`+old(png, "image/png")), "Legacy blobs are not allowed (" + png.String() + ")"},
		"no record":              {`{"avatar":1.5}`, "Invalid record: 1.5 is not an integer of at most 53 bits at $.avatar"},
	} {
		_, err := m.put(profile, "self", c.record)
		wantError(t, what, err, 400, "InvalidRequest", c.message)
	}
	_, err = m.create(profile, new("self"), edited)
	wantError(t, "createRecord", err, 400, "InvalidRequest", refused)
	if _, err := m.put(profile, "self", edited); err != nil {
		t.Fatal(err)
	}
	got, err := m.get(profile, "self", nil)
	want := `"value":{"$type":"` + profile + `","avatar":` + ref(png, "image/png", 70) + `,"banner":` + ref(jpeg, "image/jpeg", 80) + `,"description":"new"}`
	if err != nil || !sameValue(t, string(got), `{`+want+`}`) {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	if used := m.used(); len(used) != 2 {
		t.Errorf("in use: %v", used)
	}
}

// sameValue compares the members "value" of two objects.
func sameValue(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y struct{ Value map[string]any }
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}
