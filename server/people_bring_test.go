package server_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// upload sends a file by the form of the page.
func (p *visitor) upload(page shown, path, name string, file io.Reader) shown {
	p.t.Helper()
	_, form, _ := strings.Cut(page.text, `action="`+path+`"`)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	if err := w.WriteField("csrf", shown{text: form}.field("csrf")); err != nil {
		p.t.Fatal(err)
	}
	part, err := w.CreateFormFile("file", name)
	if err == nil {
		_, err = io.Copy(part, file)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.base+path, &body)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", w.FormDataContentType())
	r.Header.Set("Origin", p.base)
	return p.do(r)
}

// form returns a page from its form on: the bar of a deactivated account has one of its own.
func (s shown) form(path string) shown {
	if i := strings.LastIndex(s.text, `action="`+path+`"`); i >= 0 {
		s.text = s.text[i:]
	}
	return s
}

// prove proves alice by password and code for what a page asks.
func (p *visitor) prove(box *pdstest.Mailbox, asked shown, path string) shown {
	p.t.Helper()
	p.want(asked, http.StatusOK, "", "Confirm that it is you")
	v := url.Values{"step": {"step-up"}, "kept": {asked.field("kept")}, "decision": {"confirm"}, "code": {box.Code(p.t, "alice@example.com")}, "csrf": {asked.form(path).field("csrf")}}
	return p.post(asked, path, v)
}

// movers are two servers, and alice who moves from one to the other.
type movers struct {
	old, now       *pdstest.InProcess
	oldBox, nowBox *pdstest.Mailbox
	before, after  pdstest.Session
}

const picture = "\x89PNG\r\n\x1a\n a picture"

// newMovers makes alice at the old server, with posts, pictures and preferences, and has her
// account made, deactivated, at the new one.
func newMovers(t *testing.T) *movers {
	t.Helper()
	m := &movers{oldBox: pdstest.NewMailbox(t, pdstest.MailboxOptions{}), nowBox: pdstest.NewMailbox(t, pdstest.MailboxOptions{})}
	m.old = pdstest.Start(t, pdstest.Options{Settings: m.oldBox.Settings()})
	m.before = m.old.SignUp(t, "alice")
	bearer := pdstest.Bearer(m.before.AccessJwt)
	post := func(nsid string, body any, header http.Header) pdstest.Answer {
		t.Helper()
		a := m.old.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: bearer, Body: body, Header: header})
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
		}
		return a
	}
	for _, text := range []string{"one", "two", "three"} {
		var up struct{ Blob json.RawMessage }
		post("com.atproto.repo.uploadBlob", picture+text, http.Header{"Content-Type": {"image/png"}}).Decode(t, &up)
		post("com.atproto.repo.createRecord", map[string]any{"repo": m.before.DID, "collection": "app.bsky.feed.post", "record": map[string]any{
			"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-11-29T12:00:00Z", "embed": map[string]any{
				"$type": "app.bsky.embed.images", "images": []any{map[string]any{"alt": "", "image": up.Blob}},
			},
		}}, nil)
	}
	post("app.bsky.actor.putPreferences", map[string]any{"preferences": []any{
		map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true},
		map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-05-01T00:00:00.000Z"},
	}}, nil)
	m.now = pdstest.Start(t, pdstest.Options{Settings: append(m.nowBox.Settings(), "PDS_DID_PLC_URL="+m.old.PLC)})
	var token struct{ Token string }
	m.old.Do(t, pdstest.Request{NSID: "com.atproto.server.getServiceAuth?" + url.Values{"aud": {m.now.DID}, "lxm": {"com.atproto.server.createAccount"}}.Encode(), Auth: bearer}).Decode(t, &token)
	made := m.now.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Auth: pdstest.Bearer(token.Token), Body: map[string]any{
		"did": m.before.DID, "handle": "alice.test", "email": "alice@example.com", "password": pdstest.Password,
	}})
	if made.Status != http.StatusOK {
		t.Fatalf("move in: %d %s", made.Status, made.Body)
	}
	made.Decode(t, &m.after)
	return m
}

// holds returns the tree of a repository, which names every record, the preferences, and the
// blobs with their types, as a server shows them to the owner.
func holds(t *testing.T, s *pdstest.InProcess, who pdstest.Session) string {
	t.Helper()
	get := func(nsid string) pdstest.Answer {
		t.Helper()
		a := s.Do(t, pdstest.Request{NSID: nsid, Auth: pdstest.Bearer(who.AccessJwt)})
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
		}
		return a
	}
	var head struct{ CID string }
	get("com.atproto.sync.getLatestCommit?did="+who.DID).Decode(t, &head)
	commit := get("com.atproto.sync.getBlocks?did=" + who.DID + "&cids=" + head.CID).Body
	_, tree, ok := bytes.Cut(commit, []byte("\x64data\xd8\x2a\x58\x25\x00"))
	if !ok || len(tree) < 36 {
		t.Fatalf("no tree in %q", commit)
	}
	out := fmt.Sprintf("%x\n%s\n", tree[:36], get("app.bsky.actor.getPreferences").Body)
	var blobs struct{ CIDs []string }
	get("com.atproto.sync.listBlobs?did="+who.DID).Decode(t, &blobs)
	for _, id := range blobs.CIDs {
		b := get("com.atproto.sync.getBlob?did=" + who.DID + "&cid=" + id)
		out += id + " " + b.Header.Get("Content-Type") + " " + string(b.Body) + "\n"
	}
	return out
}

