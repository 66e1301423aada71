package server_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// readZip returns the files of an archive, and checks them against its manifest.
func readZip(t *testing.T, text string) map[string]string {
	t.Helper()
	z, err := zip.NewReader(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatalf("%v: %.300q", err, text)
	}
	files := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		files[f.Name] = string(raw)
		if strings.HasPrefix(f.Name, "blobs/") && f.Method != zip.Store {
			t.Errorf("%s is compressed", f.Name)
		}
	}
	var manifest struct {
		Files []struct {
			Name, SHA256 string
			Size         int
		}
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Files) != len(files)-1 {
		t.Errorf("the manifest names %d files of %d", len(manifest.Files), len(files)-1)
	}
	for _, f := range manifest.Files {
		sum := sha256.Sum256([]byte(files[f.Name]))
		if f.SHA256 != hex.EncodeToString(sum[:]) || f.Size != len(files[f.Name]) {
			t.Errorf("%s: the manifest has %d bytes, %s", f.Name, f.Size, f.SHA256)
		}
	}
	return files
}

// proven types the code that was mailed into the page that asks for a proof, and the password
// if that is not proven any more.
func (p *visitor) proven(box *pdstest.Mailbox, asked shown, path, password string) shown {
	p.t.Helper()
	p.want(asked, http.StatusOK, "", "Confirm that it is you", "Downloading what is private")
	form := func(page shown, typed ...string) url.Values {
		v := url.Values{"step": {"step-up"}, "kept": {page.field("kept")}, "decision": {"confirm"}}
		for i := 0; i+1 < len(typed); i += 2 {
			v.Set(typed[i], typed[i+1])
		}
		return v
	}
	if password != "" {
		asked = p.post(asked, path, form(asked, "password", password))
	}
	return p.post(asked, path, form(asked, "code", box.Code(p.t, "alice@example.com")))
}

