package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/device"
	"nestbox/export"
	"nestbox/hosting"
	"nestbox/internal/gate"
	"nestbox/internal/seal"
	"nestbox/mail"
	"nestbox/moving"
	"nestbox/oauth"
	"nestbox/request"
	"nestbox/session"
	"nestbox/signin"
)

// AccountPages answers the pages below /account, and what leads there. Its fields are set
// once.
type AccountPages struct {
	*Site

	Accounts     account.Store
	SignIns      *signin.Service
	Sessions     *session.Service
	Hosting      *hosting.Service
	Emails       *account.Emails
	Codes        *account.Codes
	AppPasswords *account.AppPasswords
	Invites      *account.Invites
	OAuth        *oauth.Service
	Exports      *export.Service
	Moving       *moving.Service
	// Blobs counts the files of accounts.
	Blobs interface {
		Used(ctx context.Context, accountID int64) (files, bytes int64, err error)
	}
	// Facts are about the server.
	Facts ServerFacts
	// Arrived returns the mails about a sign-in on a browser.
	Arrived func(context.Context, *account.Account, account.Entry) ([]mail.Message, error)
	// Box seals what forms carry from one step to the next.
	Box    *seal.Box
	SignUp SignUpRules
	Now    func() time.Time

	// signUps are the names that accounts are being made for: a form that comes twice at
	// once waits for itself.
	signUps gate.Keyed[string]
}

// SignUpRules are the operator's about sign-ups on the page.
type SignUpRules struct {
	// Policy is PDS_SIGNUP.
	Policy      string
	NeedsInvite bool
	Domains     []string
	// Terms: the operator has terms or a privacy policy, which must be accepted.
	Terms bool
	// Captcha is nil for none.
	Captcha *Captcha
}

// PageRoutes returns the routes of the pages.
func (p *AccountPages) PageRoutes() []Route {
	of := func(part string) string { return "/account/u/{did}/" + part }
	return []Route{
		{"/account", p.visited(p.showAccounts), p.visited(p.signOut)},
		{LanguagePath, nil, p.Pages.SetLanguage},
		{AssetPath, p.Pages.ServeAsset, nil},
		{"/account/sign-in", p.open(p.showSignIn), p.open(p.signIn)},
		{"/account/sign-up", p.open(p.showSignUp), p.open(p.signUp)},
		{"/account/reset-password", p.open(p.showReset), p.open(p.reset)},
		{"/.well-known/change-password", redirect(http.StatusFound, "/account/reset-password"), nil},
		{"/.well-known/passkey-endpoints", p.servePasskeyEndpoints, nil},
		{"/account/security", p.visited(p.toSecurity), nil},
		{"/account/u/{did}", p.owned(p.toManage), nil},
		{of("welcome"), p.owned(p.showWelcome), nil},
		{of("manage"), p.owned(p.showManage), p.owned(p.changeManage)},
		{of("handle"), p.owned(p.showHandle), p.owned(p.changeHandle)},
		{of("email"), p.owned(p.showEmail), p.owned(p.changeEmail)},
		{of("password"), p.owned(p.showPassword), p.owned(p.changePassword)},
		{of("deactivate"), p.owned(p.showDeactivate), p.owned(p.deactivate)},
		{of("reactivate"), p.owned(p.showReactivate), p.owned(p.reactivate)},
		{of("delete"), p.owned(p.showDelete), p.owned(p.deleteAccount)},
		{of("codes"), p.owned(p.showToolCodes), p.owned(p.toolCodes)},
		{of("about"), p.owned(p.showAbout), nil},
		{of("sessions"), p.owned(p.showSessions), p.owned(p.endSessions)},
		{of("devices"), p.owned(p.showDevices), p.owned(p.endSessions)},
		{of("app-passwords"), p.owned(p.showAppPasswords), p.owned(p.changeAppPasswords)},
		{of("events"), p.owned(p.showEvents), p.owned(p.endSessions)},
		{of("secure"), p.owned(p.showSecure), nil},
		{of("identity"), p.owned(p.showIdentity), p.owned(p.changeIdentity)},
		{of("data"), p.owned(p.showData), p.owned(p.takeData)},
		{of("files"), p.owned(p.showFiles), nil},
		{of("file"), p.owned(p.sendFile), nil},
		{of("data/bring"), p.owned(p.showBring), p.owned(p.changeBring)},
		{of("move"), p.owned(p.showMove), p.owned(p.changeMove)},
		{uploadPath, p.owned(p.toBring), p.owned(p.uploadBring)},
		{of("security"), p.owned(p.showSecurity), p.owned(p.confirmed(p.steppedUp(signin.ChangeFactors, Msg("act.security"), p.changeSecurity)))},
		{of("apps"), p.owned(p.showApps), p.owned(p.changeApps)},
	}
}

