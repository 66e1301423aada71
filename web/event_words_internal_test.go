package web

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nestbox/account"
)

// entryKinds returns every kind of entry that package account declares.
func entryKinds(t *testing.T) (kinds []account.EntryKind) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../account/trail.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "EntryKind" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, account.EntryKind(text))
		return true
	})
	if len(kinds) < 40 {
		t.Fatalf("only %d kinds found", len(kinds))
	}
	return kinds
}

// TestEventWords: each kind of entry has words in each language, whatever its reason is, and
// is shown by one filter besides "all".
func TestEventWords(t *testing.T) {
	t.Parallel()
	l, err := readLanguages(messageFiles, true)
	if err != nil {
		t.Fatal(err)
	}
	reasons := []string{
		"", "alice.test", "https://app.example/client.json", "https://app.example/client.json repo:a.b.c", `app password "a \"b\""`, `"a", 3 sessions ended`,
		"browser: Firefox on Linux", "password", "passkey, on a page of this server", "password and e-mail code", "session was ended", "account is taken down",
		"token of another server", "token was superseded before the reuse window", "right password, wrong code to delete the account",
		"wrong code to change the identity", "a passkey's wrong answer", "\x00\xff\u202e", "http://localhost",
	}
	for _, kind := range entryKinds(t) {
		if !slices.Contains((*Events)(nil).Abouts(), about(kind)) {
			t.Errorf("%s is about %q, which no filter shows", kind, about(kind))
		}
		for _, reason := range reasons {
			for _, by := range []account.Actor{account.ActorOwner, account.ActorAdmin, account.ActorServer} {
				e := account.Entry{Kind: kind, Reason: reason, By: by, Session: 3}
				for _, text := range []Text{eventWords(e), byWhom(e), advice(kind), why(e)} {
					if text.ID == "" {
						continue
					}
					for _, c := range l.all {
						if words, err := c.text(text.ID, text.Args...); err != nil || words == "" || text.ID == "event.unknown" {
							t.Errorf("%s %q by %s in %s: %q, %v", kind, reason, by, c.Tag, words, err)
						}
					}
				}
			}
		}
	}
	if got := eventWords(account.Entry{Kind: "of-a-newer-server"}); got.ID != "event.unknown" {
		t.Errorf("a kind that is not known: %v", got)
	}
}

// TestEventWordsTell: what is in an entry's reason is in its words.
func TestEventWordsTell(t *testing.T) {
	t.Parallel()
	l, err := readLanguages(messageFiles, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		e    account.Entry
		want string
	}{
		{account.Entry{Kind: account.EntryHandleChanged, Reason: "bob.test"}, "The handle was changed to bob.test."},
		{account.Entry{Kind: account.EntrySignIn, Reason: `app password "a \"b\""`, Session: 1}, `An app signed in with the app password a "b".`},
		{account.Entry{Kind: account.EntrySignIn, Reason: "password", Session: 1}, "An app signed in with your password."},
		{account.Entry{Kind: account.EntrySignIn, Reason: "password and authenticator code, on a page of this server"}, "A browser signed in with your password and a second step."},
		{account.Entry{Kind: account.EntrySignIn, Reason: "passkey, on a page of this server", Browser: 1}, "A browser signed in with a passkey."},
		{account.Entry{Kind: account.EntrySignOut, Reason: "browser: Firefox on Linux"}, "Firefox on Linux signed out."},
		{account.Entry{Kind: account.EntryAppAuthorized, Reason: "https://app.example/c.json"}, "app.example was connected to your account."},
		{account.Entry{Kind: account.EntryAppAuthorized, Reason: "http://localhost"}, "An app on this computer was connected to your account."},
		{account.Entry{Kind: account.EntryAppPasswordRevoked, Reason: `"my bot", 2 sessions ended`}, "The app password my bot was revoked."},
		{account.Entry{Kind: account.EntryPermissionTaken, Reason: "https://app.example/c.json repo:app.bsky.feed.post?action=create"}, "app.example lost a permission: Create posts"},
		{account.Entry{Kind: account.EntryPasskeyAdded, Reason: "<b>"}, "The passkey <b> was added."},
	} {
		text := eventWords(c.e)
		words, err := l.all[0].text(text.ID, text.Args...)
		if got := plain(words); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v; want %q", c.e, got, err, c.want)
		}
	}
}

// TestPaged: every row of a list is in one part, and no ?page= leads outside.
func TestPaged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rows         int
		page         string
		first, last  int
		at, of       int
		newer, older string
	}{
		{0, "", 0, 0, 1, 1, "", ""},
		{10, "", 0, 10, 1, 1, "", ""},
		{11, "", 0, 10, 1, 2, "", "/x?kind=app&page=2"},
		{11, "2", 10, 11, 2, 2, "/x?kind=app&page=1", ""},
		{25, "2", 10, 20, 2, 3, "/x?kind=app&page=1", "/x?kind=app&page=3"},
		{25, "99", 20, 25, 3, 3, "/x?kind=app&page=2", ""},
		{25, "-1", 0, 10, 1, 3, "", "/x?kind=app&page=2"},
		{25, "99999999999999999999", 20, 25, 3, 3, "/x?kind=app&page=2", ""},
		{25, "<b>", 0, 10, 1, 3, "", "/x?kind=app&page=2"},
	} {
		rows := make([]int, c.rows)
		for i := range rows {
			rows[i] = i
		}
		q := &query{r: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x?kind=app&other=1&page="+strings.ReplaceAll(c.page, "<", "%3C"), http.NoBody)}
		got, p := paged(q, rows, 10)
		if !slices.Equal(got, rows[c.first:c.last]) || p != (Pager{c.at, c.of, c.newer, c.older}) {
			t.Errorf("%d rows, page %q: %v %+v", c.rows, c.page, got, p)
		}
	}
}
