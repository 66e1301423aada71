package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"

	"nestbox/internal/pdstest"
)

// mover of pages: a browser that keeps cookies by name, whatever the port.
type pages struct {
	t       *testing.T
	p       *pdstest.Process
	cookies map[string]string
}

var token = regexp.MustCompile(`name="csrf" value="([^"]*)"`)

func (b *pages) do(method, path string, form url.Values) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.p.Base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.p.Base)
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if b.p.HTTP != nil {
		client.Transport = b.p.HTTP.Transport
	}
	answer, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	for _, c := range answer.Cookies() {
		b.cookies[c.Name] = c.Value
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// send posts the last form of a page.
func (b *pages) send(path string, form url.Values) {
	b.t.Helper()
	_, page := b.do(http.MethodGet, path, nil)
	b.post(page, path, form, http.StatusSeeOther)
}

// proven is send with a proof by the code of a mail.
func (b *pages) proven(path string, form url.Values, code func() string) {
	b.t.Helper()
	_, page := b.do(http.MethodGet, path, nil)
	page = b.post(page, path, form, http.StatusOK)
	kept := regexp.MustCompile(`name="kept" value="([^"]*)"`).FindStringSubmatch(page)
	if kept == nil {
		b.t.Fatalf("no proof is asked for: %.2000s", page)
	}
	b.post(page, path, url.Values{"step": {"step-up"}, "kept": {kept[1]}, "decision": {"confirm"}, "code": {code()}}, http.StatusSeeOther)
}

// post sends the last form of a page.
func (b *pages) post(page, path string, form url.Values, want int) string {
	b.t.Helper()
	all := token.FindAllStringSubmatch(page, -1)
	if len(all) == 0 {
		b.t.Fatalf("no form at %s: %.500s", path, page)
	}
	form.Set("csrf", all[len(all)-1][1])
	status, answer := b.do(http.MethodPost, path, form)
	if status != want {
		b.t.Fatalf("%s: %d %.2000s", path, status, answer)
	}
	return answer
}

// TestFetchAfterKill: the work that fetches an account's files goes on after kill -9, where
// it was.
func TestFetchAfterKill(t *testing.T) {
	const held = 10
	plc := startPLC(t)
	box, oldBox := pdstest.NewMailbox(t, pdstest.MailboxOptions{}), pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	old := pdstest.Launch(t, "", append(oldBox.Settings(), "PDS_DID_PLC_URL="+plc)...)
	now := pdstest.Launch(t, "", append(box.Settings(), "PDS_DID_PLC_URL="+plc)...)
	m := newMover(t, house{"old", old.Base, oldBox, 3}, house{"new", now.Base, box, 3}, "alice")
	m.moveIn()
	if err := comatproto.RepoImportRepo(t.Context(), m.now, strings.NewReader(string(m.export(m.old)))); err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(old.Base)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	release := make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(target)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "getBlob") && asked.Add(1) == held {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	defer between.Close()
	defer close(release)
	b := &pages{t, now, map[string]string{}}
	b.send("/account/sign-in", url.Values{"identifier": {"alice.test"}, "password": {pdstest.Password}, "decision": {"sign-in"}})
	path := "/account/u/" + m.did + "/move"
	b.proven(path, url.Values{"decision": {"blobs"}, "source": {between.URL}}, func() string { return box.Code(t, "alice@example.com") })
	for asked.Load() < held {
		time.Sleep(time.Millisecond)
	}
	now.Kill()
	now.Restart()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, page := b.do(http.MethodGet, path, nil)
		if strings.Contains(page, "Done.") && strings.Contains(page, "all 50 are here") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the work does not end: %.4000s", page)
		}
	}
	if n := asked.Load(); n != movedBlobs+1 {
		t.Errorf("%d files were asked for: what had come was fetched again", n)
	}
}
