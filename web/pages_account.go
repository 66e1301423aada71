package web

import (
	"time"

	"nestbox/auth"
)

// Accounts is /account: the accounts of this browser. Button sign_out with the DID;
// decision all signs out of all.
type Accounts struct {
	Frame
	Accounts []SignedIn
}

// SignedIn is an account that is signed in on this browser.
type SignedIn struct {
	Account
	Since time.Time
	// Stale means that its pages ask for the password first.
	Stale bool
}

func (*Accounts) template() string { return "accounts" }
func (*Accounts) title() Text      { return Msg("accounts.title") }

// SessionKind is a kind of session.
type SessionKind string

// The kinds, the values of ?kind=.
const (
	PasswordSession    SessionKind = "password"
	AppPasswordSession SessionKind = "app-password"
	OAuthSession       SessionKind = "app"
	BrowserSession     SessionKind = "browser"
)

// Sessions lists every session of an account, of all kinds. Button end with the Ref of a
// row, "others" or "all", each of which leads to a page that asks once more.
type Sessions struct {
	Frame
	// Kind is the filter; empty for all. Counts are how many rows there are of each kind.
	Kind   SessionKind
	Counts map[SessionKind]int
	Rows   []SessionRow
	Pager  Pager
	// Ended are those that ended within 30 days; MoreEnded: there are more than these.
	Ended     []EndedSession
	MoreEnded bool
}

// SessionRow is a session that lives.
type SessionRow struct {
	Kind SessionKind
	// Ref names it in forms. ClientID is that of an app (OAuth).
	Ref, ClientID string
	// Name is the client (from its User-Agent), the app password's name, the client_id's
	// host, or the browser. Detail is a second line; both are strangers' text.
	Name, Detail string
	// Loopback is of an app (OAuth) on this computer, which has no host.
	Loopback bool
	// Confidential is of an app (OAuth) that has a key of its own.
	Confidential bool
	// This is set for the browser that asks.
	This bool
	// May names what the session may do, a line each; MayMore counts what it may besides.
	May     []Text
	MayMore int
	// Network is the one of the last use, empty for a session that was taken over from another
	// server and not used since.
	Network              string
	Made, Used           time.Time
	EndsAt, TrustedUntil time.Time

	granted string
	scope   auth.Scope
}

// Subject is what a session belongs to, by what the account's trail remembers.
type Subject struct {
	Kind SessionKind
	// Name and Loopback are as in SessionRow.
	Name     string
	Loopback bool
}

// EndedSession is a session that ended.
type EndedSession struct {
	Subject

	// Network is that of the sign-in.
	Network string
	At      time.Time
	// Why is why it ended, and by whom. Event is the address of what ended it.
	Why   Text
	Event string
}

func (*Sessions) template() string { return "sessions" }
func (*Sessions) title() Text      { return Msg("sessions.title") }

// Apps lists the apps that are connected by OAuth. Buttons: end with the Ref of an app ends
// its sessions and forgets what was allowed; take, with the client_id, a space and a scope,
// takes one permission back.
type Apps struct {
	Frame
	Apps  []App
	Pager Pager
	// One: only one app was asked for.
	One bool
}

// App is a connected app.
type App struct {
	Client      Client
	Sessions    int
	Since, Used time.Time
	// Permissions are what it may do, Denied what it asked for besides and did not get.
	Permissions, Denied []Permission
	// Scope is what was granted, as the client sees it.
	Scope string

	granted, requested []string
}

// Ref names the app in forms.
func (a *App) Ref() string { return refApp.named(a.Client.ID) }

func (*Apps) template() string { return "apps" }
func (*Apps) title() Text      { return Msg("apps.title") }

// All returns how many rows there are of all kinds.
func (p *Sessions) All() (n int) {
	for _, count := range p.Counts {
		n += count
	}
	return n
}

// Kinds returns every kind, for the filter.
func (*Sessions) Kinds() []SessionKind {
	return []SessionKind{OAuthSession, PasswordSession, AppPasswordSession, BrowserSession}
}
