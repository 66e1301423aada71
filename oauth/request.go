package oauth

import (
	"errors"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/oauth/scope"
	"nestbox/session"
)

// Lives of a request.
const (
	// unopenedLife is that of a request whose page nobody has opened.
	unopenedLife = 10 * time.Minute
	// openedLife is that of any other, from its push on: the browser SDK forgets its state
	// 10 minutes after the push, but people who were sent a code by mail need longer.
	openedLife = 30 * time.Minute
	// requestKept is how much longer a request is kept, for a good answer to those who come
	// late, and so that no challenge is redeemed twice.
	requestKept = 24 * time.Hour
	// codeLife is that of a code, from the decision on.
	codeLife = 5 * time.Minute
	// maxWaiting bounds the requests whose code is not redeemed, opened or not. Beyond it the
	// client that has most loses some, and no other one.
	maxWaiting = 20_000
)

// Decision is what a person answered to a request. Its text is stored.
type Decision string

// The decisions; the empty one is none yet.
const (
	Allow Decision = "allow"
	Deny  Decision = "deny"
)

// Request is one authorization request, from its push to its code.
type Request struct {
	// ID is what the request_uri names, and a code begins with.
	ID string
	// Holder is the client, as it proved itself when it pushed the request. DPoPJKT is empty
	// if it named no key: then the token request binds one.
	session.Holder

	Parameters Parameters

	Made time.Time
	// Opened is when somebody first opened its page.
	Opened  time.Time
	Expires time.Time

	// Decision is the person's, and what follows is of it. AccountID is 0 if nobody had
	// signed in who denied it.
	Decision  Decision
	DecidedAt time.Time
	AccountID int64
	DID       syntax.DID
	// Epoch is that of the account's credentials at the decision.
	Epoch int64
	// Granted is the part of Parameters.Scope that was allowed.
	Granted string
	// DeviceID is the number of the browser that answered; 0 if it kept no cookie. Network
	// and UserAgent are the browser's.
	DeviceID  int64
	Network   string
	UserAgent string

	// RedeemedAt is when its code was exchanged, SessionID the number of the session that
	// came of it.
	RedeemedAt time.Time
	SessionID  int64
}

// URI returns the request_uri that names the request.
func (q *Request) URI() string { return requestURIPrefix + q.ID }

// Parameters are what a client asked for, checked.
type Parameters struct {
	RedirectURI string `json:"redirect_uri"`
	// RedirectImplied means that the client named none: it has only one.
	RedirectImplied bool `json:"redirect_implied,omitempty"`
	// Scope is as it was asked for, without Dropped: the tokens that we do not know.
	Scope   string   `json:"scope"`
	Dropped []string `json:"dropped,omitempty"`
	// State is returned as it came; empty for none.
	State        string       `json:"state,omitempty"`
	Challenge    string       `json:"challenge"`
	ResponseMode ResponseMode `json:"response_mode"`
	Prompt       Prompt       `json:"prompt,omitzero"`
	// LoginHint is a DID, a handle or an e-mail address; empty for none.
	LoginHint string `json:"login_hint,omitempty"`
	// MaxAge is in seconds; nil for none.
	MaxAge    *int64 `json:"max_age,omitempty"`
	UILocales string `json:"ui_locales,omitempty"`
	Display   string `json:"display,omitempty"`
}

// ResponseMode is how the answer gets to the client.
type ResponseMode string

// The response modes.
const (
	ModeQuery    ResponseMode = "query"
	ModeFragment ResponseMode = "fragment"
	ModeFormPost ResponseMode = "form_post"
)

// Prompt is the parameter prompt: what the client wants its person to be asked.
type Prompt struct {
	None          bool `json:"none,omitempty"`
	Login         bool `json:"login,omitempty"`
	Consent       bool `json:"consent,omitempty"`
	SelectAccount bool `json:"select_account,omitempty"`
	Create        bool `json:"create,omitempty"`
}

// Consent is what an account's owner allowed a client before. It is remembered for
// clients that can prove who they are.
type Consent struct {
	AccountID int64
	ClientID  string
	// Scopes are empty if nothing was allowed that is still remembered.
	Scopes string
	// At is when the newest decision was made that Scopes hold to.
	At     time.Time
	UsedAt time.Time
}

// consentLife is how long a Consent is remembered after its last sign-on.
const consentLife = 90 * 24 * time.Hour

// scopes returns what is remembered still; of no consent, nothing.
func (k *Consent) scopes(now time.Time) scope.Set {
	if k == nil || now.Sub(k.UsedAt).Abs() >= consentLife {
		return scope.Set{}
	}
	return scope.Parse(k.Scopes)
}

// narrowed returns what is remembered once a request was allowed, nil if that is what was.
// What was unticked, and all that would allow some of it, is forgotten, whether or not the
// code is ever exchanged; what was allowed is remembered once it is: see remembered.
func (k *Consent) narrowed(q *Request, now time.Time) *Consent {
	granted := scope.Parse(q.Granted)
	unticked := granted.Missing(scope.Parse(q.Parameters.Scope))
	if len(unticked) == 0 {
		return nil
	}
	kept := k.scopes(now).Without(scope.Parse(strings.Join(unticked, " ")))
	return &Consent{AccountID: q.AccountID, ClientID: q.ClientID, Scopes: kept.String(), At: q.DecidedAt, UsedAt: now}
}

// remembered returns what is remembered once the code of an allowed request was exchanged.
// A decision that was made later stands.
func (k *Consent) remembered(q *Request, now time.Time) *Consent {
	next := Consent{AccountID: q.AccountID, ClientID: q.ClientID, At: q.DecidedAt, UsedAt: now}
	if k != nil && k.At.After(q.DecidedAt) && !k.At.After(now) {
		next.Scopes, next.At = k.Scopes, k.At
		return &next
	}
	next.Scopes = k.scopes(now).With(scope.Parse(q.Granted)).String()
	return &next
}

// Errors of a Store.
var (
	// ErrUnknown: no such request.
	ErrUnknown = errors.New("no such authorization request")
	// ErrChallengeUsed: another code was redeemed with the same challenge.
	ErrChallengeUsed = errors.New("code challenge was used before")
)
