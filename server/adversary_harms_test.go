package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"pgregory.net/rapid"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
)

// harms returns calls that change something, or show what is private, if they are let
// through.
func (a *adversary) harms() []attempt {
	const server, identity, admin = "com.atproto.server.", "com.atproto.identity.", "com.atproto.admin."
	call := func(nsid, need string, body any) attempt { return attempt{nsid: nsid, body: body, need: need} }
	get := func(nsid, need string, pairs ...string) attempt {
		q := url.Values{}
		for i := 0; i+1 < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return attempt{nsid: nsid, query: q, need: need}
	}
	through := func(c attempt, service string) attempt {
		c.header = http.Header{"Atproto-Proxy": {service}}
		return c
	}
	typed := func(kind, body, need string) attempt {
		return attempt{nsid: "com.atproto.repo.uploadBlob", body: body, need: need, header: http.Header{"Content-Type": {kind}}}
	}
	did, code := a.v.DID, "AAAAA-BBBBB"
	const manage, status = "account:email?action=manage", "account:status?action=manage"
	all := []attempt{
		typed("image/png", "\x89PNG\r\n\x1a\nadversary", "blob:image/png"), typed("text/html", "<!doctype html><script></script>", "blob:text/html"),
		typed("image/png", "<!doctype html><script></script>", "blob:text/html"), typed("*/*", "GIF89a", "blob:*/*"),
		call("app.bsky.actor.putPreferences", "rpc:app.bsky.actor.putPreferences?aud="+appView, map[string]any{"preferences": []any{
			map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true},
		}}),
		call("app.bsky.actor.putPreferences", closed, map[string]any{"preferences": []any{
			map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "2001-01-01T00:00:00.000Z"},
		}}),
		get("app.bsky.actor.getPreferences", "rpc:app.bsky.actor.getPreferences?aud="+appView),
		get("app.bsky.feed.getTimeline", "rpc:app.bsky.feed.getTimeline?aud="+appView),
		get("app.bsky.actor.getProfile", "rpc:app.bsky.actor.getProfile?aud="+appView, "actor", did),
		through(call("chat.bsky.convo.sendMessage", closed, map[string]any{}), "did:web:localhost#bsky_chat"),
		through(call(server+"deleteAccount", closed, map[string]any{}), "did:web:localhost#bsky_appview"),
		through(get(server+"getServiceAuth", closed, "aud", "did:web:x.example"), "did:web:localhost#bsky_appview"),

		call(identity+"updateHandle", "identity:handle", map[string]any{"handle": fmt.Sprintf("adv%dtaken.test", a.n)}),
		call(identity+"requestPlcOperationSignature", "identity:*", nil), call(identity+"signPlcOperation", closed, map[string]any{"token": code, "rotationKeys": []string{}}),
		call(identity+"submitPlcOperation", closed, map[string]any{"operation": map[string]any{"type": "plc_tombstone", "prev": "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a", "sig": "AAAA"}}),

		call(server+"deactivateAccount", status, map[string]any{}), call(server+"deactivateAccount", closed, map[string]any{"deleteAfter": "2030-01-01T00:00:00.000Z"}),
		call(server+"activateAccount", status, nil),
		call(server+"createAppPassword", closed, map[string]any{"name": "adversary"}), call(server+"revokeAppPassword", closed, map[string]any{"name": "app"}),
		get(server+"listAppPasswords", closed), get(server+"getAccountInviteCodes", closed),
		call(server+"requestAccountDelete", closed, nil), call(server+"deleteAccount", closed, map[string]any{"did": did, "password": "guessed", "token": code}),
		call(server+"requestEmailConfirmation", manage, nil), call(server+"confirmEmail", closed, map[string]any{"email": a.v.email, "token": code}),
		call(server+"requestEmailUpdate", closed, nil), call(server+"updateEmail", closed, map[string]any{"email": "adversary@example.com"}),
		call(server+"resetPassword", closed, map[string]any{"token": code, "password": "a new password"}), call(server+"requestPasswordReset", ignored, map[string]any{"email": a.v.email}),
		call(server+"deleteSession", closed, nil), call(server+"refreshSession", closed, nil), call(server+"createInviteCode", closed, map[string]any{"useCount": 1}),
		call(admin+"deleteAccount", closed, map[string]any{"did": did}), call(admin+"updateAccountPassword", closed, map[string]any{"did": did, "password": "a new password"}),
		call(admin+"updateSubjectStatus", closed, map[string]any{"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": did}, "takedown": map[string]any{"applied": true}}),
		{nsid: "com.atproto.repo.importRepo", body: a.v.car, header: http.Header{"Content-Type": {"application/vnd.ipld.car"}}, need: closed},
	}
	for _, lxm := range []string{"app.bsky.feed.getTimeline", "com.atproto.server.createAccount", "com.atproto.repo.uploadBlob", "chat.bsky.convo.sendMessage", "com.atproto.moderation.createReport"} {
		all = append(all, get(server+"getServiceAuth", "rpc:"+lxm+"?aud=did:web:x.example%23svc", "aud", "did:web:x.example", "lxm", lxm))
	}
	all = append(all, get(server+"getServiceAuth", closed, "aud", "did:web:x.example"), get(server+"getServiceAuth", closed, "aud", a.there.DID, "lxm", server+"deleteAccount"))
	return append(all, a.writes()...)
}

