package scope_test

import (
	"strings"
	"testing"

	"nestbox/oauth/scope"
)

// TestParse has the normal form of every good token of the contract and of the
// specification's examples, and every bad token.
func TestParse(t *testing.T) {
	for _, c := range []struct{ token, want string }{
		{"atproto", "atproto"},
		{"transition:generic", "transition:generic"},
		{"transition:chat.bsky", "transition:chat.bsky"},
		{"transition:email", "transition:email"},

		{"repo:app.example.post", "repo:app.example.post"},
		{"repo:app.example.post?action=create", "repo:app.example.post?action=create"},
		{"repo:app.example.post?action=delete&action=create&action=create", "repo:app.example.post?action=create&action=delete"},
		{"repo:app.example.post?action=create&action=update&action=delete", "repo:app.example.post"},
		{"repo?action=create&collection=a.b.c", "repo:a.b.c?action=create"},
		{"repo?collection=a.b.d&collection=a.b.c&collection=a.b.d", "repo?collection=a.b.c&collection=a.b.d"},
		{"repo?collection=a.b.d&collection=a.b.c&action=update", "repo?collection=a.b.c&collection=a.b.d&action=update"},
		{"repo:*", "repo:*"},
		{"repo:%2A", "repo:*"},
		{"repo?collection=a.b.c&collection=*", "repo:*"},
		{"repo:*?action=delete", "repo:*?action=delete"},
		{"repo:a%2Eb.c", "repo:a.b.c"},

		{"rpc:a.b.getX?aud=*", "rpc:a.b.getX?aud=*"},
		{"rpc?aud=*&lxm=a.b.getX", "rpc:a.b.getX?aud=*"},
		{"rpc?lxm=*&aud=did:web:x.example%23svc", "rpc:*?aud=did:web:x.example%23svc"},
		{"rpc:a.b.getX?aud=did:web:x.example#svc", "rpc:a.b.getX?aud=did:web:x.example%23svc"},
		{"rpc:a.b.getX?aud=did%3Aweb%3Ax.example%23svc", "rpc:a.b.getX?aud=did:web:x.example%23svc"},
		{"rpc:a.b.getX?aud=did:web:localhost%253A99%23svc", "rpc:a.b.getX?aud=did:web:localhost%253A99%23svc"},
		{"rpc?lxm=a.b.d&lxm=a.b.c&aud=*", "rpc?lxm=a.b.c&lxm=a.b.d&aud=*"},
		{"rpc?lxm=a.b.d&lxm=*&aud=did:web:x.example%23svc", "rpc:*?aud=did:web:x.example%23svc"},

		{"blob:*/*", "blob:*/*"},
		{"blob:image/*", "blob:image/*"},
		{"blob:Image/PNG", "blob:image/png"},
		{"blob?accept=video/*&accept=text/html", "blob?accept=text/html&accept=video/*"},
		{"blob?accept=video/*&accept=video/mp4", "blob:video/*"},
		{"blob?accept=video/*&accept=*/*", "blob:*/*"},
		{"blob:image/svg+xml", "blob:image/svg+xml"},

		{"account:email", "account:email"},
		{"account?attr=email", "account:email"},
		{"account:email?action=read", "account:email"},
		{"account:email?action=read&action=manage", "account:email?action=manage"},
		{"account:repo?action=manage", "account:repo?action=manage"},
		{"account:status?action=manage", "account:status?action=manage"},
		{"identity:handle", "identity:handle"},
		{"identity:*", "identity:*"},
		{"identity:*?", "identity:*"},
		{"identity?attr=handle", "identity:handle"},

		{"include:app.example.authFull", "include:app.example.authFull"},
		{"include?nsid=app.example.authFull", "include:app.example.authFull"},
		{"include:app.example.authFull?aud=did:web:x.example#svc", "include:app.example.authFull?aud=did:web:x.example%23svc"},
		{"include:app.example.authFull?aud=*", "include:app.example.authFull?aud=*"},
	} {
		if got := scope.Parse(c.token); got.String() != c.want || len(got.Dropped()) != 0 {
			t.Errorf("%s: got %q, dropped %q, want %s", c.token, got, got.Dropped(), c.want)
		}
	}
}

