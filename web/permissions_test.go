package web_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/oauth/scope"
	"nestbox/web"
)

const setDocument = `{"lexicon":1,"id":"com.example.authBasic","defs":{"main":{"type":"permission-set",
"title":"Basic example","title:lang":{"de":"Einfaches Beispiel"},"detail":"Write examples.","detail:lang":{"de":"Beispiele schreiben."},
"permissions":[{"type":"permission","resource":"repo","collection":["com.example.note"],"action":["create"]}]}}}`

// lines renders the consent page of a scope and returns its lines as text, those of the
// warning box marked with "!" and those with a tick box with "[x]".
func lines(t *testing.T, p *web.Pages, language, text string) []string {
	t.Helper()
	set, err := scope.ParsePermissionSet("com.example.authBasic", []byte(setDocument))
	if err != nil {
		t.Fatal(err)
	}
	empty, err := scope.ParsePermissionSet("com.example.deep.authBasic", []byte(strings.ReplaceAll(setDocument, "com.example.authBasic", "com.example.deep.authBasic")))
	if err != nil {
		t.Fatal(err)
	}
	sets := map[syntax.NSID]*scope.PermissionSet{set.NSID: set, empty.NSID: empty}
	page := &web.Consent{
		Frame:       web.Frame{Form: web.Form{Action: "/oauth/authorize"}, Client: &web.Client{ID: "https://app.example.net/c.json", Host: "app.example.net"}},
		Permissions: web.Permissions(scope.Parse(text).Permissions(sets), &web.Account{DID: "did:plc:x", Handle: "alice.example.com"}),
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/oauth/authorize", http.NoBody)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	p.Render(w, r, http.StatusOK, page)
	body, danger, _ := strings.Cut(w.Body.String(), `<fieldset class="permissions danger">`)
	tags := regexp.MustCompile(`<[^>]*>`)
	row := regexp.MustCompile(`(?s)<(?:label|p) class="tick(?: fixed)?">.*?</(?:label|p)>`)
	var out []string
	add := func(part, mark string) {
		for _, m := range row.FindAllString(part, -1) {
			box := ""
			if strings.Contains(m, `name="permission"`) {
				box = "[x] "
			}
			if strings.Contains(m, `name="understood"`) {
				continue
			}
			plain := tags.ReplaceAllString(strings.ReplaceAll(m, `<span class="detail">`, " | "), "")
			out = append(out, mark+box+strings.Join(strings.Fields(html.UnescapeString(plain)), " "))
		}
	}
	add(body, "")
	add(danger, "!")
	return out
}

// TestPermissionLines: each permission is described by what it truly allows
// (atproto#4424), in both languages.
func TestPermissionLines(t *testing.T) {
	t.Parallel()
	p := open(t, web.Settings{})
	for _, c := range []struct{ scope, en, de string }{
		{"atproto", "Know who you are: alice.example.com", "Wissen, wer du bist: alice.example.com"},
		{"transition:generic", "Do nearly everything in your name: write and delete anything, upload files, change preferences, use any service broad | Not included: your direct messages.", ""},
		{"transition:generic transition:chat.bsky", "Read and send your direct messages", "Deine Direktnachrichten lesen und welche senden"},
		{"transition:generic transition:chat.bsky", "Do nearly everything in your name: write and delete anything, upload files, change preferences, use any service broad", ""},
		{"transition:email", "See your e-mail address", "Deine E-Mail-Adresse sehen"},
		{"repo:app.example.note", "[x] Create, change and delete app.example.note", "[x] app.example.note anlegen, ändern und löschen"},
		{"repo:app.bsky.feed.post?action=create", "[x] Create posts", "[x] Beiträge anlegen"},
		{"repo?collection=app.bsky.feed.post&collection=a.b.c&collection=a.b.d&action=update&action=delete", "[x] Change and delete a.b.c, a.b.d and posts", "[x] a.b.c, a.b.d und Beiträge ändern und löschen"},
		{"repo:*", "[x] Create, change and delete everything in your public repository: posts, likes, follows and all else broad", ""},
		{"repo:*?action=delete", "[x] Delete everything in your public repository: posts, likes, follows and all else broad", ""},
		{"rpc:a.b.getX?aud=*", "[x] Call a.b.getX of any service in your name", "[x] a.b.getX von jedem Dienst in deinem Namen aufrufen"},
		{"rpc:a.b.getX?aud=did:web:x.example#svc", "[x] Call a.b.getX of x.example in your name", ""},
		{"rpc:*?aud=did:plc:ewvi7nxzyoun6zhxrhs64oiz#svc", "[x] Call everything that did:plc:ewvi7nxzyoun6zhxrhs64oiz#svc offers, in your name", ""},
		{"blob:*/*", "[x] Upload files of any kind", "[x] Dateien jeder Art hochladen"},
		{"blob?accept=image/*&accept=video/*", "[x] Upload pictures and videos", "[x] Bilder und Videos hochladen"},
		{"blob:text/html", "[x] Upload files of the type text/html", ""},
		{"account:email", "[x] See your e-mail address", ""},
		{"account:email?action=manage", "[x] See your e-mail address and confirm it", ""},
		{"account:repo", "[x] See the state of your repository", ""},
		{"account:repo?action=manage", "![x] Replace your whole repository: everything you have ever posted", ""},
		{"account:status?action=manage", "![x] Deactivate and reactivate your account", "![x] Dein Konto deaktivieren und wieder aktivieren"},
		{"identity:handle", "[x] Change your handle", ""},
		{"identity:*", "![x] Take over your identity: move your account to another server and lock you out", ""},
		{"include:com.example.authBasic", "[x] Basic example | Write examples. | A set of permissions published by example.com", "[x] Einfaches Beispiel | Beispiele schreiben. | Ein Bündel von Erlaubnissen, veröffentlicht von example.com"},
		{"include:com.example.deep.authBasic", "[x] Basic example: this set of permissions grants nothing, because its publisher placed it one level too deep | A set of permissions published by deep.example.com", ""},
		{"include:com.example.authUnknown", "[x] com.example.authUnknown | What this set allows could not be looked up, so it allows nothing for now.", ""},
	} {
		for language, want := range map[string]string{"en": c.en, "de": c.de} {
			text := c.scope
			if text != "atproto" {
				text = "atproto " + text
			}
			got := lines(t, p, language, text)
			if want != "" && !slices.Contains(got, want) {
				t.Errorf("%s in %s:\n got %q\nwant %q", c.scope, language, got, want)
			}
		}
	}
}