// writes returns writes of all kinds, of the owner's records and new ones, and to the
// repository of somebody else.
func (a *adversary) writes() (all []attempt) {
	for i, collection := range []string{"app.bsky.feed.post", "app.bsky.feed.like", "app.bsky.actor.profile", "com.example.thing"} {
		rkey, record := ownRKey(i), recordOf(collection, "written by the adversary")
		if collection == "app.bsky.actor.profile" {
			rkey = "self"
		}
		write := func(method, need string, more map[string]any) {
			for _, repo := range []string{a.v.DID, a.bob.DID} {
				if repo == a.bob.DID {
					need = closed
				}
				in := map[string]any{"repo": repo, "collection": collection}
				maps.Copy(in, more)
				all = append(all, attempt{nsid: "com.atproto.repo." + method, need: need, body: in})
			}
		}
		may := func(action string) string { return "repo:" + collection + "?action=" + action }
		if rkey != "self" {
			write("createRecord", may("create"), map[string]any{"record": record})
			all = append(all, attempt{nsid: "com.atproto.repo.applyWrites", need: may("create") + " " + may("delete"), body: map[string]any{"repo": a.v.DID, "writes": []any{
				map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "value": record},
				map[string]any{"$type": "com.atproto.repo.applyWrites#delete", "collection": collection, "rkey": ownRKey(4)},
			}}})
		}
		write("deleteRecord", may("delete"), map[string]any{"rkey": rkey})
		write("putRecord", may("create")+" "+may("update"), map[string]any{"rkey": rkey, "record": record})
		all = append(all, attempt{nsid: "com.atproto.repo.applyWrites", need: may("update"), body: map[string]any{"repo": a.v.DID, "writes": []any{
			map[string]any{"$type": "com.atproto.repo.applyWrites#update", "collection": collection, "rkey": ownRKey(3), "value": record},
		}}})
	}
	return all
}

// knock makes one request to the authorization server.
func (a *adversary) knock() {
	a.t.Helper()
	doors := []func(){a.push, a.pushUsed, a.authorize, a.refresh, a.refreshForeign, a.exchange, a.revokeForeign}
	if rapid.IntRange(0, 20).Draw(a.rt, "end itself") == 0 {
		doors = []func(){a.revoke}
	}
	rapid.SampledFrom(doors).Draw(a.rt, "endpoint")()
}

// refused fails the case unless an endpoint has refused a request.
func (a *adversary) refused(what string, status int, answer endpointAnswer, code string) {
	a.t.Helper()
	if status != http.StatusBadRequest || answer.Error != code {
		a.rt.Errorf("%s: %d %s %s, want 400 %s", what, status, answer.Error, answer.Description, code)
	}
}

