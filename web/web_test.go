package web

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"nestbox/internal/color"
)

func openPages(t *testing.T, s Settings) *Pages {
	t.Helper()
	p, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// get answers a GET of a page with the given headers, in pairs.
func get(t *testing.T, p *Pages, path string, page Page, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.Render(w, r, http.StatusOK, page)
	return w
}

const basicPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"

// TestHeaders compares the headers of pages with the contract, in and outside of the flow.
func TestHeaders(t *testing.T) {
	t.Parallel()
	common := map[string]string{
		"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
		"Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self)", "X-Robots-Tag": "noindex",
		"Content-Type": "text/html; charset=utf-8", "Strict-Transport-Security": "max-age=63072000", "Access-Control-Allow-Origin": "",
	}
	const captcha = " https://hcaptcha.com https://*.hcaptcha.com"
	branded := Brand{LogoURL: "https://cdn.example.com/logo.svg", BackgroundLightURL: "https://cdn.example.com/a.jpg", BackgroundDarkURL: "http://b.example:8080/b.jpg"}
	withCaptcha := &SignUp{Policy: "open", CaptchaKey: "k"}
	for name, c := range map[string]struct {
		brand        Brand
		path         string
		page         Page
		policy, coop string
	}{
		"flow":            {Brand{}, "/oauth/authorize", &SignIn{}, basicPolicy, ""},
		"flow, message":   {Brand{}, "/oauth/authorize", &Message{Title: Msg("error.link-title")}, basicPolicy, ""},
		"account":         {Brand{}, "/account/sign-in", &SignIn{}, basicPolicy + "; form-action 'self'", "same-origin"},
		"pictures":        {branded, "/account/sign-in", &SignIn{}, strings.Replace(basicPolicy, "data:", "data: https://cdn.example.com http://b.example:8080", 1) + "; form-action 'self'", "same-origin"},
		"captcha":         {Brand{}, "/account/sign-up", withCaptcha, "default-src 'none'; script-src 'self'" + captcha + "; style-src 'self'" + captcha + "; img-src 'self' data:; connect-src 'self'" + captcha + "; base-uri 'none'; frame-ancestors 'none'; frame-src" + captcha + "; form-action 'self'", "same-origin"},
		"captcha, closed": {Brand{}, "/account/sign-up", &SignUp{Policy: "closed", CaptchaKey: "k"}, basicPolicy + "; form-action 'self'", "same-origin"},
	} {
		t.Run(name, func(t *testing.T) {
			h := get(t, openPages(t, Settings{Hostname: "pds.example.com", Brand: c.brand}), c.path, c.page).Header()
			for key, want := range common {
				if got := h.Get(key); got != want {
					t.Errorf("%s: %q, want %q", key, got, want)
				}
			}
			if got := h.Get("Content-Security-Policy"); got != c.policy {
				t.Errorf("policy\n%s, want\n%s", got, c.policy)
			}
			if got := h.Get("Cross-Origin-Opener-Policy"); got != c.coop {
				t.Errorf("opener policy %q, want %q", got, c.coop)
			}
		})
	}
	if got := get(t, openPages(t, Settings{Dev: true}), "/account", &Accounts{}).Header().Get("Strict-Transport-Security"); got != "" {
		t.Errorf("under --dev: HSTS %q", got)
	}
}

// TestLanguage: ui_locales come before the cookie, that before the browser; a language
// that we lack is passed over.
func TestLanguage(t *testing.T) {
	t.Parallel()
	p := openPages(t, Settings{})
	for _, c := range []struct{ locales, cookie, accept, want string }{
		{"", "", "", "en"},
		{"", "", "de-AT,en;q=0.5", "de"},
		{"", "", "fr,de;q=0.8,en;q=0.5", "de"},
		{"", "", "fr", "en"},
		{"", "de", "en", "de"},
		{"", "nonsense!", "de", "de"},
		{"en-GB de", "de", "de", "en"},
		{"fr-CA de", "", "en", "de"},
		{"fr", "", "de", "de"},
		{strings.Repeat("x ", 4000), "", "de", "de"},
		{"<script>", "", "de;q=x", "en"},
	} {
		got := get(t, p, "/account", &Accounts{Frame: Frame{Locales: c.locales}}, "Cookie", "lang="+c.cookie, "Accept-Language", c.accept)
		if language := got.Header().Get("Content-Language"); language != c.want || !strings.Contains(got.Body.String(), `<html lang="`+c.want+`" dir="ltr">`) {
			t.Errorf("%+v: %s", c, language)
		}
	}
	if got := fmt.Sprint(p.Languages(), openPages(t, Settings{Pseudo: true}).Languages()); got != "[en de] [en de]" {
		t.Errorf("languages %s", got)
	}
}

func TestSetLanguage(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"/account/sign-in":                                 "/account/sign-in",
		"/account/u/did:plc:x/sessions?kind=app":           "/account/u/did:plc:x/sessions?kind=app",
		"/oauth/authorize?client_id=x&request_uri=urn%3Ay": "/oauth/authorize?client_id=x&request_uri=urn%3Ay",
		"/account": "/account",
		"":         "/account", "//evil.example/account": "/account", "https://evil.example/account": "/account", `/\evil.example`: "/account", "/account/../oauth/par": "/account",
		`/account/\\evil`: "/account", "/xrpc/x": "/account", "javascript:alert(1)": "/account", "/oauth/par": "/account", "/accounts": "/account", "/account/%2e%2e/x": "/account",
	} {
		for _, dev := range []bool{true, false} {
			form := url.Values{"lang": {"de"}, "next": {next}}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, LanguagePath, strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			openPages(t, Settings{Dev: dev}).SetLanguage(w, r)
			cookies := w.Result().Cookies()
			if w.Code != http.StatusSeeOther || w.Header().Get("Location") != want {
				t.Errorf("next %q: %d to %q, want %q", next, w.Code, w.Header().Get("Location"), want)
			}
			if len(cookies) != 1 || cookies[0].Value != "de" || cookies[0].Secure == dev || !cookies[0].HttpOnly {
				t.Errorf("cookies %v", cookies)
			}
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, LanguagePath+"?lang=xx", http.NoBody)
	w := httptest.NewRecorder()
	openPages(t, Settings{}).SetLanguage(w, r)
	if w.Header().Get("Set-Cookie") != "" {
		t.Errorf("an unknown language was kept: %s", w.Header().Get("Set-Cookie"))
	}
}

// TestCatalogues: a catalogue that lacks a message, or has another placeholder, stops
// the start.
func TestCatalogues(t *testing.T) {
	t.Parallel()
	english := `{"language.name":"English","a":"one {x}","b":{"one":"{count} thing","other":"{count} things"}}`
	for want, german := range map[string]string{
		"":                     `{"language.name":"Deutsch","a":"eins {x}","b":{"one":"ein Ding","other":"{count} Dinge"}}`,
		"a is missing":         `{"language.name":"Deutsch","b":"{count}"}`,
		"c is not in en.json":  `{"language.name":"Deutsch","a":"{x}","b":"{count}","c":""}`,
		"has the placeholders": `{"language.name":"Deutsch","a":"{y}","b":"{count}"}`,
		"plural form":          `{"language.name":"Deutsch","a":"{x}","b":{"one":"{count}"}}`,
		"invalid character":    `{`,
	} {
		_, err := readLanguages(fstest.MapFS{"messages/en.json": {Data: []byte(english)}, "messages/de.json": {Data: []byte(german)}}, true)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) && want != "invalid character" {
			t.Errorf("%s: %v", german, err)
		}
	}
	if _, err := readLanguages(fstest.MapFS{"messages/de.json": {Data: []byte(`{}`)}}, false); err == nil {
		t.Error("a start without English")
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	l, err := readLanguages(fstest.MapFS{
		"messages/en.json": {Data: []byte(`{"time.full":"{day} {month} {year}, {clock} UTC","month.11":"November","list.pair":"{a} and {b}","list.more":"{a}, {b}",
			"n":{"one":"{count} code","other":"{count} codes"},"x":"a <b> & {x}"}`)},
		"messages/pl.json": {Data: []byte(`{"time.full":"{day} {month} {year}, {clock} UTC","month.11":"listopada","list.pair":"{a} i {b}","list.more":"{a}, {b}",
			"n":{"one":"{count} kod","few":"{count} kody","many":"{count} kodów","other":"{count} kodu"},"x":"{x}"}`)},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		language string
		text     Text
		want     string // empty: an error
	}{
		{"en", Msg("n", "count", 1), "1 code"},
		{"en", Msg("n", "count", 0), "0 codes"},
		{"pl", Msg("n", "count", 1), "1 kod"},
		{"pl", Msg("n", "count", 3), "3 kody"},
		{"pl", Msg("n", "count", 5), "5 kodów"},
		{"en", Msg("x", "x", "<i>"), "a &lt;b&gt; &amp; &lt;i&gt;"},
		{"en", Msg("x", "x", Stranger("<i>")), "a &lt;b&gt; &amp; <bdi>&lt;i&gt;</bdi>"},
		{"en", Msg("x", "x", List{"a", Msg("n", "count", 2), "c"}), "a &lt;b&gt; &amp; a, 2 codes and c"},
		{"en", Msg("x", "x", List{"1", "2", "3", "4", "5", "6", "7"}), "a &lt;b&gt; &amp; 1, 2, 3, 4, 5, 6, …"},
		{"en", Msg("x", "x", time.Date(2026, 11, 29, 15, 4, 0, 0, time.FixedZone("", 3600))), `a &lt;b&gt; &amp; <time datetime="2026-11-29T14:04:00Z">29 November 2026, 14:04 UTC</time>`},
		{"en", Msg("x"), ""},
		{"en", Msg("gone"), ""},
		{"en", Msg("x", "x", 1.5), ""},
		{"en", Msg("x", 1, 2), ""},
	} {
		got, err := l.find(c.language).text(c.text.ID, c.text.Args...)
		if (err != nil) != (c.want == "") || c.want != "" && string(got) != c.want {
			t.Errorf("%+v in %s: %q, %v", c.text, c.language, got, err)
		}
	}
}

// english returns the ids of all messages.
func english(t *testing.T) []string {
	t.Helper()
	l, err := readLanguages(messageFiles, false)
	if err != nil {
		t.Fatal(err)
	}
	return l.all[0].IDs()
}

// TestMessagesExist: each id that Go code of this package names is in the catalogue; that
// of templates is shown by rendering them.
func TestMessagesExist(t *testing.T) {
	t.Parallel()
	c := english(t)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			fn, ok := call.Fun.(*ast.Ident)
			lit, isLit := call.Args[0].(*ast.BasicLit)
			if ok && isLit && fn.Name == "Msg" {
				id, err := strconv.Unquote(lit.Value)
				if err != nil || !slices.Contains(c, id) {
					t.Errorf("%s: no message has the id %s", name, lit.Value)
				}
				found++
			}
			return true
		})
	}
	if found < 50 {
		t.Errorf("only %d ids found", found)
	}
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain":                         "plain",
		"\u0020a\tb\nc\u0020":           "a b c",
		"gpj\u202eexe":                  "gpjexe",
		"\u2066a\u2069\ufeff\u00ad\x00": "a",
		"👩🏽‍🚀":                          "👩🏽‍🚀",
		"مدونة":                         "مدونة",
		strings.Repeat("é", 65):         strings.Repeat("é", 64) + "…",
		strings.Repeat("é", 64):         strings.Repeat("é", 64),
		"a\xffb":                        "ab",
	} {
		if got := Stranger(text).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for host, want := range map[string]string{
		"app.example.com":        "app.example.com",
		"xn--mnchen-3ya.example": "münchen.example (xn--mnchen-3ya.example)",
		"xn--80ak6aa92e.com":     "аррӏе.com (xn--80ak6aa92e.com)", // Cyrillic
		"xn--a.example":          "xn--a.example",
		"<script>.example":       "&lt;script&gt;.example",
		strings.Repeat("a", 70):  strings.Repeat("a", 70), // its end matters
		"a.b\u202e.example":      "a.b.example",
	} {
		tags := regexp.MustCompile(`</?(bdi|span|wbr)[^>]*>`)
		if got := tags.ReplaceAllString(string(Host(host).html()), ""); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

// TestVisible: what would change the look of a record's text is written out.
func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain <b> é \u0645":   "plain <b> é \u0645",
		"a\u202egpj.exe\u2066": `a\u202egpj.exe\u2066`,
		"\x00\ufeff\u00ad":     `\u0000\ufeff\u00ad`,
		"👩🏽\u200d🚀":            "👩🏽\u200d🚀",
	} {
		if got := visible(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestStrangersAnyText: whatever a stranger writes, it is text in one isolated element.
func TestStrangersAnyText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		for _, out := range []template.HTML{Stranger(text).html(), Host(text).html(), name(text)} {
			rest := regexp.MustCompile(`<(/?bdi|bdi translate="no"|wbr|/?span|span class="ascii")>`).ReplaceAllString(string(out), "")
			if strings.ContainsAny(rest, `<>"'`) || strings.ContainsAny(rest, "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f") {
				t.Errorf("%q became %q", text, out)
			}
		}
	})
}

