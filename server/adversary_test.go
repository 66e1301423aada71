package server_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"pgregory.net/rapid"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
)

// small is one scope of an OAuth client, and what the client may change by it.
type small struct {
	scope string
	// may reports whether a change is what the scope allows.
	may func(change) bool
	// calls is the method of the AppView that the client may call; empty for none.
	calls string
}

// change is one that the account's owner sees: what was there before, and what is now.
type change struct{ what, was, now string }

// smalls returns the scopes, one of which is all that the adversary has.
func smalls() []small {
	const post, like = "record app.bsky.feed.post/", "record app.bsky.feed.like/"
	nothing := func(change) bool { return false }
	return []small{
		{"repo:app.bsky.feed.post?action=create", func(c change) bool { return c.was == "" && strings.HasPrefix(c.what, post) }, ""},
		{"repo:app.bsky.feed.post?action=delete", func(c change) bool { return c.now == "" && strings.HasPrefix(c.what, post) }, ""},
		{"repo:app.bsky.feed.post?action=update", func(c change) bool { return c.was != "" && c.now != "" && strings.HasPrefix(c.what, post) }, ""},
		{"repo:app.bsky.feed.like", func(c change) bool { return strings.HasPrefix(c.what, like) }, ""},
		{"blob:image/*", nothing, ""},
		{"rpc:app.bsky.feed.getTimeline?aud=*", nothing, "app.bsky.feed.getTimeline"},
		{
			"rpc:app.bsky.actor.putPreferences?aud=" + appView,
			func(c change) bool { return c.what == "preference app.bsky.actor.defs#adultContentPref" }, "",
		},
		{"account:email", nothing, ""},
		{"account:email?action=manage", nothing, ""}, // it has no code
		{"account:status?action=manage", func(c change) bool { return c.what == "status" }, ""},
		{"identity:handle", func(c change) bool { return c.what == "handle" || c.what == "identity alsoKnownAs" }, ""},
		{"transition:email", nothing, ""},
		{"", nothing, ""},
	}
}

// crime is a server with an AppView, and another to which accounts move.
type crime struct {
	*pdstest.InProcess

	t     *testing.T
	there *pdstest.InProcess
	box   *pdstest.Mailbox
	bob   pdstest.Session

	mu     sync.Mutex
	called []string // methods that the AppView was asked for
}