// push asks for all that there is, as itself and as the other app. That alone is nothing.
func (a *adversary) push() {
	status, answer := a.v.mine.post("/oauth/par", a.v.mine.id, a.key, authorization(wide, appVerifier))
	a.refused("a scope that the client's document lacks", status, answer, "invalid_scope")
	for _, prompt := range []string{"none", "consent"} {
		form := authorization(wide, appVerifier)
		form.Set("prompt", prompt)
		form.Set("login_hint", a.v.DID)
		status, answer = a.v.mine.post("/oauth/par", a.v.other.id, a.key, form)
		if status != http.StatusCreated {
			a.rt.Errorf("a request as the other app: %d %s", status, answer.Description)
			continue
		}
		link := "/oauth/authorize?" + url.Values{"client_id": {a.v.other.id}, "request_uri": {answer.RequestURI}}.Encode()
		page := newVisitor(a.t, a.InProcess).get(link)
		if prompt == "none" && !strings.Contains(page.location, "error=") || prompt == "consent" && page.status != http.StatusOK {
			a.rt.Errorf("prompt %s without a person: %d %s", prompt, page.status, page.location)
		}
		page = newVisitor(a.t, a.InProcess).get("/oauth/authorize?" + url.Values{"client_id": {a.v.mine.id}, "request_uri": {answer.RequestURI}}.Encode())
		if page.status != http.StatusBadRequest {
			a.rt.Errorf("the page of another client's request: %d", page.status)
		}
	}
}

// pushUsed sends one proof twice.
func (a *adversary) pushUsed() {
	proof := a.v.mine.key.Proof(http.MethodPost, a.URL+"/oauth/par", a.Proofs().Nonce(), "")
	form := authorization(a.v.mine.scope, appVerifier)
	form.Set("client_id", a.v.mine.id)
	if status, answer := a.v.mine.send("/oauth/par", proof, form); status != http.StatusCreated {
		a.rt.Errorf("its own request: %d %s", status, answer.Description)
	}
	status, answer := a.v.mine.send("/oauth/par", proof, form)
	a.refused("a used proof", status, answer, dpopInvalid)
}

const dpopInvalid = "invalid_dpop_proof"

// authorize answers a request in the owner's place: without what proves anybody, and with
// what proves somebody else.
func (a *adversary) authorize() {
	_, answer := a.v.mine.post("/oauth/par", a.v.other.id, a.key, authorization(wide, appVerifier))
	link := "/oauth/authorize?" + url.Values{"client_id": {a.v.other.id}, "request_uri": {answer.RequestURI}}.Encode()
	p := newVisitor(a.t, a.InProcess)
	page := p.get(link)
	for _, flow := range []string{"", "AAAA", page.field("flow")} {
		form := url.Values{"flow": {flow}, "step": {"consent"}, "decision": {"allow"}, "understood": {"on"}, "did": {a.v.DID}}
		if got := p.send("/oauth/authorize", form); strings.Contains(got.location, "code=") {
			a.rt.Errorf("a decision without a person, flow %.20q: %s", flow, got.location)
		}
	}
	page = p.post(page, "/oauth/authorize", url.Values{"identifier": {"bob.test"}, "password": {pdstest.Password}, "decision": {"sign-in"}})
	form := url.Values{"decision": {"allow"}, "understood": {"on"}, "did": {a.v.DID}, "permission": strings.Fields(wide)}
	got := p.post(page, "/oauth/authorize", form)
	back, err := url.Parse(got.location)
	if err != nil || back.Query().Get("code") == "" {
		a.rt.Fatalf("bob allows the other app: %d %s", got.status, got.location)
	}
	// What comes of it is bob's, and nothing of it is kept.
	status, tokens := a.v.mine.post("/oauth/token", a.v.mine.id, a.key, exchangeOf(back.Query().Get("code")))
	a.refused("a code of another client", status, tokens, "invalid_grant")
}

