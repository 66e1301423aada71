package server_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/auth"
	"nestbox/internal/pdstest"
)

// credential is a kind of credentials that a request may carry.
type credential string

const (
	byNobody    credential = "nobody"
	byPassword  credential = "a session of the password"
	byApp       credential = "a session of an app password"
	byTakenDown credential = "a session of a sign-in with allowTakendown"
	byRefresh   credential = "a refresh token"
	byAdmin     credential = "the admin"
)

// route is what an endpoint demands of its caller. The zero route demands nothing:
// any credentials are fine, or the endpoint reads its own.
type route struct {
	use auth.Use
	by  []credential // those that may call it, if their status allows it
}

// routes returns a row for each route: which credentials it accepts, and what it does
// with the caller's account.
func routes() map[string]route {
	standard := []credential{byPassword, byApp}
	full := []credential{byPassword}
	leaving := []credential{byPassword, byApp, byTakenDown}
	leavingFull := []credential{byPassword, byTakenDown}
	viewer := []credential{byNobody, byPassword, byApp, byTakenDown, byAdmin}
	admins := route{by: []credential{byAdmin}}
	open := route{}
	server, repo, sync, id := "com.atproto.server.", "com.atproto.repo.", "com.atproto.sync.", "com.atproto.identity."
	all := map[string]route{
		server + "createSession": open, server + "describeServer": open, server + "deleteAccount": open, server + "reserveSigningKey": open,
		server + "requestPasswordReset": open, server + "resetPassword": open,
		server + "refreshSession": {by: []credential{byRefresh}}, server + "deleteSession": {by: []credential{byRefresh}},
		server + "createAccount":            {by: []credential{byNobody}},
		server + "getSession":               {auth.UseLook, standard},
		server + "activateAccount":          {auth.UseActivate, full},
		server + "deactivateAccount":        {auth.UseLeave, leavingFull},
		server + "checkAccountStatus":       {auth.UseLook, standard},
		server + "getServiceAuth":           {auth.UseLeave, leaving},
		server + "getAccountInviteCodes":    {auth.UseInvite, full},
		server + "createAppPassword":        {auth.UseManage, full},
		server + "listAppPasswords":         {auth.UseLook, standard},
		server + "revokeAppPassword":        {auth.UseManage, standard},
		server + "requestEmailConfirmation": {auth.UseManage, standard},
		server + "confirmEmail":             {auth.UseManage, standard},
		server + "requestEmailUpdate":       {auth.UseManage, full},
		server + "updateEmail":              {auth.UseManage, full},
		server + "requestAccountDelete":     {auth.UseDelete, full},

		repo + "createRecord": {auth.UseWrite, standard}, repo + "putRecord": {auth.UseWrite, standard},
		repo + "deleteRecord": {auth.UseWrite, standard}, repo + "applyWrites": {auth.UseWrite, standard},
		repo + "getRecord": open, repo + "listRecords": open, repo + "describeRepo": open,
		repo + "importRepo": {auth.UseBring, full}, repo + "uploadBlob": {auth.UseBring, standard},
		repo + "listMissingBlobs": {auth.UseLook, standard},

		sync + "getRepoStatus": open, sync + "listRepos": open, sync + "subscribeRepos": open,

		id + "resolveHandle": open, id + "resolveDid": open, id + "resolveIdentity": open,
		id + "updateHandle": {auth.UseManage, standard}, id + "submitPlcOperation": {auth.UseManage, standard},
		id + "refreshIdentity":              {auth.UseManage, standard},
		id + "getRecommendedDidCredentials": {auth.UseLook, standard},
		id + "requestPlcOperationSignature": {auth.UseLeave, leavingFull},
		id + "signPlcOperation":             {auth.UseLeave, leavingFull},

		"com.atproto.moderation.createReport":  {auth.UseLeave, leaving},
		"app.bsky.actor.getPreferences":        {auth.UseLeave, leaving},
		"app.bsky.actor.putPreferences":        {auth.UseManage, standard},
		"com.atproto.temp.checkSignupQueue":    {auth.UseLook, standard},
		"app.bsky.feed.getFeed":                {auth.UseLook, standard},
		"app.bsky.notification.registerPush":   {auth.UseLook, standard},
		"app.bsky.notification.unregisterPush": {auth.UseLook, standard},
		server + "createInviteCode":            admins, server + "createInviteCodes": admins,
	}
	for _, name := range []string{"getRepo", "getRecord", "getBlocks", "getLatestCommit", "getHead", "getCheckout", "getBlob", "listBlobs"} {
		all[sync+name] = route{auth.UseLeave, viewer}
	}
	for _, name := range []string{
		"updateSubjectStatus", "getSubjectStatus", "getAccountInfo", "getAccountInfos", "searchAccounts", "sendEmail", "updateAccountEmail", "updateAccountPassword",
		"updateAccountHandle", "deleteAccount", "getInviteCodes", "disableInviteCodes", "disableAccountInvites", "enableAccountInvites",
	} {
		all["com.atproto.admin."+name] = admins
	}
	return all
}