func newCrime(t *testing.T) *crime {
	t.Helper()
	w := &crime{t: t, box: pdstest.NewMailbox(t, pdstest.MailboxOptions{})}
	view := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.called = append(w.called, strings.TrimPrefix(r.URL.Path, "/xrpc/"))
		w.mu.Unlock()
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"feed":[]}`)
	}))
	t.Cleanup(view.Close)
	w.InProcess = pdstest.Start(t, pdstest.Options{Settings: append(w.box.Settings(),
		"PDS_BSKY_APP_VIEW_URL="+view.URL, "PDS_BSKY_APP_VIEW_DID=did:web:localhost",
		"PDS_MOD_SERVICE_URL=http://localhost:1", "PDS_MOD_SERVICE_DID=did:web:mod.example",
	)})
	w.there = pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_DID_PLC_URL=" + w.PLC}})
	w.bob = w.SignUp(t, "bob")
	return w
}

// takeCalled returns what the AppView was asked for since the last time.
func (w *crime) takeCalled() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	called := w.called
	w.called = nil
	return called
}

// must makes a call as an account's owner, which succeeds.
func (w *crime) must(s *pdstest.InProcess, r pdstest.Request) pdstest.Answer {
	w.t.Helper()
	a := s.Do(w.t, r)
	if a.Status != http.StatusOK {
		w.t.Fatalf("%s by the owner: %d %s", r.NSID, a.Status, a.Body)
	}
	return a
}

// ask is must of a query, whose answer is read as JSON.
func (w *crime) ask(who pdstest.Session, nsid string) map[string]any {
	w.t.Helper()
	var out map[string]any
	w.must(w.InProcess, pdstest.Request{NSID: nsid, Auth: pdstest.Bearer(who.AccessJwt)}).Decode(w.t, &out)
	return out
}

func asText(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// list returns the objects of a member that is an array.
func list(in map[string]any, member string) (out []map[string]any) {
	all, _ := in[member].([]any)
	for _, one := range all {
		if m, ok := one.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// state returns all that an account's owner has, by name. An account that was deactivated
// is reactivated, by its owner.
func (w *crime) state(who pdstest.Session) map[string]string {
	w.t.Helper()
	all := map[string]string{"status": "active"}
	session := w.ask(who, "com.atproto.server.getSession")
	if session["active"] != true {
		all["status"] = asText(session["status"])
		w.must(w.InProcess, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.activateAccount", Auth: pdstest.Bearer(who.AccessJwt)})
	}
	for _, name := range []string{"handle", "email", "emailConfirmed", "emailAuthFactor"} {
		all[name] = asText(session[name])
	}
	described := w.ask(who, "com.atproto.repo.describeRepo?repo="+who.DID)
	collections, _ := described["collections"].([]any)
	for _, c := range collections {
		q := url.Values{"repo": {who.DID}, "collection": {fmt.Sprint(c)}, "limit": {"100"}}
		for _, r := range list(w.ask(who, "com.atproto.repo.listRecords?"+q.Encode()), "records") {
			all["record "+strings.TrimPrefix(fmt.Sprint(r["uri"]), "at://"+who.DID+"/")] = fmt.Sprint(r["cid"])
		}
	}
	all["blobs"] = asText(w.ask(who, "com.atproto.sync.listBlobs?did="+who.DID)["cids"])
	for _, p := range list(w.ask(who, "app.bsky.actor.getPreferences"), "preferences") {
		all["preference "+fmt.Sprint(p["$type"])] = asText(p)
	}
	all["app passwords"] = asText(w.ask(who, "com.atproto.server.listAppPasswords"))
	all["invite codes"] = asText(w.ask(who, "com.atproto.server.getAccountInviteCodes"))
	maps.Copy(all, w.identity(who.DID))
	kept, err := w.Kept(w.t.Context(), who.DID)
	if err != nil {
		w.t.Fatal(err)
	}
	maps.Copy(all, kept)
	return all
}

// identity returns what the PLC directory has of a DID.
func (w *crime) identity(did string) map[string]string {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.PLC+"/"+did+"/data", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var data map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&data); err != nil || answer.StatusCode != http.StatusOK {
		w.t.Fatalf("the directory: %d, %v", answer.StatusCode, err)
	}
	all := map[string]string{}
	for name, v := range data {
		all["identity "+name] = asText(v)
	}
	return all
}

// changes compares two states.
func changes(was, now map[string]string) (all []change) {
	for what := range now {
		if was[what] != now[what] {
			all = append(all, change{what, was[what], now[what]})
		}
	}
	for what := range was {
		if _, ok := now[what]; !ok {
			all = append(all, change{what, was[what], ""})
		}
	}
	return all
}

// victim is an account with all that there is to lose, and two apps: the adversary, and
// another whose tokens the adversary has copied.
type victim struct {
	pdstest.Session

	name, email string
	app         pdstest.Session // of an app password
	mine        *oauthApp
	other       *oauthApp
	car         string
}

// wide is what the other app may.
const wide = "atproto transition:generic transition:chat.bsky account:email?action=manage account:status?action=manage identity:*"

func (w *crime) victim(name, scope string) *victim {
	w.t.Helper()
	v := &victim{Session: w.SignUp(w.t, name), name: name, email: name + "@example.com"}
	as := pdstest.Bearer(v.AccessJwt)
	var up struct{ Blob any }
	w.must(w.InProcess, pdstest.Request{
		NSID: "com.atproto.repo.uploadBlob", Auth: as, Body: "\x89PNG\r\n\x1a\n" + name, Header: http.Header{"Content-Type": {"image/png"}},
	}).Decode(w.t, &up)
	create := func(collection, rkey string, value any) any {
		return map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "rkey": rkey, "value": value}
	}
	writes := []any{create("app.bsky.actor.profile", "self", map[string]any{"$type": "app.bsky.actor.profile", "avatar": up.Blob})}
	for i := range 5 {
		writes = append(writes,
			create("app.bsky.feed.post", ownRKey(i), recordOf("app.bsky.feed.post", "mine")), create("app.bsky.feed.like", ownRKey(i), recordOf("app.bsky.feed.like", "")))
	}
	w.must(w.InProcess, pdstest.Request{NSID: "com.atproto.repo.applyWrites", Auth: as, Body: map[string]any{"repo": v.DID, "writes": writes}})
	w.must(w.InProcess, pdstest.Request{NSID: "app.bsky.actor.putPreferences", Auth: as, Body: map[string]any{"preferences": []any{
		map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": false},
		map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-05-01T00:00:00.000Z"},
	}}})
	_, password := appPassword(w.t, w.InProcess, v.Session, "app")
	v.app = w.SignIn(w.t, v.DID, password)
	v.mine, v.other = newOAuthApp(w.t, w.InProcess, name+".test", strings.TrimSpace("atproto "+scope)), newOAuthApp(w.t, w.InProcess, name+".test", wide)
	v.car = string(w.must(w.InProcess, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + v.DID}).Body)
	return v
}

// ownRKey is a key of the owner's own records.
func ownRKey(i int) string { return fmt.Sprintf("3jui7kd54zh%d2", i+2) }

// goesOn checks that all of the owner's sessions live, and that the owner posts, deletes,
// exports and moves out.
func (w *crime) goesOn(rt *rapid.T, v *victim) {
	w.t.Helper()
	owner := w.MustRefresh(w.t, v.RefreshJwt)
	as := pdstest.Bearer(owner.AccessJwt)
	if a := w.GetSession(w.t, v.app.AccessJwt); a.Status != http.StatusOK {
		rt.Errorf("the session of the app password: %d %s", a.Status, a.Body)
	}
	if status, a := v.other.refreshed(); status != http.StatusOK {
		rt.Errorf("the other app's refresh: %d %s %s", status, a.Error, a.Description)
	}
	if a := v.other.call("com.atproto.server.getSession"); a.Status != http.StatusOK {
		rt.Errorf("the other app's session: %d %s", a.Status, a.Body)
	}
	for range 3 {
		w.must(w.InProcess, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: as, Body: map[string]any{
			"repo": v.DID, "collection": "app.bsky.feed.post", "record": recordOf("app.bsky.feed.post", "still mine"),
		}})
	}
	var writes []any
	for what := range w.state(owner) {
		if key, ok := strings.CutPrefix(what, "record "); ok && len(writes) < 150 {
			collection, rkey, _ := strings.Cut(key, "/")
			if collection != "app.bsky.actor.profile" {
				writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#delete", "collection": collection, "rkey": rkey})
			}
		}
	}
	w.must(w.InProcess, pdstest.Request{NSID: "com.atproto.repo.applyWrites", Auth: as, Body: map[string]any{"repo": v.DID, "writes": writes}})
	car := w.must(w.InProcess, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + v.DID}).Body
	commit, tree, err := indigorepo.LoadRepoFromCAR(w.t.Context(), bytes.NewReader(car))
	if err != nil || commit.DID != v.DID {
		rt.Fatalf("the export: %v", err)
	}
	if _, _, err := tree.GetRecordBytes(w.t.Context(), "app.bsky.actor.profile", "self"); err != nil {
		rt.Errorf("the export lacks the profile: %v", err)
	}
	w.moveOut(owner, v, car)
}

// moveOut moves an account to the other server, as a migration tool does it.
func (w *crime) moveOut(owner pdstest.Session, v *victim, car []byte) {
	w.t.Helper()
	as := pdstest.Bearer(owner.AccessJwt)
	post := func(s *pdstest.InProcess, auth, method string, body any) pdstest.Answer {
		w.t.Helper()
		return w.must(s, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto." + method, Auth: auth, Body: body})
	}
	var token struct{ Token string }
	q := url.Values{"aud": {w.there.DID}, "lxm": {"com.atproto.server.createAccount"}}
	w.must(w.InProcess, pdstest.Request{NSID: "com.atproto.server.getServiceAuth?" + q.Encode(), Auth: as}).Decode(w.t, &token)
	var moved pdstest.Session
	post(w.there, pdstest.Bearer(token.Token), "server.createAccount", map[string]any{
		"did": v.DID, "handle": owner.Handle, "email": v.email, "password": pdstest.Password,
	}).Decode(w.t, &moved)
	now := pdstest.Bearer(moved.AccessJwt)
	w.must(w.there, pdstest.Request{
		NSID: "com.atproto.repo.importRepo", Auth: now, Body: string(car), Header: http.Header{"Content-Type": {"application/vnd.ipld.car"}},
	})
	var operation map[string]any
	w.must(w.there, pdstest.Request{NSID: "com.atproto.identity.getRecommendedDidCredentials", Auth: now}).Decode(w.t, &operation)
	post(w.InProcess, as, "identity.requestPlcOperationSignature", nil)
	mailed := w.box.Wait(w.t, v.email)
	for !strings.Contains(mailed.Text, "wants to change its identity") {
		mailed = w.box.Wait(w.t, v.email)
	}
	operation["token"] = mailed.Code()
	var signed map[string]any
	post(w.InProcess, as, "identity.signPlcOperation", operation).Decode(w.t, &signed)
	post(w.there, now, "identity.submitPlcOperation", signed)
	post(w.there, now, "server.activateAccount", nil)
	post(w.InProcess, as, "server.deactivateAccount", map[string]any{})
	if services := w.identity(v.DID)["identity services"]; !strings.Contains(services, w.there.URL) {
		w.t.Errorf("after the move the DID's services are %s", services)
	}
}

// TestGrantAdversary: an OAuth client with one small scope sends what it likes, allowed or
// not, to all routes and to the authorization server, with its own credentials, with forged,
// used and copied ones. Nothing changes but what its scope allows, no session of the owner
// is lost, and the owner posts, deletes, exports and moves out.
func TestGrantAdversary(t *testing.T) {
	// A case takes a second: -rapid.checks asks for more than one of each scope.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("1"); err != nil {
			t.Fatal(err)
		}
	}
	w := newCrime(t)
	n := 0
	for _, s := range smalls() {
		t.Run(s.scope, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				n++
				v := w.victim(fmt.Sprintf("adv%d", n), s.scope)
				was, bob := w.state(v.Session), w.state(w.bob)
				w.takeCalled()
				a := &adversary{crime: w, rt: rt, v: v, scope: s, n: n, key: oauthtest.NewSigner("ES256")}
				a.useScope()
				for range rapid.IntRange(20, 60).Draw(rt, "calls") {
					a.attack()
				}
				if called := slices.DeleteFunc(w.takeCalled(), func(nsid string) bool { return nsid == s.calls }); len(called) > 0 {
					rt.Errorf("the AppView was asked for %q", called)
				}
				for _, c := range changes(was, w.state(v.Session)) {
					if !s.may(c) && c.what != "session "+v.mine.sid() {
						rt.Errorf("%s was %s and is %s", c.what, c.was, c.now)
					}
				}
				if c := changes(bob, w.state(w.bob)); len(c) > 0 {
					rt.Errorf("another account: %v", c)
				}
				w.goesOn(rt, v)
			})
		})
	}
}