// query is one request for a page.
type query struct {
	w http.ResponseWriter
	r *http.Request
	// visit is the browser, account whose page it is, nil for a page of nobody's.
	visit   device.Visit
	account *account.Account
	// flow names the showing of the page whose form came.
	flow string
}

// typed returns a field of the form that came.
func (q *query) typed(name string) string { return q.r.PostForm.Get(name) }

// to answers with the way to another page.
func (q *query) to(path string) error {
	http.Redirect(q.w, q.r, path, http.StatusSeeOther) //nolint:gosec // a path of our own
	return nil
}

// done is to a page that shows what was done, a word of dones.
func (q *query) done(path, word string) error { return q.to(path + "?done=" + word) }

// signedIn is the word of a sign-in that was just made: the page that it leads to can
// tell that the browser keeps no cookie.
const signedIn = "signed-in"

// dones are the words of ?done= that have a message of their own.
var dones = map[string]string{ //nolint:gosec // names of messages
	"reset": "done.reset", "signed-out": "done.signed-out", "ended": "done.ended", "ended-all": "done.ended-all",
	"totp-on": "done.totp-on", "totp-off": "done.totp-off", "passkey-added": "done.passkey-added", "passkey-renamed": "done.passkey-renamed",
	"passkey-removed": "done.passkey-removed", "email-on": "done.email-on", "email-off": "done.email-off", "switched": "done.switched",
	"trust-ended": "done.trust-ended", "app-ended": "done.app-ended", "app-password-ended": "done.app-password-ended",
	"permission-taken": "done.permission-taken", "reactivated": "done.reactivated", "reactivated-held": "done.reactivated-held",
	"deactivated": "done.deactivated",
	"deleted":     "done.deleted",
	"password":    "done.password", "handle": "done.handle", "email": "done.email", "email-confirmed": "done.email-confirmed",
	"code-sent": "done.code-sent", "notices-on": "done.notices-on", "notices-off": "done.notices-off", "identity": "done.identity",
}

// frame returns what the page has in common with others, with a token for its forms that
// is bound to a browser.
func (p *AccountPages) frame(q *query, browser int64, problems ...Problem) (f Frame, flow string) {
	at := q.r.URL.Path
	f = Frame{Form: Form{Action: at}, Problems: problems}
	f.Form.CSRF, flow = p.Browsers.Token(browser, at)
	if q.account != nil {
		f.Account = shownAccount(q.account)
		f.Form.Reactivate, _ = p.Browsers.Token(browser, f.Account.Path("reactivate"))
	}
	if id, ok := dones[q.r.URL.Query().Get("done")]; ok && q.r.Method != http.MethodPost {
		f.Notices = []Notice{{Kind: Success, Text: Msg(id)}}
	}
	if q.r.Method == http.MethodPost {
		f.Self = at
	}
	return f, flow
}

// shownAccount returns an account as pages show it.
func shownAccount(a *account.Account) *Account {
	shown := &Account{
		DID: a.DID.String(), Handle: a.Handle.String(), Deactivated: !a.DeactivatedAt.IsZero(), DeleteAt: a.DeleteAfter,
		TakenDown: !a.TakenDownAt.IsZero(), Suspended: !a.SuspendedAt.IsZero(),
	}
	if a.HandleInvalid {
		shown.Handle = ""
	}
	return shown
}

// open serves a page that needs no sign-in. Its form's token is bound to the page alone:
// until it is posted there may be no browser to bind it to.
func (p *AccountPages) open(fn func(*query) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := p.visit(w, r, 0)
		if err != nil {
			p.Fail(w, r, err)
			return
		}
		p.run(q, 0, fn)
	}
}

// visited serves a page of the browser. One that is not known learns so if it was
// signed in just now.
func (p *AccountPages) visited(fn func(*query) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch q, err := p.visit(w, r, 0); {
		case err != nil:
			p.Fail(w, r, err)
		case !q.visit.Known() && r.URL.Query().Get("done") == signedIn:
			p.Cookieless(w, r)
		default:
			p.run(q, q.visit.ID, fn)
		}
	}
}

// owned serves a page of an account that is signed in on the browser. Any other account
// is alike, here or not: the person is asked to sign in.
func (p *AccountPages) owned(fn func(*query) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := p.Accounts.ByDID(r.Context(), didOf(r))
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			p.Fail(w, r, err)
			return
		}
		id := int64(0)
		if a != nil {
			id = a.ID
		}
		q, err := p.visit(w, r, id)
		if err != nil {
			p.Fail(w, r, err)
			return
		}
		in, ok := q.visit.SignIn(id)
		switch {
		case a != nil && ok && in.MayLook(q.visit.At):
			q.account = a
			request.SetAccount(r.Context(), a.DID.String())
			if shown := shownAccount(a); shown.TakenDown && !whileTakenDown(path.Base(r.URL.Path)) {
				_ = q.to(shown.Path("about"))
				return
			}
			p.run(q, q.visit.ID, fn)
		case !q.visit.Known() && r.URL.Query().Get("done") == signedIn:
			p.Cookieless(w, r)
		default:
			ask := url.Values{"next": {r.URL.Path}}
			if a != nil {
				ask.Set("account", a.Handle.String())
			}
			_ = q.to("/account/sign-in?" + ask.Encode())
		}
	}
}

