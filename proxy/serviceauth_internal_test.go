package proxy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/xrpc"
)

// TestServiceAuth: which session gets a token for which method. Case opens nothing.
func TestServiceAuth(t *testing.T) {
	const (
		owner, plain, privileged, down = auth.ScopeAccess, auth.ScopeAppPass, auth.ScopeAppPassPrivileged, auth.ScopeTakenDown
		client                         = auth.ScopeOAuth // its scope was looked at before
		aud                            = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	)
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		method string
		takers []auth.Scope
		refuse string // a part of the message
	}{
		{"", []auth.Scope{owner, plain, privileged, client}, ""},
		{"app.bsky.feed.getTimeline", []auth.Scope{owner, plain, privileged, client}, ""},
		{"com.atproto.repo.uploadBlob", []auth.Scope{owner, plain, privileged, client}, ""},
		{createAccount, []auth.Scope{owner, privileged, client, down}, "insufficient access"},
		{"com.atproto.server.createaccount", []auth.Scope{owner, privileged, client}, "insufficient access"},
		{"COM.ATPROTO.SERVER.createAccount", []auth.Scope{owner, privileged, client}, "insufficient access"},
		{"chat.bsky.convo.getLog", []auth.Scope{owner, privileged, client}, "insufficient access"},
		{"CHAT.BSKY.convo.getlog", []auth.Scope{owner, privileged, client}, "insufficient access"},
		{"com.atproto.admin.updateSubjectStatus", []auth.Scope{owner}, "insufficient access"},
		{"com.atproto.ADMIN.updatesubjectstatus", []auth.Scope{owner}, "insufficient access"},
		{"com.atproto.server.getSession", nil, "protected method"},
		{"COM.ATPROTO.server.getSession", nil, "protected method"},
		{"com.atproto.server.deleteaccount", nil, "protected method"},
		{"com.atproto.server.getServiceAuth", nil, "protected method"},
		{"com.atproto.identity.submitPlcOperation", nil, "protected method"},
	} {
		for _, scope := range []auth.Scope{owner, plain, privileged, client, down} {
			_, err := serviceAuth(scope, GetServiceAuthParams{Audience: aud, Method: c.method}, now)
			taken := false
			for _, taker := range c.takers {
				taken = taken || taker == scope
			}
			if taken != (err == nil) {
				t.Errorf("%s of %s: %v, want taken: %v", c.method, scope, err, taken)
			}
			if e, ok := errors.AsType[*xrpc.Error](err); err != nil && (!ok || e.Status != 400 || scope != down && !strings.Contains(e.Message, c.refuse)) {
				t.Errorf("%s of %s: %v, want %q", c.method, scope, err, c.refuse)
			}
		}
	}
}

// TestAudience is the table of the contract: DIDs that can exist, and services of them.
func TestAudience(t *testing.T) {
	const plc = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	for text, want := range map[string]bool{
		plc: true, plc + "#bsky_appview": true, plc + "#" + strings.Repeat("a", 128): true, plc + "#A.b_c~d-9": true,
		"did:web:api.bsky.app": true, "did:web:api.bsky.app#bsky_appview": true, "did:web:localhost": true, "did:web:localhost.example.com": true, "did:web:localhost%3A2583": true, "did:web:localhost%3A2583#x": true,

		"": false, "nonsense": false, "did:plc:short": false, "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ": false, plc + "a": false, "did:plc:ewvi7nxzyoun6zhxrhs64oi1": false,
		plc + "#": false, plc + "##a": false, plc + "#a#b": false, plc + "#a/b": false, plc + "#a?b": false, plc + "#a%20b": false, plc + "#a b": false, plc + "#\u00e9": false, plc + "#" + strings.Repeat("a", 129): false,
		"did:web:": false, "did:web:a": false, "did:web:127.0.0.1": false, "did:web:example.com:path": false, "did:web:example.com%3A443": false, "did:web:example.com/path": false,
		"did:web:localhost%3A": false, "did:web:localhost%3A0": false, "did:web:localhost%3A99999": false, "did:web:localhostile": false, "did:web:[::1]": false,
		"did:key:zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w": false, "DID:plc:ewvi7nxzyoun6zhxrhs64oiz": false,
	} {
		if got := isAudience(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
		if err := checkServiceAuth(GetServiceAuthParams{Audience: text}); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestProtected: methods are protected by their whole name, in any case.
func TestProtected(t *testing.T) {
	for method, want := range map[string]bool{
		"com.atproto.server.getSession": true, "COM.ATPROTO.server.GETSESSION": true, "com.atproto.admin.sendEmail": true,
		"server.getSession": false, "com.atproto.server.describeServer": false, "com.example.server.getSession": false, "": false,
	} {
		if got := protected(method); got != want {
			t.Errorf("%q: %v, want %v", method, got, want)
		}
	}
}
