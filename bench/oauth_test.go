package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"nestbox/internal/pdstest"
	"nestbox/oauth/dpop"
)

// TestProof shows that a program's proofs are right, for the checker of the server.
func TestProof(t *testing.T) {
	a, err := newApp("http://localhost:2583")
	if err != nil {
		t.Fatal(err)
	}
	checker := &dpop.Checker{
		Nonces: dpop.NewNonces([]byte(strings.Repeat("s", dpop.SecretSize))), Replays: dpop.NewReplays(time.Now().Add(-time.Hour), 0),
		Origin: a.origin, Now: time.Now,
	}
	for _, r := range []dpop.Request{{Method: "POST", Path: pathPush}, {Method: "GET", Path: getSessionPath, Token: "a.token"}} {
		proof, err := a.proof(r.Method, r.Path, checker.Nonce(), r.Token)
		if err != nil {
			t.Fatal(err)
		}
		r.Headers = []string{proof}
		if jkt, err := checker.Check(r); err != nil || jkt != a.jkt {
			t.Errorf("%s %s: %q, %v; want %q", r.Method, r.Path, jkt, err, a.jkt)
		}
	}
}

// TestBareProof shows that the bare proof does its part: it refuses what is not signed by
// the key in the proof.
func TestBareProof(t *testing.T) {
	web := httptest.NewServer(proofHandler())
	t.Cleanup(web.Close)
	s := &server{name: bareProof, host: web.Listener.Addr().String(), pid: os.Getpid()}
	a, err := newApp(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newApp(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	stolen := *a
	stolen.key = other.key
	once := func(app *app) error {
		_, err := load{server: s, op: boundSession, workers: 1, accounts: []*user{{access: "a.token", app: app}}, requests: 1}.run()
		return err
	}
	if err := once(a); err != nil {
		t.Error(err)
	}
	for what, app := range map[string]*app{"another key": &stolen, "no key": {origin: web.URL, key: a.key, head: "e30."}} {
		if refused, ok := errors.AsType[*answerError](once(app)); !ok || refused.status != http.StatusUnauthorized {
			t.Errorf("a proof by %s passed: %v", what, refused)
		}
	}
}

func TestFormOf(t *testing.T) {
	const page = `<form method="get" action="/x"><input type="hidden" name="step" value="language"></form>
		<form method="post"><input type="hidden" name="flow" value="a&#43;b"><input type="hidden" name="step" value="consent">
		<input type="checkbox" name="permission" value="blob:*/*" checked><input type="checkbox" name="understood" value="on">
		<input id="name" name="identifier" value="alice"><button name="decision" value="deny"></form>`
	want := url.Values{"flow": {"a+b"}, "step": {"consent"}, "permission": {"blob:*/*"}}
	if got := formOf([]byte(page), "consent"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := formOf([]byte(page), "sign-in"); got != nil {
		t.Errorf("a form that is not there: %v", got)
	}
}

func TestFilesOf(t *testing.T) {
	const page = `<link rel="icon" href="data:image/svg+xml,x"><link rel="stylesheet" href="/a.css?v=1"><script src="https://pds.test/b.js" defer></script>
		<script src="/a.css?v=1"></script><img alt="" src="//cdn.example/c.png"><link href="https://fonts.example/d"><a href="https://example.com">`
	files, foreign := filesOf(page, "https://pds.test")
	if want := []string{"/a.css?v=1", "/b.js"}; !reflect.DeepEqual(files, want) || foreign != 2 {
		t.Errorf("got %q and %d on other hosts, want %q and 2", files, foreign, want)
	}
}

// TestOAuthTables shows that a goal that was missed is seen, each alone.
func TestOAuthTables(t *testing.T) {
	type measured struct {
		refresh, get, many sample
		page               page
	}
	tables := func(change func(m *measured)) string {
		m := measured{sample{CPU: 100}, sample{CPU: 90}, sample{CPU: 120}, page{Name: "consent", HTML: mostHTML, FirstByteP50: mostFirstByte}}
		change(&m)
		var f figures
		rows := oauthLoads(oauthWorkers)
		for i, of := range []map[string]sample{
			{"Nestbox": m.refresh, "reference": {CPU: 1200}}, {"Nestbox": m.get, "reference": {CPU: 800}, bareProof: {CPU: 60}},
		} {
			for name, s := range of {
				f.Cells = append(f.Cells, cell{Server: name, Op: rows[i].op.name, Workers: rows[i].workers, Accounts: rows[i].accounts, Samples: []sample{s}})
			}
		}
		f.Grants = &grants{Few: []sample{{CPU: 100}}, Many: []sample{m.many}}
		f.Pages = map[string][]page{"Nestbox": {m.page}, "reference": {{Name: "consent"}}}
		var w strings.Builder
		f.oauthTables(&w)
		return w.String()
	}
	for name, c := range map[string]struct {
		change func(m *measured)
		missed int
	}{
		"all reached":              {func(*measured) {}, 0},
		"a refresh too dear":       {func(m *measured) { m.refresh.CPU = 101 }, 1},
		"a call dearer than both":  {func(m *measured) { m.get.CPU = 101 }, 2},
		"dearer than a bare proof": {func(m *measured) { m.get.CPU = 91 }, 1},
		"dearer with many grants":  {func(m *measured) { m.many.CPU = 121 }, 1},
		"a large page":             {func(m *measured) { m.page.HTML++ }, 1},
		"a slow page":              {func(m *measured) { m.page.FirstByteP50 = 5.1 }, 1},
		"a page of another host's": {func(m *measured) { m.page.Foreign = 1 }, 1},
	} {
		if got := tables(c.change); strings.Count(got, yes(false)) != c.missed {
			t.Errorf("%s: want %d missed:\n%s", name, c.missed, got)
		}
	}
}

// TestPrograms shows that people and programs come through at Nestbox, and that its pages are
// measured: what the operations check is checked.
func TestPrograms(t *testing.T) {
	s, err := nestbox(pdstest.Binary(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	users, err := signUpPrograms(s, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []operation{refreshGrant, boundSession, wholeFlow, refreshGrant} {
		if got, err := (load{server: s, op: op, workers: 2, accounts: users, requests: 6}).run(); err != nil || got.Requests != 6 {
			t.Errorf("%s: %d, %v", op.name, got.Requests, err)
		}
	}
	pages, err := pagesOf(s, users[0])
	if err != nil || len(pages) != 3 {
		t.Fatalf("%v, %v", pages, err)
	}
	for _, p := range pages {
		if p.HTML < 1000 || p.All < 2*p.HTML || p.Files < 2 || p.Foreign != 0 || p.FirstByteP50 <= 0 || p.FirstByteP99 < p.FirstByteP50 {
			t.Errorf("%+v", p)
		}
	}
	wrong := *users[0]
	wrong.app = users[1].app
	for _, op := range []operation{refreshGrant, boundSession} {
		if _, err := (load{server: s, op: op, workers: 1, accounts: []*user{&wrong}, requests: 1}).run(); err == nil {
			t.Errorf("%s: a program passed with the tokens of another", op.name)
		}
	}
}