// download takes everything from the old server.
func (m *movers) download(t *testing.T) string {
	t.Helper()
	p, path := newVisitor(t, m.old), "/account/u/"+m.before.DID+"/data"
	p.signIn("alice.test", pdstest.Password)
	page := p.get(path)
	all := p.proven(m.oldBox, p.post(page, path, url.Values{"part": {"0"}, "csrf": {page.form(path).field("csrf")}}), path, "")
	if all.header.Get("Content-Type") != "application/zip" {
		t.Fatalf("%d %.500s", all.status, all.text)
	}
	return all.text
}

// TestPeopleBring: all that an account has at one server is downloaded there, and brought in
// at another: the same records, files and preferences are here. What is wrong changes
// nothing, and says why.
func TestPeopleBring(t *testing.T) {
	m := newMovers(t)
	archive := m.download(t)
	p, did := newVisitor(t, m.now), m.before.DID
	path, to := "/account/u/"+did+"/data/bring", "/account/u/"+did+"/data/upload"
	p.signIn("alice.test", pdstest.Password)
	page := p.get(path)
	p.want(page, http.StatusOK, "", "What is here now", "You need the password and a second proof")
	p.want(p.upload(page, to, "all.zip", strings.NewReader(archive)), http.StatusForbidden, "") // no token: no form
	step := p.post(page, path, url.Values{"decision": {"prove"}, "csrf": {page.form(path).field("csrf")}})
	p.want(p.prove(m.nowBox, step, path), http.StatusSeeOther, path)
	page = p.get(path)
	p.want(page, http.StatusOK, "", "Send and look at it")

	was := holds(t, m.now, m.after)
	for name, bad := range map[string]struct{ file, says string }{
		"none":      {"", "neither a repository"},
		"text":      {"hello, this is no archive", "The repository cannot be read"},
		"zip":       {"PK\x03\x04 nor is this", "neither a repository"},
		"truncated": {archive[:len(archive)/2], "neither a repository"},
		"damaged":   {strings.Replace(archive, "a picturetwo", "a pictureTWO", 1), "are left out"},
		"other":     {strings.Replace(readZip(t, archive)["repo.car"], did, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", 1), "The repository cannot be read"},
	} {
		p.want(p.upload(p.get(path), to, "a", strings.NewReader(bad.file)), http.StatusSeeOther, path)
		shown := p.get(path)
		if name == "damaged" {
			bad.says = "1 is left out"
		}
		p.want(shown, http.StatusOK, "", bad.says)
		if got := holds(t, m.now, m.after); got != was {
			t.Errorf("%s: the account has changed: %s", name, got)
		}
	}
	part := partOf(t, did, archive)
	p.want(p.upload(p.get(path), to, "part.zip", strings.NewReader(part)), http.StatusSeeOther, path)
	p.want(p.get(path), http.StatusOK, "", "3 are left out", "bring in the repository first")

	p.want(p.upload(p.get(path), to, "all.zip", strings.NewReader(archive)), http.StatusSeeOther, path)
	page = p.get(path)
	p.want(page, http.StatusOK, "", "What the file holds", "new: 3; here already: 0", "will be replaced")
	if got := holds(t, m.now, m.after); got != was {
		t.Errorf("examined, and the account has changed: %s", got)
	}
	replace := func(change string) shown {
		t.Helper()
		v := url.Values{"decision": {"replace"}}
		for _, name := range []string{"csrf", "sent", "head", "preferences"} {
			v.Set(name, page.form(path).field(name))
		}
		if change != "" {
			v.Set(change, "7")
		}
		return p.post(page, path, v)
	}
	for _, other := range []string{"sent", "head", "preferences"} {
		p.want(replace(other), http.StatusConflict, "", "has changed since the page was shown")
	}
	if got := holds(t, m.now, m.after); got != was {
		t.Errorf("what was not confirmed changed the account: %s", got)
	}
	p.want(replace(""), http.StatusSeeOther, path)
	page = p.get(path)
	p.want(page, http.StatusOK, "", "Brought in", "3 of 3")
	for _, part := range []string{"events", "security"} { // as each act that takes two proofs
		p.want(p.get("/account/u/"+did+"/"+part), http.StatusOK, "", "A file was brought in, which replaces what the account has.")
	}
	if got, want := holds(t, m.now, m.after), holds(t, m.old, m.before); got != want {
		t.Errorf("the new server has\n%s\nthe old one\n%s", got, want)
	}
	p.want(p.post(page, path, url.Values{"decision": {"replace"}, "csrf": {page.form(path).field("csrf")}}), http.StatusSeeOther, path) // a repeated post
	p.want(p.post(page, path, url.Values{"decision": {"discard"}, "csrf": {page.form(path).field("csrf")}}), http.StatusSeeOther, path)
	if again := p.get(path); strings.Contains(again.text, "Brought in") {
		t.Error("what was closed is shown again")
	}
	p.want(p.upload(p.get(path), to, "part.zip", strings.NewReader(part)), http.StatusSeeOther, path)
	p.want(p.get(path), http.StatusOK, "", "new: 0; here already: 3", "Nothing is replaced")
	for name, c := range map[string]struct{ prefs, says string }{
		"none":  {`{"preferences":[]}`, "Nothing is replaced"},
		"odd":   {`{"preferences":[{"$type":"com.example.pref"},{"$type":"app.bsky.actor.defs#adultContentPref","enabled":"no"}]}`, "Nothing is replaced"},
		"named": {`{"preferences":[{"$type":"com.example.pref"}]}`, "com.example.pref"},
	} {
		p.want(p.upload(p.get(path), to, "part.zip", strings.NewReader(zipOf(t, did, map[string]string{"preferences.json": c.prefs}))), http.StatusSeeOther, path)
		page = p.get(path)
		p.want(page, http.StatusOK, "", c.says)
		p.want(replace(""), http.StatusSeeOther, path)
		if got, want := holds(t, m.now, m.after), holds(t, m.old, m.before); got != want {
			t.Errorf("%s preferences: the new server has\n%s\nthe old one\n%s", name, got, want)
		}
	}
	p.want(p.upload(p.get(path), to, "part.zip", strings.NewReader(zipOf(t, did, map[string]string{"preferences.json": `{"preferences":[{"$type":"app.bsky.actor.defs#adultContentPref","enabled":false}]}`}))), http.StatusSeeOther, path)
	page = p.get(path)
	p.want(page, http.StatusOK, "", "The settings of apps here (2) will be replaced")
	if strings.Contains(page.text, "Nothing is replaced") {
		t.Error("settings are replaced, and the page says that nothing is")
	}
}

// partOf returns the files of an archive as the download of a part has them.
func partOf(t *testing.T, did, archive string) string {
	t.Helper()
	files := readZip(t, archive)
	maps.DeleteFunc(files, func(name, _ string) bool { return !strings.HasPrefix(name, "blobs") })
	return zipOf(t, did, files)
}

// zipOf returns a part of an archive with these files.
func zipOf(t *testing.T, did string, files map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	listed := []any{}
	add := func(name, content string) {
		t.Helper()
		w, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(w, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		add(name, content)
		listed = append(listed, map[string]any{"name": name, "size": len(content), "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(content)))})
	}
	raw, err := json.Marshal(map[string]any{"version": 1, "did": did, "part": map[string]any{"Files": 3}, "files": listed})
	if err != nil {
		t.Fatal(err)
	}
	add("manifest.json", string(raw))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestPeopleBringActive: an account in use whose repository has records keeps them.
func TestPeopleBringActive(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings()})
	alice := s.SignUp(t, "alice")
	p, path := newVisitor(t, s), "/account/u/"+alice.DID+"/data/bring"
	p.signIn("alice.test", pdstest.Password)
	p.want(p.get(path), http.StatusOK, "", "You need the password and a second proof")
	s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{
		"repo": alice.DID, "collection": "app.bsky.feed.post", "record": map[string]any{"$type": "app.bsky.feed.post", "text": "x", "createdAt": "2026-11-29T12:00:00Z"},
	}})
	p.want(p.get(path), http.StatusOK, "", "Deactivate the account first")
}

// TestUploadHead: what comes ahead of a file is bounded, before anybody is signed in.
func TestUploadHead(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	p := newVisitor(t, s)
	const path = "/account/u/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/data/upload"
	for name, body := range map[string]string{
		"a preamble": strings.Repeat("\r\n", 40<<10),
		"a header":   "--b\r\nContent-Disposition: form-data; name=\"" + strings.Repeat("n", 80<<10),
		"a field":    "--b\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\n" + strings.Repeat("c", 80<<10),
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(body+strings.Repeat(" ", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		r.Header.Set("Origin", s.URL)
		if got := p.do(r); got.status != http.StatusBadRequest && got.status != http.StatusForbidden && got.status != http.StatusSeeOther {
			t.Errorf("%s: %d", name, got.status)
		}
	}
}
