package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/pdstest"
)

// post writes a post of alice's and returns its URI.
func (p *place) post(t *testing.T, text string) string {
	t.Helper()
	var made struct{ URI string }
	p.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: p.auth, Body: map[string]any{
		"repo": p.alice.DID, "collection": "app.bsky.feed.post",
		"record": map[string]any{"$type": "app.bsky.feed.post", "text": text, "createdAt": time.Now().UTC().Format(time.RFC3339)},
	}}).Decode(t, &made)
	return made.URI
}

func (p *place) rev(t *testing.T) string {
	t.Helper()
	var head struct{ Rev string }
	p.Do(t, pdstest.Request{NSID: "com.atproto.sync.getLatestCommit?did=" + p.alice.DID}).Decode(t, &head)
	return head.Rev
}

// uris returns the posts of a feed.
func uris(t *testing.T, a pdstest.Answer) (all []string) {
	t.Helper()
	var feed struct {
		Feed []struct{ Post struct{ URI string } }
	}
	if err := json.Unmarshal(a.Body, &feed); err != nil {
		t.Fatalf("%v: %s", err, a.Body)
	}
	for _, item := range feed.Feed {
		all = append(all, item.Post.URI)
	}
	return all
}

// TestReadAfterWrite: what the account wrote since the service's revision is in the
// answer, with the headers that tell how late the service is. When nothing is new, or
// the answer is none that may be changed, it passes as it came.
func TestReadAfterWrite(t *testing.T) {
	p := newPlace(t)
	first := p.post(t, "first")
	before := p.rev(t)
	const theirs = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"
	body := `{"feed": [{"post": {"uri":"` + theirs + `","author":{"did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"},"indexedAt":"2020-01-01T00:00:00.000Z","unknown":1.50}}], "cursor":"c"}`
	answer := func(rev string, headers ...string) {
		p.appView.says(http.StatusOK, body, append([]string{"Content-Type", "application/json", "Atproto-Repo-Rev", rev, "Atproto-Content-Labelers", "l"}, headers...)...)
	}
	passes := func(name string, a pdstest.Answer) {
		t.Helper()
		if a.Status != http.StatusOK || string(a.Body) != body || a.Header.Get("Atproto-Upstream-Lag") != "" {
			t.Errorf("%s: %d %v %s", name, a.Status, a.Header, a.Body)
		}
	}
	const nsid = "app.bsky.feed.getTimeline"
	answer(before)
	passes("nothing new", p.get(t, nsid))

	second := p.post(t, "second")
	a := p.get(t, nsid)
	if got := uris(t, a); a.Status != http.StatusOK || !equal(got, []string{second, theirs}) || !strings.Contains(string(a.Body), `"unknown":1.50`) {
		t.Errorf("a new post: %d %v %s", a.Status, got, a.Body)
	}
	if lag := a.Header.Get("Atproto-Upstream-Lag"); lag == "" || a.Header.Get("Atproto-Repo-Rev") != before || a.Header.Get("Atproto-Content-Labelers") != "l" ||
		a.Header.Get("Content-Type") != "application/json; charset=utf-8" || a.Header.Get("Content-Encoding") != "" {
		t.Errorf("headers %v", a.Header)
	}
	passes("a second page", p.get(t, nsid+"?cursor=c"))
	passes("another method", p.get(t, "app.bsky.feed.getListFeed"))
	if a := p.Do(t, pdstest.Request{Method: http.MethodHead, NSID: nsid, Auth: p.auth}); a.Header.Get("Atproto-Upstream-Lag") != "" {
		t.Errorf("HEAD: %v", a.Header)
	}
	for name, rev := range map[string]string{
		"no revision": "", "not a TID": "z", "of another history": "2222222222222", "our own": p.rev(t), "from the future": syntax.NewTIDFromTime(time.Now().Add(time.Hour), 0).String(),
	} {
		answer(rev)
		passes(name, p.get(t, nsid))
	}
	for _, status := range []int{201, 206} {
		p.appView.says(status, body, "Content-Type", "application/json", "Atproto-Repo-Rev", before)
		if a := p.get(t, nsid); a.Status != status || string(a.Body) != body {
			t.Errorf("status %d: %d %s", status, a.Status, a.Body)
		}
	}
	answer(before, "Content-Type", "text/html")
	p.appView.says(http.StatusOK, body, "Content-Type", "text/html", "Atproto-Repo-Rev", before)
	passes("not JSON", p.get(t, nsid))

	zipped := gzipped(t, body)
	p.appView.says(http.StatusOK, zipped, "Content-Type", "application/json", "Content-Encoding", "gzip", "Atproto-Repo-Rev", before)
	a = p.get(t, nsid, "Accept-Encoding", "gzip")
	if got := uris(t, a); !equal(got, []string{second, theirs}) || a.Header.Get("Content-Encoding") != "" {
		t.Errorf("gzip: %v %v", got, a.Header)
	}
	p.appView.says(http.StatusOK, zipped[:30], "Content-Type", "application/json", "Content-Encoding", "gzip", "Atproto-Repo-Rev", before)
	if a := p.get(t, nsid, "Accept-Encoding", "gzip"); string(a.Body) != zipped[:30] || a.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("bad gzip: %v %q", a.Header, a.Body)
	}

	// A post that was deleted since is not shown; another account sees what the service says.
	body = strings.Replace(body, `"feed": [`, `"feed": [{"post": {"uri":"`+first+`","author":{"did":"`+p.alice.DID+`"},"indexedAt":"2026-01-01T00:00:00.000Z"}},`, 1)
	answer(p.rev(t))
	passes("both", p.get(t, nsid))
	rkey := first[strings.LastIndexByte(first, '/')+1:]
	p.Do(t, pdstest.Request{NSID: "com.atproto.repo.deleteRecord", Auth: p.auth, Body: map[string]any{"repo": p.alice.DID, "collection": "app.bsky.feed.post", "rkey": rkey}})
	a = p.get(t, nsid)
	lag, err := strconv.Atoi(a.Header.Get("Atproto-Upstream-Lag"))
	if got := uris(t, a); !equal(got, []string{theirs}) || err != nil || lag > 3_600_000 {
		t.Errorf("a deleted post: %v, lag %d", got, lag)
	}
	bob := pdstest.Bearer(p.SignUp(t, "bob").AccessJwt)
	passes("another account", p.Do(t, pdstest.Request{NSID: nsid, Auth: bob}))
}

