package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
	"nestbox/oauth/oauthtest"
)

const (
	// closed endpoints refuse every OAuth client, ignored ones do not look at who calls.
	closed  = "closed"
	ignored = "ignored"
	// anyGrant will do, whatever its scope.
	anyGrant = "any"
	// unauthorized endpoints are for other credentials alone.
	unauthorized = "unauthorized"
)

// appView is the audience of calls of the AppView in these tests.
const appView = "did:web:localhost%23bsky_appview"

// grants returns a row for each route: which scope an OAuth client needs for the input of
// grantInput, as the contract's table "What each endpoint needs" says.
func grants() map[string]string {
	server, repo, sync, id := "com.atproto.server.", "com.atproto.repo.", "com.atproto.sync.", "com.atproto.identity."
	all := map[string]string{
		server + "createSession": ignored, server + "describeServer": ignored, server + "deleteAccount": ignored, server + "reserveSigningKey": ignored,
		server + "requestPasswordReset": ignored, server + "resetPassword": ignored,
		server + "refreshSession": unauthorized, server + "deleteSession": unauthorized, server + "createAccount": unauthorized,
		server + "getSession": anyGrant, server + "checkAccountStatus": anyGrant,
		server + "activateAccount": "account:status?action=manage", server + "deactivateAccount": "account:status?action=manage",
		server + "getServiceAuth":        "rpc:app.bsky.feed.getTimeline?aud=did:web:x.example%23svc",
		server + "getAccountInviteCodes": closed, server + "createAppPassword": closed, server + "listAppPasswords": closed, server + "revokeAppPassword": closed,
		server + "requestEmailConfirmation": "account:email?action=manage", server + "confirmEmail": "account:email?action=manage",
		server + "requestEmailUpdate": closed, server + "updateEmail": closed, server + "requestAccountDelete": closed,

		repo + "createRecord": "repo:app.bsky.feed.post?action=create", repo + "deleteRecord": "repo:app.bsky.feed.post?action=delete",
		repo + "putRecord":   "repo:app.bsky.feed.post?action=create&action=update",
		repo + "applyWrites": "repo:app.bsky.feed.like?action=create&action=delete repo:app.bsky.feed.post?action=update",
		repo + "getRecord":   ignored, repo + "listRecords": ignored, repo + "describeRepo": ignored,
		repo + "importRepo": "account:repo?action=manage", repo + "uploadBlob": "blob:image/png", repo + "listMissingBlobs": anyGrant,

		sync + "getRepoStatus": ignored, sync + "listRepos": ignored, sync + "subscribeRepos": ignored,

		id + "resolveHandle": ignored, id + "resolveDid": ignored, id + "resolveIdentity": ignored,
		id + "updateHandle": "identity:handle", id + "submitPlcOperation": "identity:*",
		id + "requestPlcOperationSignature": "identity:*", id + "signPlcOperation": "identity:*",
		id + "refreshIdentity": anyGrant, id + "getRecommendedDidCredentials": anyGrant,

		"com.atproto.moderation.createReport":  "rpc:com.atproto.moderation.createReport?aud=did:web:mod.example%23atproto_labeler",
		"app.bsky.actor.getPreferences":        "rpc:app.bsky.actor.getPreferences?aud=" + appView,
		"app.bsky.actor.putPreferences":        "rpc:app.bsky.actor.putPreferences?aud=" + appView,
		"app.bsky.feed.getFeed":                "rpc:app.bsky.feed.getFeed?aud=" + appView + " rpc:app.bsky.feed.getFeedSkeleton?aud=" + appView,
		"app.bsky.notification.registerPush":   "rpc:app.bsky.notification.registerPush?aud=did:web:push.example%23bsky_notif",
		"app.bsky.notification.unregisterPush": "rpc:app.bsky.notification.unregisterPush?aud=did:web:push.example%23bsky_notif",
		"com.atproto.temp.checkSignupQueue":    closed,
		server + "createInviteCode":            unauthorized, server + "createInviteCodes": unauthorized,

		// No route of their own: they are passed on.
		"app.bsky.feed.getTimeline":      "rpc:app.bsky.feed.getTimeline?aud=" + appView,
		"chat.bsky.convo.listConvos":     "rpc:chat.bsky.convo.listConvos?aud=did:web:localhost%23bsky_chat",
		"com.example.thing.doSomething":  "rpc:com.example.thing.doSomething?aud=" + appView,
		"app.bsky.actor.getProfile":      "rpc:app.bsky.actor.getProfile?aud=" + appView,
		"app.bsky.feed.getActorLikes":    "rpc:app.bsky.feed.getActorLikes?aud=" + appView,
		"tools.ozone.moderation.getRepo": "rpc:tools.ozone.moderation.getRepo?aud=did:web:mod.example%23atproto_labeler",
	}
	for _, name := range []string{"getRepo", "getRecord", "getBlocks", "getLatestCommit", "getHead", "getCheckout", "getBlob", "listBlobs"} {
		all[sync+name] = anyGrant
	}
	for name := range routes() {
		if strings.HasPrefix(name, "com.atproto.admin.") {
			all[name] = unauthorized
		}
	}
	return all
}

