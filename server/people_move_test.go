package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// await looks at a page until it has a text.
func (p *visitor) await(path, text string) shown {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		page := p.get(path)
		if page.status != http.StatusOK {
			p.t.Fatalf("%d %.500s", page.status, page.text)
		}
		if strings.Contains(page.text, text) {
			return page
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the page lacks %q\n%.6000s", text, page.text)
		}
	}
}

// TestPeopleMove: an account that moves in fetches its repository and its files from the
// server that its identity names; the list names what is missing at each step, until the
// account is active. The old server then says where the account lives.
func TestPeopleMove(t *testing.T) {
	m := newMovers(t)
	p, path := newVisitor(t, m.now), "/account/u/"+m.before.DID+"/move"
	p.signIn("alice.test", pdstest.Password)
	page := p.get(path)
	p.want(page, http.StatusOK, "", "This account now lives at <bdi>"+m.old.URL, `value="`+m.old.URL+`"`, "is empty. Fetch it below", "the identity names another one", "this server may not change the identity")

	send := func(page shown, typed url.Values) shown {
		t.Helper()
		typed.Set("csrf", page.form(path).field("csrf"))
		return p.post(page, path, typed)
	}
	for _, wrong := range []string{"", "https://old.example/path", "ftp://old.example", "https://user@old.example", m.now.URL} {
		p.want(send(page, url.Values{"decision": {"repository"}, "source": {wrong}}), http.StatusUnprocessableEntity, "", "Type the address of another server")
	}
	ask := send(page, url.Values{"decision": {"repository"}, "source": {m.old.URL}})
	p.want(ask, http.StatusOK, "", "Fetch the repository?", "with 0 records")
	step := send(ask, url.Values{"decision": {"confirm"}, "source": {m.old.URL}, "head": {"another"}})
	ask = p.prove(m.nowBox, step, path)
	p.want(ask, http.StatusConflict, "", "has changed since the page was shown", "Fetch the repository?")
	step = send(ask, url.Values{"decision": {"confirm"}, "source": {m.old.URL}, "head": {ask.field("head")}})
	p.want(step, http.StatusSeeOther, path+"#work")
	page = p.await(path, "Done.")
	p.want(page, http.StatusOK, "", "0 of 3 are here")
	p.want(send(page, url.Values{"decision": {"blobs"}, "source": {m.old.URL}}), http.StatusSeeOther, path+"#work")
	p.await(path, "3 of 3 files")
	p.await(path, "all 3 are here")

	p.want(p.get("/account/u/"+m.before.DID+"/events"), http.StatusOK, "", "Fetching the repository from <bdi>"+m.old.URL)

	// Preferences are private: no server gives them away.
	if got, want := holds(t, m.now, m.after), holds(t, m.old, m.before); !strings.HasPrefix(want, got[:72]) || strings.Count(got, "image/png") != 3 {
		t.Errorf("the new server has\n%s\nthe old one\n%s", got, want)
	}
	m.point(t)
	page = p.get(path)
	if strings.Contains(page.text, "This account now lives at") || strings.Contains(page.text, "Wrong:") {
		t.Errorf("after the change of the identity: %s", page.text)
	}
	react := p.get("/account/u/" + m.before.DID + "/reactivate")
	p.want(p.post(react, "/account/u/"+m.before.DID+"/reactivate", url.Values{}), http.StatusSeeOther, "/account/u/"+m.before.DID+"/manage?done=reactivated")
	p.want(p.get(path), http.StatusOK, "", "the account is active.")

	old := newVisitor(t, m.old)
	old.signIn("alice.test", pdstest.Password)
	old.want(old.get(path), http.StatusOK, "", "This account now lives at <bdi>"+m.now.URL, "Deactivate")
}

