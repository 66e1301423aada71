package web

import "time"

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

// Sessions lists every session of an account, of all kinds. A row's form: hidden session
// (and client_id where it has one), or device; decision end. Below the list: decision
// end-others and end-all, each of which leads to a page that asks once more.
type Sessions struct {
	Frame
	// Kind is the filter; empty for all.
	Kind SessionKind
	Rows []SessionRow
	// Ended are those that ended within 30 days.
	Ended []EndedSession
}

// SessionRow is a session that lives.
type SessionRow struct {
	Kind SessionKind
	// Session, ClientID, Device are the hidden fields of the row's form; empty ones are
	// left out.
	Session, ClientID, Device string
	// Name is the client (from its User-Agent), the app password's name, the client_id's
	// host, or the browser. Detail is a second line; both are strangers' text.
	Name, Detail string
	// Loopback is of an app (OAuth) on this computer, which has no host.
	Loopback bool
	// Confidential is of an app (OAuth) that has a key of its own.
	Confidential bool
	// This is set for the browser that asks.
	This bool
	// May names what the session may do, a line each.
	May []Text
	// Network is the one of the last use.
	Network              string
	Made, Used           time.Time
	EndsAt, TrustedUntil time.Time
}

// EndedSession is a session that ended.
type EndedSession struct {
	Kind          SessionKind
	Name, Network string
	// Loopback is as in SessionRow.
	Loopback bool
	At       time.Time
	// Why says why it ended, and by whom.
	Why Text
}

func (*Sessions) template() string { return "sessions" }
func (*Sessions) title() Text      { return Msg("sessions.title") }

// Apps lists the apps that are connected by OAuth. A row's form: hidden client_id;
// decision end ends its sessions and forgets the consent.
type Apps struct {
	Frame
	Apps []App
}

// App is a connected app.
type App struct {
	Client      Client
	Sessions    int
	Since, Used time.Time
	Permissions []Permission
	// Scope is what was granted, as the client sees it.
	Scope string
}

func (*Apps) template() string { return "apps" }
func (*Apps) title() Text      { return Msg("apps.title") }

// Kinds returns every kind, for the filter.
func (*Sessions) Kinds() []SessionKind {
	return []SessionKind{OAuthSession, PasswordSession, AppPasswordSession, BrowserSession}
}