// TestReadAfterWriteLarge: an answer of megabytes is changed too, and one over 10 MiB
// passes as it came.
func TestReadAfterWriteLarge(t *testing.T) {
	p := newPlace(t, "PDS_PROXY_MAX_RESPONSE_SIZE=30000000")
	p.post(t, "first")
	before := p.rev(t)
	mine := p.post(t, "second")
	for size, want := range map[int]int{3 << 20: 1, 11 << 20: 0} {
		body := `{"feed":[],"padding":"` + strings.Repeat("x", size) + `"}`
		p.appView.does(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Atproto-Repo-Rev", before)
			_, _ = io.WriteString(w, body)
		})
		a := p.get(t, "app.bsky.feed.getTimeline")
		if got := uris(t, a); len(got) != want || want == 1 && got[0] != mine || want == 0 && string(a.Body) != body {
			t.Errorf("%d bytes: %v", size, got)
		}
	}
}

// TestReadAfterWriteThread: the service does not know a post yet, which is here.
func TestReadAfterWriteThread(t *testing.T) {
	p := newPlace(t)
	p.post(t, "first")
	before := p.rev(t)
	mine := p.post(t, "second")
	p.appView.says(http.StatusBadRequest, `{"error":"NotFound","message":"Post not found"}`, "Content-Type", "application/json", "Atproto-Repo-Rev", before)
	var thread struct {
		Thread struct{ Post struct{ URI string } }
	}
	a := p.get(t, "app.bsky.feed.getPostThread?uri="+mine)
	a.Decode(t, &thread)
	if a.Status != http.StatusOK || thread.Thread.Post.URI != mine {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	a = p.get(t, fmt.Sprintf("app.bsky.feed.getPostThread?uri=at://%s/app.bsky.feed.post/none", p.alice.DID))
	a.WantError(t, 400, "NotFound", "Post not found")
	if a.Header.Get("Atproto-Repo-Rev") != before {
		t.Errorf("headers %v", a.Header)
	}
}

// TestReadAfterWriteQuote: a new post that quotes a feed shows it as the service does, and
// one that is not there as missing. The service is asked with the caller's token.
func TestReadAfterWriteQuote(t *testing.T) {
	p := newPlace(t)
	p.post(t, "first")
	before := p.rev(t)
	for name, want := range map[string]string{"abc": "app.bsky.feed.defs#generatorView", "missing": "app.bsky.embed.record#viewNotFound"} {
		feed := "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.generator/" + name
		a := p.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: p.auth, Body: map[string]any{
			"repo": p.alice.DID, "collection": "app.bsky.feed.post",
			"record": map[string]any{
				"$type": "app.bsky.feed.post", "text": name, "createdAt": time.Now().UTC().Format(time.RFC3339),
				"embed": map[string]any{
					"$type":  "app.bsky.embed.record",
					"record": map[string]any{"uri": feed, "cid": "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},
				},
			},
		}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		p.appView.does(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			claims := payload(t, r.Header.Get("Authorization"))
			if method := strings.TrimPrefix(r.URL.Path, "/xrpc/"); claims["lxm"] != method || claims["iss"] != p.alice.DID {
				t.Errorf("%s with the token %v", method, claims)
			}
			switch r.URL.Path {
			case "/xrpc/app.bsky.feed.getFeedGenerator":
				if strings.HasSuffix(r.URL.Query().Get("feed"), "missing") {
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, `{"error":"UnknownFeed","message":"no"}`)
					return
				}
				_, _ = fmt.Fprintf(w, `{"view":{"uri":%q,"cid":"x","did":"did:web:x.example.com","displayName":"x"},"isOnline":true,"isValid":true}`, feed)
			default:
				w.Header().Set("Atproto-Repo-Rev", before)
				_, _ = io.WriteString(w, `{"feed":[]}`)
			}
		})
		got := p.get(t, "app.bsky.feed.getTimeline")
		if !strings.Contains(string(got.Body), want) {
			t.Errorf("%s: %s", name, got.Body)
		}
		before = p.rev(t)
	}
}