// grantInput is the body of procedures whose need depends on it. Each is refused after its
// need was looked at, so that nothing is done.
var grantInput = map[string]any{
	"com.atproto.repo.createRecord": map[string]any{"repo": "did:web:nobody.example", "collection": "app.bsky.feed.post", "record": map[string]any{}},
	"com.atproto.repo.putRecord":    map[string]any{"repo": "did:web:nobody.example", "collection": "app.bsky.feed.post", "rkey": "x", "record": map[string]any{}},
	"com.atproto.repo.deleteRecord": map[string]any{"repo": "did:web:nobody.example", "collection": "app.bsky.feed.post", "rkey": "x"},
	"com.atproto.repo.applyWrites": map[string]any{"repo": "did:web:nobody.example", "writes": []any{
		map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "app.bsky.feed.like", "value": map[string]any{}},
		map[string]any{"$type": "com.atproto.repo.applyWrites#update", "collection": "app.bsky.feed.post", "rkey": "x", "value": map[string]any{}},
		map[string]any{"$type": "com.atproto.repo.applyWrites#delete", "collection": "app.bsky.feed.like", "rkey": "x"},
	}},
	"com.atproto.moderation.createReport": map[string]any{
		"reasonType": "com.atproto.moderation.defs#reasonSpam", "subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": "did:web:x.example"},
	},
	"app.bsky.notification.registerPush":   map[string]any{"serviceDid": "did:web:push.example", "token": "t", "platform": "ios", "appId": "a"},
	"app.bsky.notification.unregisterPush": map[string]any{"serviceDid": "did:web:push.example", "token": "t", "platform": "ios", "appId": "a"},
}

// TestGrants calls every route as an OAuth client with no scope but atproto, with exactly the
// scope of the table, and with each part of it left out. A route without a row fails.
func TestGrants(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Settings: []string{
		"PDS_BSKY_APP_VIEW_URL=http://localhost:1", "PDS_BSKY_APP_VIEW_DID=did:web:localhost",
		"PDS_MOD_SERVICE_URL=http://localhost:1", "PDS_MOD_SERVICE_DID=did:web:mod.example",
	}})
	table := grants()
	for _, name := range s.Routes() {
		if _, ok := table[name]; !ok {
			t.Errorf("%s has no row: decide what an OAuth client needs for it", name)
		}
	}
	alice := s.SignUp(t, "alice")
	client := &grantee{InProcess: s, t: t, did: alice.DID, key: oauthtest.NewSigner("ES256")}
	for nsid, need := range table {
		switch need {
		case ignored, anyGrant:
			if a := client.call("atproto", nsid); a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden {
				t.Errorf("%s: %d %s, want it open to any grant", nsid, a.Status, a.Body)
			}
		case unauthorized:
			if a := client.call("atproto transition:generic", nsid); a.Status != http.StatusUnauthorized {
				t.Errorf("%s: %d %s, want 401", nsid, a.Status, a.Body)
			}
		case closed:
			a := client.call("atproto transition:generic transition:chat.bsky transition:email account:email?action=manage identity:*", nsid)
			a.WantError(t, http.StatusForbidden, "Forbidden", "OAuth credentials are not supported for this endpoint")
		default:
			client.needs(nsid, need)
		}
	}
}