// TestParseDrops has tokens that grant nothing, alone or beside others.
func TestParseDrops(t *testing.T) {
	for _, token := range []string{
		"repo:app.example.*", "repo:a.b.c?collection=a.b.d", "repo:a.b.c?action=read", "repo", "repo:", "repo?", "repo:a.b", "Repo:a.b.c",
		"repo:a.b.c?Action=create", "repo:a.b.c?action=", "repo:a.b.c?action", "repo:a.b.c?action=*", "repo:*?action=create&action=",
		"repo?action=create", "repo:a.b.c,a.b.d", "repo:a.b.c?&action=create", "repo:a.b.c?action=create?", "repo:a.b.c?x=1",
		"rpc:*?aud=*", "rpc?lxm=*&lxm=a.b.c&aud=*", "rpc:a.b.getX", "rpc?aud=*", "rpc:a.b.getX?aud=did:web:x.example", "rpc:a.b.getX?aud=",
		"rpc:a.b.getX?aud=*&aud=*", "rpc:a.b.getX?aud=did:web:x.example%23a%23b", "rpc:a.b.getX?aud=x.example%23svc",
		"rpc:a.b.getX?aud=did:web:x.example%23", "rpc:a.b.getX?aud=did:web:x.example%2", "rpc:a.b.getX?aud=did:web:x.example%23a%20b",
		"rpc:a.b.getX?aud=did:web:x.example%23a%22", "rpc:a.b.getX?aud=did:web:x.example%zz", "rpc:getX?aud=*",
		"blob:image/*;q=1", "blob:*", "blob:image", "blob:*/png", "blob:image/", "blob:/png", "blob:image/p*", "blob:a/b/c", "blob",
		"blob?Accept=image/png", "blob?accept=", "blob:image/png?accept=image/gif", "blob:image/a%20b",
		"account:*", "account", "account:email?action=write", "account?attr=email&attr=repo", "account:Email", "identity:handle?x=1",
		"identity:*?attr=*", "identity:submit", "identity", "repo:é.b.c", "repo:a.b.c\"", "repo:a.b.c\\",
		"include:app.example", "include", "include:*", "include:app.example.a?aud=did:web:x.example", "include:app.example.a?aud=",
		"include:app.example.a?aud=*&aud=*", "transition:other", "openid", "atproto?", "atproto:", "transition:generic?", ":", "?", "", "é", "\t",
	} {
		got := scope.Parse("atproto " + token)
		if want := token != ""; got.String() != "atproto" || (len(got.Dropped()) == 1) != want || want && got.Dropped()[0] != token {
			t.Errorf("%q: got %q, dropped %q", token, got, got.Dropped())
		}
	}
}