// didOf returns the DID in the path of an account's page, empty if there is none.
func didOf(r *http.Request) syntax.DID {
	rest, _ := strings.CutPrefix(r.URL.Path, "/account/u/")
	text, _, _ := strings.Cut(rest, "/")
	did, err := syntax.ParseDID(text)
	if err != nil {
		return ""
	}
	return did
}

// visit begins the answer to a request.
func (p *AccountPages) visit(w http.ResponseWriter, r *http.Request, accountID int64) (*query, error) {
	v, err := p.Browsers.Visit(r, accountID)
	if err != nil {
		return nil, err
	}
	p.Browsers.Keep(w, v)
	return &query{w: w, r: r, visit: v}, nil
}

// run checks the token of a form, which is bound to a browser, and answers.
func (p *AccountPages) run(q *query, browser int64, fn func(*query) error) {
	if q.r.Method == http.MethodPost {
		var ok bool
		if q.flow, ok = p.Browsers.Shown(browser, q.r.URL.Path, q.typed("csrf")); !ok {
			p.Foreign(q.w, q.r)
			return
		}
	}
	if err := fn(q); err != nil {
		p.Fail(q.w, q.r, err)
	}
}

// redirect returns the handler of an address that leads elsewhere.
func redirect(status int, to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) }
}

// nextOf returns the path to go to after a sign-in, "" unless it is an account's page.
func nextOf(text string) string {
	if !strings.HasPrefix(text, "/account/") || ownPath(text) != text {
		return ""
	}
	if strings.HasPrefix(text, "/account/sign-") || strings.HasPrefix(text, LanguagePath) {
		return ""
	}
	return text
}

// showAccounts is GET /account: the accounts of this browser.
func (p *AccountPages) showAccounts(q *query) error {
	page := &Accounts{}
	for _, in := range q.visit.Live() {
		a, err := p.Accounts.ByDID(q.r.Context(), in.DID)
		if errors.Is(err, account.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		page.Accounts = append(page.Accounts, SignedIn{Account: *shownAccount(a), Since: in.At, Stale: !in.MayLook(q.visit.At)})
	}
	if len(page.Accounts) == 0 {
		to := "/account/sign-in"
		if q.r.URL.Query().Get("done") == "signed-out" {
			to += "?done=signed-out"
		}
		return q.to(to)
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// signOut is POST /account: out of one account, or all.
func (p *AccountPages) signOut(q *query) error {
	id := int64(0)
	if did := q.typed("sign_out"); did != "" {
		id = -1 // nobody's: not signed in here, which is what was wanted
		for _, in := range q.visit.SignIns {
			if in.DID.String() == did {
				id = in.AccountID
			}
		}
	} else if q.typed("decision") != "all" {
		return q.to("/account")
	}
	v, err := p.Browsers.Devices.SignOut(q.r.Context(), q.visit, id)
	if err != nil {
		return err
	}
	p.Browsers.Keep(q.w, v)
	return q.done("/account", "signed-out")
}

// toManage leads from an account to the first of its pages.
func (p *AccountPages) toManage(q *query) error {
	return q.to(shownAccount(q.account).Path("manage"))
}

// servePasskeyEndpoints tells password managers where passkeys are made
// (https://w3c.github.io/webappsec-passkey-endpoints/). They know no account, so the page
// finds out whose it is.
func (p *AccountPages) servePasskeyEndpoints(w http.ResponseWriter, _ *http.Request) {
	at := p.Browsers.Origin + "/account/security"
	body, _ := json.Marshal(map[string]string{"enroll": at, "manage": at}) // texts cannot fail
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// toSecurity leads to the security page of the one account that is signed in, or to the
// choice of one.
func (p *AccountPages) toSecurity(q *query) error {
	switch live := q.visit.Live(); len(live) {
	case 0:
		return q.to("/account/sign-in?next=" + url.QueryEscape(q.r.URL.Path))
	case 1:
		return q.to((&Account{DID: live[0].DID.String()}).Path("security"))
	default:
		return q.to("/account")
	}
}

// showWelcome follows a sign-up.
func (p *AccountPages) showWelcome(q *query) error {
	page := &Welcome{Passkeys: p.Browsers.PasskeysWork(q.r)}
	if p.Codes.Templates != nil && q.account.EmailConfirmedAt.IsZero() {
		page.Email = q.account.Email
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}