func exchangeOf(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {appRedirect}, "code_verifier": {appVerifier}}
}

// refresh refreshes its own session, and asks for more.
func (a *adversary) refresh() {
	mine := a.v.mine
	status, answer := mine.post("/oauth/token", mine.id, mine.key, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {mine.refresh}, "scope": {wide}})
	if a.over {
		a.refused("a refresh of an ended session", status, answer, "invalid_grant")
		return
	}
	if status != http.StatusOK || answer.Scope != mine.scope {
		a.rt.Fatalf("its own refresh: %d %s %s, scope %q, want %q", status, answer.Error, answer.Description, answer.Scope, mine.scope)
	}
	mine.access, mine.refresh = answer.AccessToken, answer.RefreshToken
}

// refreshForeign presents what is not its own, or not a refresh token.
func (a *adversary) refreshForeign() {
	mine, other := a.v.mine, a.v.other
	claims := other.claims()
	claims["client_id"] = mine.id
	for _, c := range []struct {
		what, id, token string
		key             *oauthtest.Signer
	}{
		{"a copied refresh token", other.id, other.refresh, mine.key},
		{"a copied refresh token as its own", mine.id, other.refresh, mine.key},
		{"its own with another key", mine.id, mine.refresh, a.key},
		{"its own as the other app", other.id, mine.refresh, mine.key},
		{"an access token", mine.id, mine.access, mine.key},
		{"a copied access token", other.id, other.access, mine.key},
		{"a changed token", mine.id, changed(other.refresh, claims, false), mine.key},
		{"an unsigned token", mine.id, changed(other.refresh, claims, true), mine.key},
		{"a legacy token", mine.id, a.v.RefreshJwt, mine.key},
		{"garbage", mine.id, "x.y.z", mine.key},
	} {
		status, answer := mine.post("/oauth/token", c.id, c.key, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.token}})
		a.refused(c.what, status, answer, "invalid_grant")
	}
}

// exchange guesses codes.
func (a *adversary) exchange() {
	_, pushed := a.v.mine.post("/oauth/par", a.v.mine.id, a.v.mine.key, authorization(a.v.mine.scope, appVerifier))
	id := strings.TrimPrefix(pushed.RequestURI, "urn:ietf:params:oauth:request_uri:")
	for _, code := range []string{"", "A", id, id + strings.Repeat("A", 43), strings.Repeat("A", 65), id + "\x7f"} {
		status, answer := a.v.mine.post("/oauth/token", a.v.mine.id, a.v.mine.key, exchangeOf(code))
		a.refused(fmt.Sprintf("the code %q", code), status, answer, "invalid_grant")
	}
}

// revokeForeign revokes what is not its own: the answer is as for what is over, and nothing
// ends.
func (a *adversary) revokeForeign() {
	other := a.v.other
	claims := other.claims()
	claims["client_id"] = a.v.mine.id
	for _, token := range []string{other.access, other.refresh, changed(other.access, claims, false), changed(other.refresh, claims, true), a.v.RefreshJwt, a.v.AccessJwt, "garbage"} {
		if status, answer := a.v.mine.post("/oauth/revoke", a.v.mine.id, a.key, url.Values{"token": {token}}); status != http.StatusOK {
			a.rt.Errorf("revoke of %.30q: %d %s", token, status, answer.Description)
		}
	}
}

// revoke ends its own session.
func (a *adversary) revoke() {
	mine := a.v.mine
	if status, answer := mine.post("/oauth/revoke", mine.id, mine.key, url.Values{"token": {mine.access}}); status != http.StatusOK {
		a.rt.Errorf("revoke: %d %s", status, answer.Description)
	}
	a.over = true
	if got := mine.call("com.atproto.server.getSession"); got.Status != http.StatusUnauthorized {
		a.rt.Errorf("a call of an ended session: %d %s", got.Status, got.Body)
	}
}