// needs checks that a route demands all tokens of need and nothing else.
func (g *grantee) needs(nsid, need string) {
	g.t.Helper()
	tokens := strings.Fields(need)
	a := g.call("atproto "+need, nsid)
	if name, _ := a.Error(g.t); name == "ScopeMissingError" || name == "Forbidden" || a.Status == http.StatusUnauthorized {
		g.t.Errorf("%s with %q: %d %s", nsid, need, a.Status, a.Body)
	}
	for i, missing := range tokens {
		rest := strings.Join(append(append([]string{"atproto"}, tokens[:i]...), tokens[i+1:]...), " ")
		a := g.call(rest, nsid)
		if a.Status != http.StatusForbidden || !strings.Contains(a.Header.Get("Www-Authenticate"), `error="insufficient_scope", scope="`) {
			g.t.Errorf("%s with %q: %d %s %q, want it to miss %q", nsid, rest, a.Status, a.Body, a.Header.Get("Www-Authenticate"), missing)
			continue
		}
		if name, message := a.Error(g.t); name != "ScopeMissingError" || !strings.HasPrefix(message, `Missing required scope "`) {
			g.t.Errorf("%s: %s %s", nsid, name, message)
		}
	}
}

// grantee is an OAuth client of one account.
type grantee struct {
	*pdstest.InProcess

	t      *testing.T
	did    string
	key    *oauthtest.Signer
	tokens map[string]string // by scope
}

// token returns an access token of a session with a scope.
func (g *grantee) token(scope string) string {
	g.t.Helper()
	if token, ok := g.tokens[scope]; ok {
		return token
	}
	token, err := g.Grant(g.t.Context(), g.did, scope, g.key.Thumbprint())
	if err != nil {
		g.t.Fatal(err)
	}
	if g.tokens == nil {
		g.tokens = map[string]string{}
	}
	g.tokens[scope] = token
	return token
}

// genericInput returns an input of a route, as a query and as a body, that it refuses after it
// has looked at the scope.
func genericInput(nsid, did string) (q url.Values, body any, headers http.Header) {
	q = url.Values{
		"did": {did}, "repo": {did}, "handle": {"x.test"}, "identifier": {did}, "collection": {"app.bsky.feed.post"}, "rkey": {"x"}, "aud": {"did:web:x.example"},
		"lxm": {"app.bsky.feed.getTimeline"}, "cid": {"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}, "cids": {"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}, "dids": {did},
		"feed": {"at://did:web:nobody.example/app.bsky.feed.generator/x"}, "exp": {"1"},
	}
	body, headers = "[]", http.Header{}
	if in, ok := grantInput[nsid]; ok {
		body = in
	}
	if strings.HasPrefix(nsid, "chat.bsky.") {
		headers.Set("Atproto-Proxy", "did:web:localhost#bsky_chat")
	}
	if nsid == "com.atproto.repo.uploadBlob" {
		headers.Set("Content-Type", "image/png")
		body = "\x89PNG\r\n\x1a\n"
	}
	return q, body, headers
}