// point makes alice's identity name the new server, as a tool does it.
func (m *movers) point(t *testing.T) {
	t.Helper()
	call := func(s *pdstest.InProcess, who pdstest.Session, method, nsid string, body any) pdstest.Answer {
		t.Helper()
		a := s.Do(t, pdstest.Request{Method: method, NSID: nsid, Auth: pdstest.Bearer(who.AccessJwt), Body: body})
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
		}
		return a
	}
	var change map[string]any
	call(m.now, m.after, http.MethodGet, "com.atproto.identity.getRecommendedDidCredentials", nil).Decode(t, &change)
	call(m.old, m.before, http.MethodPost, "com.atproto.identity.requestPlcOperationSignature", nil)
	change["token"] = m.oldBox.Code(t, "alice@example.com")
	var signed struct {
		Operation json.RawMessage `json:"operation"`
	}
	call(m.old, m.before, http.MethodPost, "com.atproto.identity.signPlcOperation", change).Decode(t, &signed)
	call(m.now, m.after, http.MethodPost, "com.atproto.identity.submitPlcOperation", signed)
}

// TestPeopleMoveLacking: what the other server does not have, or sends wrongly, is named, and
// the rest is fetched. A job is stopped by its owner, and goes on after a restart.
func TestPeopleMoveLacking(t *testing.T) {
	m := newMovers(t)
	target, err := url.Parse(m.old.URL)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	held := make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(target)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "getBlob") {
			switch asked.Add(1) {
			case 1, 3: // the second time, and the fourth, after what is held
				http.Error(w, `{"error":"BlobNotFound","message":"no"}`, http.StatusBadRequest)
				return
			case 2:
				select {
				case <-held:
				case <-r.Context().Done():
				}
				return
			case 4:
				_, _ = w.Write([]byte("another file"))
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	defer other.Close()
	defer close(held)
	car := m.old.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + m.before.DID})
	if a := m.now.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.repo.importRepo", Auth: pdstest.Bearer(m.after.AccessJwt), Body: string(car.Body), Header: http.Header{"Content-Type": {"application/vnd.ipld.car"}}}); a.Status != http.StatusOK {
		t.Fatalf("import: %d %s", a.Status, a.Body)
	}
	p, path := newVisitor(t, m.now), "/account/u/"+m.before.DID+"/move"
	p.signIn("alice.test", pdstest.Password)
	page := p.get(path)
	send := func(decision string) shown {
		t.Helper()
		page = p.get(path)
		return p.post(page, path, url.Values{"decision": {decision}, "source": {other.URL}, "csrf": {page.form(path).field("csrf")}})
	}
	p.want(p.prove(m.nowBox, send("blobs"), path), http.StatusSeeOther, path+"#work")
	for asked.Load() < 2 { // it hangs at the second blob
		time.Sleep(time.Millisecond)
	}
	p.want(p.post(page, path, url.Values{"decision": {"blobs"}, "source": {other.URL}, "csrf": {page.form(path).field("csrf")}}), http.StatusConflict, "", "Work of yours is under way already")

	dir := m.now.DataDir
	m.now.Stop()
	m.now = pdstest.Start(t, pdstest.Options{Dir: dir, Settings: append(m.nowBox.Settings(), "PDS_RATE_LIMITS_ENABLED=true", "PDS_DID_PLC_URL="+m.old.PLC)})
	p.base = m.now.URL
	page = p.await(path, "Done.")
	p.want(page, http.StatusOK, "", "2 files could not be had", "the other server does not have it", "what came is not what its name says", "1 of 3 files")
	if n := asked.Load(); n != 5 {
		t.Errorf("%d blobs were asked for, want 2 and, after the restart, 3", n)
	}
	p.want(send("cancel"), http.StatusSeeOther, path) // nothing is under way: nothing to do
	p.want(send("blobs"), http.StatusSeeOther, path+"#work")
	p.await(path, "all 3 are here")
	for i := 0; ; i++ { // the number of jobs is bounded
		again := send("blobs")
		if again.status == http.StatusTooManyRequests {
			break
		}
		if i > 10 {
			t.Fatal("jobs are begun without end")
		}
		p.want(again, http.StatusSeeOther, path+"#work")
		for strings.Contains(p.get(path).text, "Under way.") {
			time.Sleep(10 * time.Millisecond)
		}
	}
}