// TestStanding calls every route with every kind of credentials in every status of the
// account, and compares whether they are accepted with the table of auth.May. A route
// without a row fails.
func TestStanding(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BSKY_APP_VIEW_URL=http://localhost:1", "PDS_BSKY_APP_VIEW_DID=did:web:localhost"}})
	table := routes()
	for _, name := range s.Routes() {
		if _, ok := table[name]; !ok {
			t.Errorf("%s has no row: decide which use of an account it is (auth.Use)", name)
		}
	}
	if len(table) != len(s.Routes()) {
		t.Errorf("%d rows for %d routes", len(table), len(s.Routes()))
	}
	for status, commands := range map[account.Status][]string{
		account.Active: nil, account.Deactivated: {"deactivate"}, account.Suspended: {"account.suspend"},
		account.TakenDown: {"account.takedown"},
	} {
		name := "person" + string(status)
		alice := s.SignUp(t, name)
		tokens := map[credential]string{
			byNobody: "", byAdmin: "Basic YWRtaW46YWRtaW4=", byPassword: pdstest.Bearer(alice.AccessJwt), byRefresh: pdstest.Bearer(alice.RefreshJwt),
		}
		var app struct{ Password string }
		s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: tokens[byPassword], Body: map[string]string{"name": "app"}}).Decode(t, &app)
		tokens[byApp] = pdstest.Bearer(s.SignIn(t, alice.DID, app.Password).AccessJwt)
		for _, command := range commands {
			if command == "deactivate" {
				s.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: tokens[byPassword], Body: map[string]string{}})
				continue
			}
			var line admin.AccountLine
			if err := s.Run(t.Context(), command, admin.TakedownArgs{Account: alice.DID}, &line); err != nil || line.Status != string(status) {
				t.Fatalf("%s: %+v, %v", command, line, err)
			}
		}
		if status == account.TakenDown {
			var in pdstest.Session
			s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]any{"identifier": alice.DID, "password": pdstest.Password, "allowTakendown": true}}).Decode(t, &in)
			tokens[byTakenDown] = pdstest.Bearer(in.AccessJwt)
		}
		for nsid, row := range table {
			for by, token := range tokens {
				got := standing(t, s, nsid, alice.DID, token)
				if want := row.want(by, status); got != want {
					t.Errorf("%s by %s, account %q: %q, want %q", nsid, by, status, got, want)
				}
			}
		}
	}
}

// want returns the error that the credentials cause; empty if none.
func (r route) want(by credential, status account.Status) string {
	taken := len(r.by) == 0
	for _, b := range r.by {
		taken = taken || b == by
	}
	switch {
	case len(r.by) == 0:
		return ""
	case !taken:
		return "refused"
	case by == byNobody || by == byAdmin || by == byRefresh:
		return ""
	}
	scope := auth.ScopeAccess
	if by == byTakenDown {
		scope = auth.ScopeTakenDown
	}
	if err := auth.May(r.use, string(status), scope); err != nil {
		return err.Error()
	}
	return ""
}

// standing calls a route with an input that no route accepts, so that nothing is done,
// and returns the error that the credentials cause.
func standing(t *testing.T, s *pdstest.InProcess, nsid, did, token string) string {
	t.Helper()
	q := url.Values{
		"did": {did}, "repo": {did}, "handle": {"x.test"}, "identifier": {did}, "collection": {"app.bsky.feed.post"}, "rkey": {"x"}, "aud": {"did:web:x.example"},
		"lxm": {"com.atproto.server.createAccount"}, "cid": {"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}, "cids": {"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}, "dids": {did},
	}
	a := s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: token, Body: "[]"})
	if a.Status == http.StatusBadRequest && strings.Contains(string(a.Body), "Incorrect HTTP method") {
		a = s.Do(t, pdstest.Request{NSID: nsid + "?" + q.Encode(), Auth: token})
	}
	if a.Status == http.StatusOK || a.Status == http.StatusUpgradeRequired {
		return ""
	}
	name, message := a.Error(t)
	switch name {
	case "AccountTakedown", "AccountDeactivated":
		return name + ": " + message
	case "NotFound":
		if message == "Account not found" {
			return name + ": " + message
		}
	case "AuthMissing", "AuthenticationRequired", "InvalidToken", "BadJwt", "BadJwtType", "BadJwtIss", "UntrustedIss", "ExpiredToken":
		return "refused"
	}
	return ""
}

// uses are the names of the uses.
var uses = map[string]auth.Use{
	"UseWrite": auth.UseWrite, "UseLook": auth.UseLook, "UseManage": auth.UseManage, "UseActivate": auth.UseActivate,
	"UseBring": auth.UseBring, "UseDelete": auth.UseDelete, "UseInvite": auth.UseInvite, "UseLeave": auth.UseLeave,
}

// TestUses compares the use that routes.go names for each route with the table. Two uses
// may be allowed in the same statuses, and a handler may decide again, so answers alone
// do not show which one a route has.
func TestUses(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "routes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]ast.Expr{} // the verifiers that have a name
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) {
					named[id.Name] = n.Rhs[i]
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.BasicLit); ok {
				found[strings.Trim(key.Value, `"`)] = useOf(n.Value, named)
			}
		}
		return true
	})
	for nsid, r := range routes() {
		if strings.HasPrefix(nsid, "app.bsky.") && !strings.HasSuffix(nsid, "Preferences") {
			continue // the proxy proves its callers itself: see buildProxy
		}
		want := ""
		for _, by := range r.by {
			if by == byPassword {
				want = "auth." + nameOf(r.use)
			}
		}
		if got, ok := found[nsid]; !ok || got != want {
			t.Errorf("%s: routes.go names %q, want %q", nsid, got, want)
		}
	}
}

func nameOf(u auth.Use) string {
	for name, use := range uses {
		if use == u {
			return name
		}
	}
	return ""
}

// useOf returns the use of the verifier that an expression has, as routes.go writes it;
// empty if there is none.
func useOf(e ast.Expr, named map[string]ast.Expr) (use string) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			_, isUse := uses[n.Sel.Name]
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "auth" && isUse && use == "" {
				use = "auth." + n.Sel.Name
			}
		case *ast.Ident:
			if v, ok := named[n.Name].(*ast.CallExpr); ok && use == "" {
				use = useOf(v, nil)
			}
		}
		return true
	})
	return use
}
