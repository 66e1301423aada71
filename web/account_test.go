package web_test

import (
	"bytes"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

var anyHidden = regexp.MustCompile(`<input type="hidden" name="(csrf|flow|step|ceremony|next)" value="([^"]*)"`)

// postTo fills in the form of an account page.
func (b *browser) postTo(path string, page shown, fields ...string) shown {
	b.w.t.Helper()
	form := url.Values{}
	for _, m := range anyHidden.FindAllStringSubmatch(page.body, -1) {
		if form.Get(m[1]) == "" && !strings.HasPrefix(m[2], "/account/sign-in") { // that is the footer's
			form.Set(m[1], html.UnescapeString(m[2]))
		}
	}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.postForm(path, form, "Sec-Fetch-Site", "same-origin")
}

// TestSignInOddPasskey: what is no answer of a passkey is the person's fault, and no fault of ours.
func TestSignInOddPasskey(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	b, link := w.browser(true), w.push(w.public)
	for _, credential := range []string{"x", "{}", `{"id":"AAAA","type":"public-key","rawId":"AA`, "[]", "null"} {
		page := b.get(w.URL + "/account/sign-in")
		if !strings.Contains(page.body, `name="ceremony"`) {
			t.Fatal("the page offers no passkeys")
		}
		if s := b.postTo("/account/sign-in", page, "credential", credential); s.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", credential, s.status)
		}
		if s := b.postTo("/oauth/authorize", b.get(link), "credential", credential); s.status != http.StatusUnprocessableEntity {
			t.Errorf("%s in the flow: %d", credential, s.status)
		}
	}
}

// TestResetNames: a new password is neither the account's handle nor its address.
func TestResetNames(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	w := newFlowWorld(t, box.Settings()...)
	w.account("alexandrine")
	b := w.browser(true)
	const path = "/account/reset-password"
	b.postTo(path, b.get(w.URL+path), "email", "alexandrine@example.com")
	code := box.Code(t, "alexandrine@example.com")
	for _, c := range []struct {
		password string
		status   int
	}{
		{"alexandrine.test", http.StatusUnprocessableEntity},
		{"Alexandrine", http.StatusUnprocessableEntity},
		{"alexandrine@example.com", http.StatusUnprocessableEntity},
		{"none of her names", http.StatusSeeOther}, // the code has stayed good
	} {
		s := b.postTo(path, b.get(w.URL+path+"?step=code"), "step", "reset-code", "code", code, "new_password", c.password)
		if s.status != c.status {
			t.Errorf("%s: %d, want %d\n%s", c.password, s.status, c.status, s.body)
		}
	}
}

// logged keeps a server's log.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// failed returns the lines about faults of ours.
func (l *logged) failed() string {
	var found strings.Builder
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, `"level":"ERROR"`) {
			found.WriteString(line)
		}
	}
	return found.String()
}

// next waits for n lines about requests for a path, and returns the last; it forgets them.
func (l *logged) next(t *testing.T, path string, n int) string {
	t.Helper()
	for range 1000 {
		l.mu.Lock()
		var found []string
		for line := range strings.Lines(l.text.String()) {
			if strings.Contains(line, `"path":"`+path+`"`) {
				found = append(found, line)
			}
		}
		if len(found) >= n {
			l.text.Reset()
			l.mu.Unlock()
			return found[len(found)-1]
		}
		l.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%d requests for %s are not in the log", n, path)
	return ""
}

// TestFlowLog: what a browser or a bot does before a person comes is no failure, and an account is
// named only once its owner has been proven.
func TestFlowLog(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice := w.account("alice")
	b, link := w.browser(true), w.push(w.public, "login_hint", "alice.test")
	const path = "/oauth/authorize"
	if s := b.get(link, "Sec-Purpose", "prefetch"); s.status != http.StatusServiceUnavailable {
		t.Errorf("prefetch: %d", s.status)
	}
	if line := w.log.next(t, path, 1); !strings.Contains(line, `"level":"INFO"`) || !strings.Contains(line, `"status":503`) {
		t.Errorf("prefetch: %s", line)
	}
	head, err := http.NewRequestWithContext(t.Context(), http.MethodHead, link, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	b.do(head)
	if line := w.log.next(t, path, 1); !strings.Contains(line, `"level":"INFO"`) || !strings.Contains(line, `"status":503`) {
		t.Errorf("HEAD: %s", line)
	}
	page := b.get(link).want(t, http.StatusOK, "sign-in")
	w.log.next(t, path, 1)
	b.post(page, "decision", "deny").answer(t, "error")
	if line := w.log.next(t, path, 1); strings.Contains(line, alice.DID) {
		t.Errorf("denied without a sign-in: %s", line)
	}
	consent := b.signIn(b.get(w.push(w.public, "login_hint", "alice.test")), "").want(t, http.StatusOK, "consent")
	w.log.next(t, path, 2)
	b.post(consent, "decision", "deny").answer(t, "error")
	if line := w.log.next(t, path, 1); !strings.Contains(line, alice.DID) {
		t.Errorf("denied by alice: %s", line)
	}
}

// TestSignUpTaken: the way to the sign-in keeps the name, which may be one's own.
func TestSignUpTaken(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	w.account("alice")
	b := w.browser(true)
	const path = "/account/sign-up"
	s := b.postTo(path, b.get(w.URL+path), "handle", "alice", "domain", ".test", "email", "x@example.com", "password", flowPassword, "decision", "sign-up")
	if s.status != http.StatusUnprocessableEntity || !strings.Contains(s.body, `href="/account/sign-in?account=alice.test"`) {
		t.Errorf("%d %s", s.status, s.body)
	}
	if s = b.get(w.URL + "/account/sign-in?account=alice.test"); !strings.Contains(s.body, `value="alice.test"`) {
		t.Error(s.body)
	}
}