// call calls a route with its generic input.
func (g *grantee) call(scope, nsid string) pdstest.Answer {
	g.t.Helper()
	q, body, headers := genericInput(nsid, g.did)
	do := func(method, target string, body any) pdstest.Answer {
		token := g.token(scope)
		headers.Set("DPoP", g.key.Proof(method, g.URL+"/xrpc/"+nsid, g.Proofs().Nonce(), token))
		return g.Do(g.t, pdstest.Request{Method: method, NSID: target, Auth: "DPoP " + token, Body: body, Header: headers})
	}
	a := do(http.MethodPost, nsid, body)
	if isQuery := a.Status == http.StatusBadRequest && strings.Contains(string(a.Body), "Incorrect HTTP method"); isQuery || strings.Contains(nsid, ".get") || strings.Contains(nsid, ".list") {
		a = do(http.MethodGet, nsid+"?"+q.Encode(), nil)
	}
	return a
}

// TestBlobGrants: an app uploads what its scope names, by what it declares and by what the
// bytes are.
func TestBlobGrants(t *testing.T) {
	t.Parallel()
	s := pdstest.Start(t, pdstest.Options{})
	g := &grantee{InProcess: s, t: t, did: s.SignUp(t, "alice").DID, key: oauthtest.NewSigner("ES256")}
	const (
		png  = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
		gif  = "GIF89a\x01\x00\x01\x00"
		page = "<!doctype html><script>alert(1)</script>"
		svg  = `<svg xmlns="http://www.w3.org/2000/svg"/>`
	)
	for _, c := range []struct {
		scope, declared, content string
		refused                  string // the scope that is missing
		kept                     string // the type of the blob
	}{
		{"blob:image/*", "image/png", png, "", "image/png"},
		{"blob:image/*", "image/png", gif, "", "image/gif"},
		{"blob:image/png", "image/png", gif, "blob:image/gif", ""},
		{"blob:image/png", "image/gif", png, "blob:image/gif", ""},
		{"blob:image/*", "image/png", "\x00\x01\x02unknown", "", "image/png"},
		{"blob:image/*", "image/png", "", "", "image/png"},
		{"blob:image/*", "image/svg+xml", svg, "", "image/svg+xml"},
		{"blob:image/png", "image/png", svg, "blob:image/svg+xml", ""},
		{"blob:image/*", "image/png", page, "blob:text/html", ""},
		{"blob:video/*", "video/mp4", "\n" + page, "blob:text/html", ""},
		{"blob:audio/*", "audio/ogg", "just words", "blob:text/plain", ""},
		{"blob:image/*", "image/png", "%PDF-1.7", "blob:application/pdf", ""},
		{"blob:image/*", "text/html", page, "blob:text/html", ""},
		{"blob:image/* blob:text/html", "image/png", page, "", "image/png"},
		{"blob:*/*", "image/png", page, "", "image/png"},
		{"transition:generic", "image/png", page, "", "image/png"},
		{"blob:text/markdown", "text/markdown", "<h1>text of all kinds looks alike</h1>", "", "text/markdown"},
		{"blob:application/json", "application/json", `{"type":"Feature"}`, "", "application/json"},
	} {
		const nsid = "com.atproto.repo.uploadBlob"
		token := g.token("atproto " + c.scope)
		a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: "DPoP " + token, Body: c.content, Header: http.Header{
			"Content-Type": {c.declared}, "Dpop": {g.key.Proof(http.MethodPost, s.URL+"/xrpc/"+nsid, s.Proofs().Nonce(), token)},
		}})
		if c.refused != "" {
			if name, message := a.Error(t); a.Status != http.StatusForbidden || name != "ScopeMissingError" || message != `Missing required scope "`+c.refused+`"` {
				t.Errorf("%.30q as %s with %s: %d %s, want it to miss %s", c.content, c.declared, c.scope, a.Status, a.Body, c.refused)
			}
			continue
		}
		var got struct{ Blob struct{ MimeType string } }
		if a.Status != http.StatusOK {
			t.Errorf("%.30q as %s with %s: %d %s", c.content, c.declared, c.scope, a.Status, a.Body)
		} else if a.Decode(t, &got); got.Blob.MimeType != c.kept {
			t.Errorf("%.30q as %s: kept as %s, want %s", c.content, c.declared, got.Blob.MimeType, c.kept)
		}
	}
}
