package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"

	"nestbox/internal/pdstest"
)

// sayingRelay is a relay whose answer to getHostStatus a test chooses.
type sayingRelay struct {
	*httptest.Server

	answer atomic.Value // of string
}

const notFound = `{"error":"HostNotFound","message":"host not found"}`

func newSayingRelay(t *testing.T) *sayingRelay {
	t.Helper()
	r := &sayingRelay{}
	r.answer.Store(notFound)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer, _ := r.answer.Load().(string)
		switch {
		case strings.HasSuffix(req.URL.Path, "getHostStatus") && req.FormValue("hostname") == publicHost:
			if answer == notFound {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = io.WriteString(w, answer)
		case strings.HasSuffix(req.URL.Path, "requestCrawl"):
		default:
			t.Errorf("asked for %s", req.URL)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// says makes the relay have seen a number.
func (r *sayingRelay) says(seq string) {
	r.answer.Store(fmt.Sprintf(`{"hostname":%q,"seq":%s,"status":"active"}`, publicHost, seq))
}

// lastNumber returns the number of the last event.
func lastNumber(t *testing.T, p *pdstest.Process) (n int64) {
	t.Helper()
	out, err := pdstest.Run(t, "", "firehose", "status", "--json", "--data", p.Dir)
	var st struct{ Last int64 }
	if err != nil || json.Unmarshal([]byte(out), &st) != nil {
		t.Fatalf("%s, %v", out, err)
	}
	return st.Last
}

// TestGuardStop: with PDS_FIREHOSE_GUARD=stop a server that its relay is ahead of takes no change,
// leaves nothing half done, and does all else; after a jump it goes on at once.
func TestGuardStop(t *testing.T) {
	t.Parallel()
	relay := newSayingRelay(t)
	p := launchNamed(t, "PDS_CRAWLERS="+relay.URL, "PDS_FIREHOSE_GUARD=stop")
	alice := newOwner(t, p, "alice")
	wantWritten(t, p, alice, "before")
	for name, jump := range map[string]func(seen int64) []string{
		"to":         func(seen int64) []string { return []string{"--to", fmt.Sprint(seen + 10)} },
		"from-relay": func(int64) []string { return []string{"--from-relay", relay.URL} },
	} {
		seen := lastNumber(t, p) + 50
		relay.says(fmt.Sprint(seen))
		p.Stop()
		p.Restart()
		wantHeld(t, p, alice)
		alice = p.MustRefresh(t, alice.RefreshJwt)
		p.SignIn(t, alice.Handle, pdstest.Password)
		for _, nsid := range []string{
			"com.atproto.repo.getRecord?" + url.Values{"repo": {alice.DID}, "collection": {"com.example.post"}, "rkey": {"before"}}.Encode(),
			"com.atproto.sync.getRepo?did=" + url.QueryEscape(alice.DID), "_health",
		} {
			if got := p.Do(t, pdstest.Request{NSID: nsid}); got.Status != http.StatusOK {
				t.Errorf("%s: %d %s", nsid, got.Status, got.Body)
			}
		}
		if out, err := pdstest.Run(t, "", append([]string{"firehose", "jump", "--data", p.Dir}, jump(seen)...)...); err != nil {
			t.Fatal(out, err)
		}
		wantWritten(t, p, alice, "after-"+name)
		if got := lastNumber(t, p); got <= seen {
			t.Errorf("the last number is %d, and the relay has seen %d", got, seen)
		}
		newOwner(t, p, "carol-"+name) // what was refused left nothing behind that is in its way
	}
	wantContains(t, p.Log(), "the event stream would reuse numbers: no changes are taken until they were moved on")
}

func wantWritten(t *testing.T, p *pdstest.Process, who pdstest.Session, key string) {
	t.Helper()
	if !writeOne(t, p.Client, who, key, true) {
		t.Fatalf("%s was not written\n%s", key, p.Log())
	}
}

// wantHeld tries what the network would hear of.
func wantHeld(t *testing.T, p *pdstest.Process, who pdstest.Session) {
	t.Helper()
	refused := func(nsid, auth string, body any) {
		t.Helper()
		got := p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: auth, Body: body})
		got.WantError(t, http.StatusServiceUnavailable, "ServiceUnavailable",
			"This server takes no changes until its operator has moved the numbers of its events on; please try again later")
		if got.Header.Get("Retry-After") != "60" {
			t.Errorf("%s: Retry-After %q", nsid, got.Header.Get("Retry-After"))
		}
	}
	bearer := pdstest.Bearer(who.AccessJwt)
	record := map[string]any{"$type": "com.example.post", "text": "x"}
	refused("com.atproto.repo.createRecord", bearer, map[string]any{"repo": who.DID, "collection": "com.example.post", "record": record})
	refused("com.atproto.server.deactivateAccount", bearer, map[string]any{})
	refused("com.atproto.identity.updateHandle", bearer, map[string]any{"handle": "alicia." + publicHost})
	for _, name := range []string{"carol-to", "carol-from-relay"} {
		got := p.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
			"handle": name + "." + publicHost, "email": name + "@example.com", "password": pdstest.Password,
		}})
		if got.Status == http.StatusOK {
			t.Errorf("%s was made", name)
		}
	}
}