// TestAssets: each file is served under its hash, for ever; nothing else is.
func TestAssets(t *testing.T) {
	t.Parallel()
	p := openPages(t, Settings{Brand: Brand{Primary: "#123456", BackgroundLightURL: `https://x.example/a"b\c.jpg`}})
	serve := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		p.ServeAsset(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		return w
	}
	for name, kind := range map[string]string{
		"app.css": "text/css; charset=utf-8", "brand.css": "text/css; charset=utf-8", "local.js": "text/javascript; charset=utf-8",
		"passkey.js": "text/javascript; charset=utf-8", "submit.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		w := serve(p.assets.paths[name])
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || w.Body.Len() == 0 {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	for _, path := range []string{AssetPath, AssetPath + "app.css", AssetPath + "0000000000000000/app.css", AssetPath + "../render.go"} {
		if w := serve(path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	css := serve(p.assets.paths["brand.css"]).Body.String()
	for _, want := range []string{"--accent: #123456;", "--on-accent: #ffffff;", `url("https://x.example/a\22 b\5c c.jpg")`} {
		if !strings.Contains(css, want) {
			t.Errorf("brand.css lacks %s:\n%s", want, css)
		}
	}
	if a := (&assets{files: map[string]asset{}, paths: map[string]string{}}); a.add("x.js", make([]byte, maxScript+1)) == nil || a.add("x.css", make([]byte, maxStyle+1)) == nil {
		t.Error("a file that is too large was accepted")
	}
	if _, err := New(Settings{Brand: Brand{Primary: "red"}}); err == nil {
		t.Error("a colour that cannot be read was accepted")
	}
}

// TestBackgrounds: the colours that brand.go computes contrasts with are those of the
// style sheet, and its own texts can be read on them.
func TestBackgrounds(t *testing.T) {
	t.Parallel()
	css, err := os.ReadFile("static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, _ := strings.Cut(string(css), "prefers-color-scheme: dark")
	for mode, c := range map[string]struct {
		css     string
		grounds []color.Color
	}{"light": {light, lightGrounds}, "dark": {dark, darkGrounds}} {
		token := func(name string) color.Color {
			m := regexp.MustCompile(`--` + name + `: (#[0-9a-f]{6});`).FindStringSubmatch(c.css)
			if m == nil {
				t.Fatalf("%s: no --%s", mode, name)
			}
			v, err := color.Parse(m[1])
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if card, page := token("card"), token("page"); card != c.grounds[0] || page != c.grounds[1] {
			t.Errorf("%s: the style sheet has %s on %s, brand.go %v", mode, card, page, c.grounds)
		}
		for name, least := range map[string]float64{"text": 7, "muted": 4.5, "edge": 3} {
			for _, ground := range c.grounds {
				if got := color.Contrast(token(name), ground); got < least {
					t.Errorf("%s: --%s has %.2f:1 on %s, want %.1f", mode, name, got, ground, least)
				}
			}
		}
	}
}

// TestTemplatesAreDeclared: a file that no page declares stops the start.
func TestTemplatesAreDeclared(t *testing.T) {
	t.Parallel()
	if err := checkTemplates(fstest.MapFS{"templates/signin.html": {}, "templates/layout.html": {}}); err != nil {
		t.Error(err)
	}
	if err := checkTemplates(fstest.MapFS{"templates/stray.html": {}}); err == nil {
		t.Error("a stray file was accepted")
	}
	twice := fstest.MapFS{
		"templates/signin.html": {Data: []byte(`{{define "content"}}{{end}}{{define "row"}}{{end}}`)},
		"templates/signup.html": {Data: []byte(`{{define "content"}}{{end}}{{- define "row"}}{{end}}`)},
	}
	if err := checkTemplates(twice); err == nil || !strings.Contains(err.Error(), `"row"`) {
		t.Errorf("a template of two files: %v", err)
	}
}

// TestRenderingFails: a page that cannot be rendered is a plain 500 without a half page.
func TestRenderingFails(t *testing.T) {
	t.Parallel()
	w := get(t, openPages(t, Settings{}), "/account", &Message{Title: Msg("gone")})
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "<") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// BenchmarkRender renders the page that most people see most often, and a large one.
func BenchmarkRender(b *testing.B) {
	p, err := New(Settings{Hostname: "pds.example.com"})
	if err != nil {
		b.Fatal(err)
	}
	large := &Consent{Frame: Frame{Form: Form{Action: "/oauth/authorize"}, Client: &Client{ID: "https://a.example/c", Host: "a.example"}}}
	for range 40 {
		large.Permissions = append(large.Permissions, Permission{Scope: "repo:a.b.c", Line: Msg("may.repo-all", "collections", Codes{"a.b.c"})})
	}
	for name, page := range map[string]Page{"signin": &SignIn{Frame: Frame{Form: Form{Action: "/account/sign-in"}}}, "consent": large} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/account/sign-in", http.NoBody)
			for b.Loop() {
				w := httptest.NewRecorder()
				p.Render(w, r, http.StatusOK, page)
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
