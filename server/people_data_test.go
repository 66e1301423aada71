package server_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
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

// TestPeopleDataAlone: the repository, preferences and each file alone, while the account is
// active, deactivated and taken down; a file is no page of this server, whatever it holds.
func TestPeopleDataAlone(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	s := pdstest.Start(t, pdstest.Options{Settings: box.Settings()})
	alice := s.SignUp(t, "alice")
	do := func(r pdstest.Request) pdstest.Answer {
		t.Helper()
		r.Method, r.Auth = http.MethodPost, pdstest.Bearer(alice.AccessJwt)
		a := s.Do(t, r)
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", r.NSID, a.Status, a.Body)
		}
		return a
	}
	const hostile = "<!doctype html><svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
	contents := map[string]string{}
	upload := func(kind, content string) string {
		t.Helper()
		var up struct {
			Blob struct {
				Type string `json:"$type"`
				Ref  struct {
					Link string `json:"$link"`
				} `json:"ref"`
				MimeType string `json:"mimeType"`
				Size     int    `json:"size"`
			}
		}
		do(pdstest.Request{NSID: "com.atproto.repo.uploadBlob", Body: content, Header: http.Header{"Content-Type": {kind}}}).Decode(t, &up)
		do(pdstest.Request{NSID: "com.atproto.repo.createRecord", Body: map[string]any{
			"repo": alice.DID, "collection": "com.example.file", "record": map[string]any{"$type": "com.example.file", "file": up.Blob},
		}})
		contents[up.Blob.Ref.Link] = content
		return up.Blob.Ref.Link
	}
	page, picture := upload("text/html", hostile), upload("image/svg+xml", hostile+" ")
	for i := range 60 {
		upload("text/plain", fmt.Sprint("file ", i))
	}
	do(pdstest.Request{NSID: "app.bsky.actor.putPreferences", Body: map[string]any{"preferences": []any{map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true}}}})
	car := string(s.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + alice.DID}).Body)

	p, stranger := newVisitor(t, s), newVisitor(t, s)
	p.signIn("alice.test", pdstest.Password)
	path := "/account/u/" + alice.DID + "/"
	look := func(state string) {
		t.Helper()
		data := p.get(path + "data")
		p.want(data, http.StatusOK, "", "Or one thing alone", "Your posts", "Settings of your apps")
		token := data.text[strings.LastIndex(data.text, `action="`+path+`data"`):] // the bar above has a form of its own
		post := func(typed url.Values) shown {
			typed.Set("csrf", shown{text: token}.field("csrf"))
			return p.send(path+"data", typed)
		}
		repo := post(url.Values{"part": {"repo"}})
		if repo.status != http.StatusOK || repo.text != car || repo.header.Get("Content-Type") != "application/vnd.ipld.car" || !strings.HasSuffix(repo.header.Get("Content-Disposition"), `.car"`) {
			t.Errorf("%s: the repository: %d %v, %d bytes", state, repo.status, repo.header, len(repo.text))
		}
		prefs := post(url.Values{"part": {"preferences"}})
		if strings.Contains(prefs.text, "Confirm that it is you") {
			prefs = p.proven(box, prefs, path+"data", "")
		}
		if prefs.status != http.StatusOK || prefs.header.Get("Content-Type") != "application/json" || !json.Valid([]byte(prefs.text)) || !strings.Contains(prefs.text, "adultContentPref") {
			t.Errorf("%s: the preferences: %d %v %s", state, prefs.status, prefs.header, prefs.text)
		}
		listed := map[string]bool{}
		pages := 0
		for next := path + "files"; next != ""; pages++ {
			list := p.get(next)
			p.want(list, http.StatusOK, "")
			for _, m := range regexp.MustCompile(`file\?cid=([a-z0-9]+)"`).FindAllStringSubmatch(list.text, -1) {
				listed[m[1]] = true
			}
			next = ""
			if m := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(list.text); m != nil {
				next = html.UnescapeString(m[1])
			}
		}
		if len(listed) != len(contents) || pages != 2 {
			t.Errorf("%s: %d files on %d pages, want %d", state, len(listed), pages, len(contents))
		}
		for _, id := range []string{page, picture} {
			file := p.get(path + "file?cid=" + id)
			h := file.header
			if file.status != http.StatusOK || file.text != contents[id] || h.Get("Content-Security-Policy") != "default-src 'none'; sandbox" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %v %q", state, file.status, h, file.text)
			}
			if a := stranger.get(path + "file?cid=" + id); a.status != http.StatusSeeOther {
				t.Errorf("%s: a stranger gets %d", state, a.status)
			}
		}
		for _, id := range []string{"", "x", "bafyreiaia4aivilf6udqvv3xsfoz4shng5j5dhsi2yfyraludx54g7xrcy", "bafkreiaia4aivilf6udqvv3xsfoz4shng5j5dhsi2yfyraludx54g7xrcy"} {
			if a := p.get(path + "file?cid=" + id); a.status != http.StatusNotFound {
				t.Errorf("%s: %q: %d", state, id, a.status)
			}
		}
		p.want(p.get(path+"deactivate"), http.StatusOK, "", "Download your data first", path+"data")
	}
	look("active")
	p.want(p.get(path+"events"), http.StatusOK, "", "The settings of your apps were downloaded.")
	do(pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Body: map[string]any{}})
	look("deactivated")
	p.want(p.get(path+"delete"), http.StatusOK, "", "Download your data first")
	var out any
	if err := s.Run(t.Context(), "account.takedown", map[string]string{"account": alice.DID}, &out); err != nil {
		t.Fatal(err)
	}
	p = newVisitor(t, s) // it ended the sign-in
	p.signIn("alice.test", pdstest.Password)
	look("taken down")
}