// TestPeopleData: everything in one file, after a proof: the repository as getRepo gives it,
// the records in words, files, preferences, what the server knows, and what is missing.
func TestPeopleData(t *testing.T) {
	clock := storetest.NewClock(time.Now())
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Now: clock.Now, Settings: append(box.Settings(), "PDS_RATE_LIMITS_ENABLED=true")})
	alice := s.SignUp(t, "alice")
	bearer := pdstest.Bearer(alice.AccessJwt)
	do := func(r pdstest.Request) pdstest.Answer {
		t.Helper()
		r.Method, r.Auth = http.MethodPost, bearer
		a := s.Do(t, r)
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", r.NSID, a.Status, a.Body)
		}
		return a
	}
	picture := "\x89PNG\r\n\x1a\n" + strings.Repeat("a picture ", 1000)
	var up struct{ Blob json.RawMessage }
	do(pdstest.Request{NSID: "com.atproto.repo.uploadBlob", Body: picture, Header: http.Header{"Content-Type": {"image/png"}}}).Decode(t, &up)
	post := map[string]any{"$type": "app.bsky.feed.post", "text": "with a picture <b>&amp;</b>", "createdAt": "2026-11-29T12:00:00Z", "embed": map[string]any{
		"$type": "app.bsky.embed.images", "images": []any{map[string]any{"alt": "", "image": up.Blob}},
	}}
	for range 3 {
		do(pdstest.Request{NSID: "com.atproto.repo.createRecord", Body: map[string]any{"repo": alice.DID, "collection": "app.bsky.feed.post", "record": post}})
	}
	do(pdstest.Request{NSID: "com.atproto.repo.createRecord", Body: map[string]any{"repo": alice.DID, "collection": "xyz.statusphere.status", "record": map[string]any{"$type": "xyz.statusphere.status", "status": "🪺", "createdAt": "2026-11-29T12:00:00Z"}}})
	do(pdstest.Request{NSID: "app.bsky.actor.putPreferences", Body: map[string]any{"preferences": []any{map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true}}}})
	_, app := appPassword(t, s, alice, "bot")

	p := newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password, "remember", "on")
	path := "/account/u/" + alice.DID + "/data"
	p.want(p.get(path), http.StatusOK, "", "Everything in one file", "1 picture or other file", "about 1 MB")
	all := p.proven(box, p.post(p.get(path), path, url.Values{"part": {"0"}}), path, "")
	if got := all.header.Get("Content-Disposition"); all.status != http.StatusOK || all.header.Get("Content-Type") != "application/zip" || !strings.HasPrefix(got, `attachment; filename="alice.test-`) {
		_, main, _ := strings.Cut(all.text, "<main")
		t.Fatalf("%d %v\n%.1500s", all.status, all.header, main)
	}
	files := readZip(t, all.text)
	car := s.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + alice.DID})
	if !bytes.Equal([]byte(files["repo.car"]), car.Body) {
		t.Error("repo.car is not what getRepo gives")
	}
	if posts := files["records/app.bsky.feed.post.ndjson"]; strings.Count(posts, "\n") != 3 || !strings.Contains(posts, `{"rkey":"`) || !strings.Contains(posts, `"text":"with a picture <b>&amp;</b>"`) {
		t.Errorf("the posts: %q", posts)
	}
	if status := files["records/xyz.statusphere.status.ndjson"]; !strings.Contains(status, "🪺") {
		t.Errorf("another collection: %q", status)
	}
	pictures := 0
	for name, content := range files {
		if strings.HasPrefix(name, "blobs/") {
			pictures++
			if !strings.HasSuffix(name, ".png") || content != picture {
				t.Errorf("%s: %.40q", name, content)
			}
		}
	}
	if pictures != 1 || !strings.Contains(files["blobs.json"], `"usedBy":["app.bsky.feed.post/`) {
		t.Errorf("%d pictures; %s", pictures, files["blobs.json"])
	}
	for name, want := range map[string]string{
		"account.json": `"handle": "alice.test"`, "preferences.json": "adultContentPref", "missing.json": "[]\n", "README.txt": alice.DID, "manifest.json": `"records": 4`,
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q:\n%s", name, want, files[name])
		}
	}
	for _, want := range []string{`"didDocument"`, `"plcLog"`, `"name": "bot"`, `"kind": "app-password-created"`, `"signedInAt"`} {
		if !strings.Contains(files["account.json"], want) {
			t.Errorf("account.json lacks %s:\n%s", want, files["account.json"])
		}
	}
	for name, content := range files {
		for _, secret := range []string{app, pdstest.Password, "scrypt", "sha256$", alice.RefreshJwt} {
			if strings.Contains(content, secret) {
				t.Errorf("%s holds a secret", name)
			}
		}
	}

	p.want(p.post(p.get(path), path, url.Values{"part": {"1"}}), http.StatusConflict, "", "This has changed meanwhile")
	p.want(p.post(p.get(path), path, url.Values{"part": {"x"}}), http.StatusSeeOther, path)
	clock.Advance(11 * time.Minute)
	if again := p.proven(box, p.post(p.get(path), path, url.Values{"part": {"0"}}), path, pdstest.Password); again.header.Get("Content-Type") != "application/zip" {
		t.Errorf("after the proof: %d %v", again.status, again.header)
	}
	for range 3 {
		p.post(p.get(path), path, url.Values{"part": {"0"}})
	}
	if sixth := p.post(p.get(path), path, url.Values{"part": {"0"}}); sixth.status != http.StatusTooManyRequests || sixth.header.Get("Retry-After") == "" {
		t.Errorf("a sixth in a day: %d", sixth.status)
	}
}

// TestPeopleDataDeactivated: an account that is deactivated takes its data along.
func TestPeopleDataDeactivated(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings()})
	alice := s.SignUp(t, "alice")
	p := newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	if a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{}}); a.Status != http.StatusOK {
		t.Fatalf("deactivate: %d %s", a.Status, a.Body)
	}
	path := "/account/u/" + alice.DID + "/data"
	page := p.get(path)
	form := page.text[strings.LastIndex(page.text, `action="`+path+`"`):] // the bar above has a form of its own
	files := readZip(t, p.proven(box, p.post(page, path, url.Values{"csrf": {shown{text: form}.field("csrf")}, "part": {"0"}}), path, "").text)
	if files["repo.car"] == "" || !strings.Contains(files["account.json"], `"status": "deactivated"`) {
		t.Errorf("%v", files["account.json"])
	}
}