// TestGuardTakedown: a takedown takes effect at once on a server that is held back, and is announced
// after the jump, as the command says. A command on the stopped server is refused what the server refuses.
func TestGuardTakedown(t *testing.T) {
	t.Parallel()
	relay := newSayingRelay(t)
	p := launchNamed(t, "PDS_CRAWLERS="+relay.URL, "PDS_FIREHOSE_GUARD=stop")
	alice, bob, carol, dave := newOwner(t, p, "alice"), newOwner(t, p, "bob"), newOwner(t, p, "carol"), newOwner(t, p, "dave")
	relay.says(fmt.Sprint(lastNumber(t, p) + 50))
	p.Stop()
	out, err := pdstest.Run(t, "", "account", "takedown", bob.DID, "--data", p.Dir)
	if err != nil || !strings.Contains(out, "the network hears of it after nestbox firehose jump") {
		t.Errorf("a takedown without a server: %q, %v", out, err)
	}
	const says = "run nestbox firehose jump --from-relay"
	out, err = pdstest.Run(t, "", "account", "untakedown", bob.DID, "--data", p.Dir)
	if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "event log") {
		t.Errorf("what can wait, without a server: %q, %v", out, err)
	}
	p.Restart()
	out, err = pdstest.Run(t, "", "account", "suspend", alice.DID, "--data", p.Dir, "--json")
	if err != nil || !strings.Contains(out, `"announcementWaits": true`) {
		t.Errorf("a suspension: %q, %v", out, err)
	}
	down := p.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.admin.updateSubjectStatus", Auth: basic("admin:" + pdstest.Password), Body: map[string]any{
			"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": dave.DID},
			"takedown": map[string]any{"applied": true, "ref": "case-1"},
		},
	})
	if down.Status != http.StatusOK {
		t.Fatalf("%d %s", down.Status, down.Body)
	}
	p.AwaitLog(`until then relays ignore what this server announces","did":"` + dave.DID)
	desk, page := &pages{t, p, map[string]string{}}, "/admin/accounts/"+alice.DID
	desk.send("/admin/sign-in", url.Values{"name": {"admin"}, "password": {pdstest.Password}})
	desk.send(page+"?act=takedown", url.Values{"act": {"takedown"}, "decision": {"confirm"}})
	const hears = "The network hears of it after nestbox firehose jump"
	if _, said := desk.do(http.MethodGet, page+"?done=takedown", nil); !strings.Contains(said, "The account is taken down.") || !strings.Contains(said, hears) {
		t.Errorf("the admin page after a takedown: %s", said)
	}
	for _, who := range []pdstest.Session{alice, bob, dave} {
		got := p.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + url.QueryEscape(who.DID)})
		got.WantError(t, http.StatusBadRequest, "RepoTakendown", "Repo has been takendown: "+who.DID)
		if got := p.Refresh(t, who.RefreshJwt); got.Status == http.StatusOK {
			t.Errorf("the session of %s goes on", who.Handle)
		}
	}
	if out, err := pdstest.Run(t, "", "firehose", "jump", "--data", p.Dir, "--from-relay", relay.URL); err != nil {
		t.Fatal(out, err)
	}
	if out, err := pdstest.Run(t, "", "account", "suspend", carol.DID, "--data", p.Dir); err != nil || strings.Contains(out, "hears of it") {
		t.Errorf("a suspension after the jump: %q, %v", out, err)
	}
	if _, said := desk.do(http.MethodGet, page+"?done=takedown", nil); strings.Contains(said, hears) {
		t.Errorf("the admin page after the jump: %s", said)
	}
	told := map[string]bool{}
	err = subscribe(t.Context(), "http://"+p.Ready.Listen, 0, func(frame []byte) bool {
		_, m, _ := readFrame(frame) // the first is an #info, that the cursor is outdated
		if a, ok := m.(*comatproto.SyncSubscribeRepos_Account); ok && a.Status != nil && *a.Status == "takendown" {
			told[a.Did] = true
		}
		return len(told) < 3
	})
	if err != nil || !told[alice.DID] || !told[bob.DID] || !told[dave.DID] {
		t.Errorf("told of %v, %v", told, err)
	}
}