// TestCompare has scopes that mean the same, and such that do not.
func TestCompare(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"atproto repo:a.b.c", "repo:a.b.c   atproto atproto", true},
		{"repo?collection=a.b.c&collection=a.b.d", "repo?collection=a.b.d&collection=a.b.c&collection=a.b.c", true},
		{"rpc:a.b.c?aud=did:web:x.example#s", "rpc?aud=did:web:x.example%23s&lxm=a.b.c", true},
		{"rpc:a.b.c?aud=did:web:x.example#s", "rpc:a.b.c?aud=did:web:x.example#S", false},
		{"repo:a.b.c", "repo:a.b.c?action=create", false},
		{"account:email", "account:email?action=manage", false},
		{"include:a.b.c", "include:a.b.c?aud=*", false},
	} {
		a, b := scope.Parse(c.a), scope.Parse(c.b)
		if same := a.String() == b.String(); same != c.same || (len(a.Missing(b)) == 0) != c.same {
			t.Errorf("%s and %s: %q, %q, missing %q; want the same: %t", c.a, c.b, a, b, a.Missing(b), c.same)
		}
	}
	document := scope.Parse("atproto repo:* blob?accept=text/html&accept=video/*")
	if got := document.Missing(scope.Parse("blob?accept=video/*&accept=text/html repo?collection=a.b.c unknown:x")); len(got) != 1 || got[0] != "repo?collection=a.b.c" {
		t.Errorf("missing %q: want the one that is not in the document, as it was asked for", got)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string
	}{
		{"as many tokens as allowed", strings.TrimSpace(strings.Repeat("x ", scope.MaxTokens)), ""},
		{"one more", strings.Repeat("x ", scope.MaxTokens) + "x", "201 tokens"},
		{"as many sets as allowed", strings.Repeat("include:a.b.c ", scope.MaxIncludes) + "includes", ""},
		{"one more set", strings.Repeat("include:a.b.c ", scope.MaxIncludes) + "include?nsid=a.b.c", "21 permission sets"},
		{"as long as allowed", strings.Repeat("x", scope.MaxBytes), ""},
		{"longer", strings.Repeat("x", scope.MaxBytes+1), "16385 bytes"},
	} {
		err := scope.Check(c.text)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestAllows has what each scope allows, and does not. A need is written
// "repo COLLECTION ACTIONS", "rpc METHOD AUDIENCE", "blob TYPE", "account ATTR ACTION",
// "identity ATTR".
func TestAllows(t *testing.T) {
	for _, c := range []struct {
		scope   string
		allowed []string
		refused []string
	}{
		{"atproto", nil, []string{
			"repo a.b.c create", "rpc a.b.c did:web:x.example#s", "rpc * did:web:x.example#s", "blob image/png", "account email read", "identity handle",
		}},
		{"repo:a.b.c?action=create", []string{"repo a.b.c create"}, []string{
			"repo a.b.c update", "repo a.b.c create,update", "repo a.b.d create", "repo a.b create", "repo a.b.c.d create", "repo A.b.c create", "repo * create",
			"repo a.b.c", "blob image/png",
		}},
		{"repo:a.b.c?action=create repo:a.b.c?action=update", []string{"repo a.b.c create,update"}, []string{"repo a.b.c delete"}},
		{
			"repo?collection=a.b.c&collection=a.b.d",
			[]string{"repo a.b.c create,update,delete", "repo a.b.d delete"},
			[]string{"repo a.b.e delete"},
		},
		{"repo:*?action=delete", []string{"repo a.b.c delete"}, []string{"repo a.b.c create"}},
		{"rpc:a.b.getX?aud=*", []string{
			"rpc a.b.getX did:web:x.example#s", "rpc a.b.getX did:web:x.example", "rpc a.b.getX did:plc:y#t",
		}, []string{"rpc a.b.getY did:web:x.example#s", "rpc * did:web:x.example#s", "rpc a.b.getx did:web:x.example#s"}},
		{"rpc?lxm=*&aud=did:web:x.example%23svc", []string{
			"rpc a.b.getX did:web:x.example#svc", "rpc * did:web:x.example#svc", "rpc  did:web:x.example#svc", "rpc a.b.getX did:web:x.example",
			"rpc chat.bsky.convo.getLog did:web:x.example#svc",
		}, []string{
			"rpc a.b.getX did:web:x.example#Svc", "rpc a.b.getX did:web:x.example#svc2", "rpc a.b.getX did:web:X.example#svc", "rpc * did:web:x.example",
			"rpc a.b.getX did:web:y.example", "rpc a.b.getX *", "rpc a.b.getX ",
		}},
		{"rpc?lxm=a.b.c&lxm=a.b.d&aud=did:web:x.example#s", []string{
			"rpc a.b.c did:web:x.example#s", "rpc a.b.d did:web:x.example#s", "rpc a.b.d did:web:x.example",
		}, []string{"rpc a.b.e did:web:x.example#s", "rpc a.b.c did:web:x.example#t", "rpc a.b.e did:web:x.example", "rpc * did:web:x.example#s"}},
		// No token allows it all, though each half is allowed.
		{
			"rpc:a.b.c?aud=did:web:x.example#s rpc:a.b.d?aud=did:web:y.example#s",
			[]string{"rpc a.b.c did:web:x.example#s"},
			[]string{"rpc a.b.c did:web:y.example#s", "rpc a.b.c did:web:y.example"},
		},
		{
			"blob?accept=video/*&accept=text/html",
			[]string{"blob video/mp4", "blob Video/MP4", "blob text/html", "blob text/HTML; charset=utf-8"},
			[]string{"blob text/plain", "blob image/png", "blob video/", "blob video", "blob videos/mp4", "blob text/html5", "blob ", "repo a.b.c create"},
		},
		{"blob:*/*", []string{"blob image/png", "blob x/y", "blob "}, []string{"repo a.b.c create"}},
		{"account:email", []string{"account email read"}, []string{"account email manage", "account repo read", "account repo manage"}},
		{"account:email?action=manage", []string{"account email read", "account email manage"}, []string{"account repo manage"}},
		{"account:repo?action=manage", []string{"account repo manage", "account repo read"}, []string{"account status manage", "identity *"}},
		{"account:repo account:status", nil, []string{"account status manage", "account repo manage"}},
		{"account:status?action=manage", []string{"account status manage"}, []string{"account repo manage", "account email read"}},
		{"identity:handle", []string{"identity handle"}, []string{"identity *"}},
		{"identity:*", []string{"identity handle", "identity *"}, []string{"account repo manage"}},
		{"include:a.b.authAll", nil, []string{"repo a.b.c create", "rpc a.b.c did:web:x.example#s"}},
		{"transition:email", []string{"account email read"}, []string{"account email manage", "repo a.b.c create"}},
		{"transition:generic", []string{
			"repo a.b.c create,update,delete", "blob image/png", "blob ", "rpc a.b.c did:web:x.example#s", "rpc a.b.c did:web:x.example", "rpc chat.bskyx.y did:web:x.example#s",
		}, []string{
			"rpc chat.bsky.convo.getLog did:web:x.example#s", "rpc Chat.Bsky.convo.getLog did:web:x.example#s",
			"rpc com.atproto.server.createAccount did:web:x.example", "rpc com.atproto.server.createaccount did:web:x.example", "rpc * did:web:x.example#s", "account email read",
			"account repo manage", "account status manage", "identity handle", "identity *",
		}},
		{"transition:chat.bsky", nil, []string{"rpc chat.bsky.convo.getLog did:web:x.example#s", "rpc * did:web:x.example#s"}},
		{"transition:generic transition:chat.bsky", []string{
			"rpc chat.bsky.convo.getLog did:web:x.example#s", "rpc * did:web:x.example#s", "rpc * did:web:x.example", "rpc a.b.c did:web:x.example",
		}, []string{"rpc com.atproto.server.createAccount did:web:x.example"}},
		{
			"transition:generic rpc:com.atproto.server.createAccount?aud=*",
			[]string{"rpc com.atproto.server.createAccount did:web:x.example"},
			nil,
		},
		{"", nil, []string{"repo a.b.c create", "account email read"}},
	} {
		set := scope.Parse(c.scope)
		for _, need := range c.allowed {
			if !set.Allows(parseNeed(t, need)) {
				t.Errorf("%q refuses %s", c.scope, need)
			}
		}
		for _, need := range c.refused {
			n := parseNeed(t, need)
			if set.Allows(n) || (scope.Set{}).Allows(n) {
				t.Errorf("%q allows %s", c.scope, need)
			}
		}
	}
	if scope.Parse("atproto transition:generic").Allows(scope.Need{}) {
		t.Error("a need of nothing is met: a route that forgets its need would be open")
	}
}

func parseNeed(t *testing.T, text string) scope.Need {
	t.Helper()
	kind, rest, _ := strings.Cut(text, " ")
	first, second, _ := strings.Cut(rest, " ")
	switch scope.Kind(kind) { //nolint:exhaustive // the others need no more
	case scope.Repo:
		var all scope.Actions
		for _, a := range []struct {
			name string
			bit  scope.Actions
		}{{"create", scope.Create}, {"update", scope.Update}, {"delete", scope.Delete}} {
			if strings.Contains(second, a.name) {
				all |= a.bit
			}
		}
		return scope.NeedRepo(first, all)
	case scope.RPC:
		return scope.NeedRPC(first, second)
	case scope.Blob:
		return scope.NeedBlob(rest)
	case scope.Account:
		return scope.NeedAccount(first, second == "manage")
	case scope.Identity:
		return scope.NeedIdentity(first)
	default:
		t.Fatalf("no such need: %q", text)
		return scope.Need{}
	}
}

// TestNeedText has the narrowest scope of each need, which meets it.
func TestNeedText(t *testing.T) {
	for _, c := range []struct{ need, want string }{
		{"repo a.b.c create", "repo:a.b.c?action=create"},
		{"repo a.b.c create,update", "repo:a.b.c?action=create&action=update"},
		{"repo a.b.c create,update,delete", "repo:a.b.c"},
		{"rpc a.b.getX did:web:x.example#s", "rpc:a.b.getX?aud=did:web:x.example%23s"},
		{"rpc  did:web:x.example#s", "rpc:*?aud=did:web:x.example%23s"},
		{"rpc a.b.getX did:web:x.example", "rpc:a.b.getX?aud=*"},
		{"rpc * did:web:x.example", "transition:chat.bsky transition:generic"},
		{"blob image/PNG; x=y", "blob:image/png"},
		{"blob garbage", "blob:*/*"},
		{"account email read", "account:email"},
		{"account email manage", "account:email?action=manage"},
		{"account status manage", "account:status?action=manage"},
		{"identity handle", "identity:handle"},
		{"identity *", "identity:*"},
	} {
		need := parseNeed(t, c.need)
		if need.String() != c.want {
			t.Errorf("%s needs %q, want %q", c.need, need, c.want)
		}
		if set := scope.Parse(need.String()); !set.Allows(need) || set.String() != need.String() {
			t.Errorf("%s: its own scope %q does not do", c.need, need)
		}
	}
}

// TestWithout has what is left of a scope without what another one allows.
func TestWithout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, other, want string }{
		{"atproto repo:*", "repo:a.b.c", "atproto"},
		{"atproto repo:a.b.c", "repo:*", "atproto"},
		{"atproto repo:a.b.d", "repo:a.b.c", "atproto repo:a.b.d"},
		{"repo:a.b.c?action=create", "repo:a.b.c?action=delete", "repo:a.b.c?action=create"},
		{"repo?collection=a.b.c&collection=a.b.d", "repo:a.b.d", ""},
		{"transition:generic", "repo:a.b.c", ""},
		{"transition:generic", "rpc:chat.bsky.convo.x?aud=*", "transition:generic"},
		{"transition:chat.bsky", "rpc:chat.bsky.convo.x?aud=*", ""},
		{"transition:chat.bsky", "rpc:a.b.c?aud=*", "transition:chat.bsky"},
		{"transition:email", "account:email", ""},
		{"account:repo", "account:email", "account:repo"},
		{"account:email", "account:email?action=manage", ""},
		{"identity:handle", "identity:*", ""},
		{"rpc:a.b.c?aud=did:plc:x%23s", "rpc:a.b.c?aud=did:plc:x%23other", ""},
		{"rpc:a.b.c?aud=did:plc:x%23s", "rpc:a.b.c?aud=did:plc:y%23s", "rpc:a.b.c?aud=did:plc:x%23s"},
		{"blob:image/*", "blob:image/png", ""},
		{"blob:image/png", "blob:*/*", ""},
		{"blob:image/png", "blob:text/*", "blob:image/png"},
		{"include:a.b.authAll", "repo:a.b.c.d", ""},
		{"include:a.b.authAll", "include:a.b.c.authSome", ""},
		{"include:a.b.authAll", "include:a.bx.authAll repo:a.c", "include:a.b.authAll"},
		{"include:a.b.authAll", "blob:*/* account:email", "include:a.b.authAll"},
		{"transition:generic transition:chat.bsky", "include:a.b.authAll", ""},
	} {
		if got := scope.Parse(c.set).Without(scope.Parse(c.other)).String(); got != c.want {
			t.Errorf("%q without %q: %q, want %q", c.set, c.other, got, c.want)
		}
	}
}