// TestGuardGoesOn: a relay that cannot be asked, or that names a number which no server gives, stops
// nothing; one that lies within the possible is left behind by a jump.
func TestGuardGoesOn(t *testing.T) {
	t.Parallel()
	relay := newSayingRelay(t)
	p := launchNamed(t, "PDS_CRAWLERS="+relay.URL+",http://"+freeAddress(t), "PDS_FIREHOSE_GUARD=stop")
	alice := newOwner(t, p, "alice")
	const most int64 = 1<<52 - 1_000_000
	for n, seq := range []string{"9223372036854775808", "9223372036854775807", "18446744073709551615", "1e300", fmt.Sprint(int64(1) << 53), fmt.Sprint(most + 1), "-1", `"1"`} {
		p.Stop()
		relay.says(seq)
		p.Restart()
		wantWritten(t, p, alice, fmt.Sprintf("lie-%d", n))
	}
	wantContains(t, p.Log(), "relays were not compared", "a number that no server gives")
	p.Stop()
	relay.says(fmt.Sprint(most))
	p.Restart()
	wantHeld(t, p, alice)
	if out, err := pdstest.Run(t, "", "firehose", "jump", "--from-relay", relay.URL, "--data", p.Dir); err != nil {
		t.Fatal(out, err)
	}
	wantWritten(t, p, alice, "after")
	p.Stop()
	relay.says(fmt.Sprint(most + 200_000))
	p.Restart()
	wantWritten(t, p, alice, "again")
}

// TestGuardWarns: with the default a server that its relay is ahead of goes on, and says so.
func TestGuardWarns(t *testing.T) {
	t.Parallel()
	relay := newSayingRelay(t)
	relay.says("1000")
	p := launchNamed(t, "PDS_CRAWLERS="+relay.URL)
	alice := newOwner(t, p, "alice")
	wantWritten(t, p, alice, "one")
	p.AwaitLog("the event stream would reuse numbers")
	if strings.Contains(p.Log(), "no changes are taken") {
		t.Error(p.Log())
	}
	got := pdstest.Exec(t, pdstest.Invocation{Args: []string{"doctor", "--data", p.Dir}})
	wantContains(t, got.Stdout+got.Stderr, "firehose jump --from-relay")
}
