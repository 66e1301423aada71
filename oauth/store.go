package oauth

import (
	"context"
	"time"

	"nestbox/account"
	"nestbox/session"
)

// Store keeps authorization requests and consents. Every method is one transaction; what it
// returned without error is durable. A server reads what it wrote; with several on one
// database, a request that one got is found by the others at once.
type Store interface {
	// Push keeps a new request. Beyond the given number of requests without a redeemed code
	// the client that has most of them loses those that expire first.
	Push(ctx context.Context, r Request, waiting int) error
	// Request returns a request by its ID: ErrUnknown.
	Request(ctx context.Context, id string) (*Request, error)
	// Change replaces what a person changes of a request, Opened, Expires and from Decision
	// to UserAgent, by what change returns for it, and returns the request as it is then. No
	// other change comes between. change is pure and may be called several times; its error
	// is returned as it is and changes nothing. ErrUnknown: no such request, or its account
	// is gone.
	Change(ctx context.Context, id string, change func(Request) (Request, error)) (*Request, error)
	// Decide is Change for the decision of an account's owner. decide also gets what the
	// owner allowed the request's client before, nil for nothing; what it returns of that is
	// remembered in its place, nil leaves it.
	Decide(ctx context.Context, id string, accountID int64, decide Decider) (*Request, error)
	// Redeem makes the session that redeem returns for a request, notes it there, and
	// remembers the consent, all or nothing; no other change comes between. redeem is as
	// change is, and gets what the request's account allowed its client before, nil for
	// nothing. ErrUnknown; ErrChallengeUsed; session.ErrUnknown as session.Store.Create.
	Redeem(ctx context.Context, id string, redeem func(Request, *Consent) (Redemption, error)) (*session.State, error)
	// Consent returns what an account's owner allowed a client before, nil if nothing.
	Consent(ctx context.Context, accountID int64, clientID string) (*Consent, error)
	// Consents returns all of an account, the latest used first. A new password forgets
	// them: see account.Store.SetPassword.
	Consents(ctx context.Context, accountID int64) ([]Consent, error)
	// Forget forgets a consent, and what the owner has decided for the client whose code was
	// not exchanged: otherwise the code would bring both back. If there is none, there is
	// nothing to do.
	Forget(ctx context.Context, accountID int64, clientID string) error
	// Narrow takes a part back of what an account's owner allowed a client, all or nothing:
	// of its sessions, of what is remembered, and whole what Forget forgets of decisions.
	// It reports whether a session or a consent has changed.
	Narrow(ctx context.Context, accountID int64, clientID string, n Narrowing) (changed bool, err error)
	// Collect removes requests that expired before a time, and consents that were last used
	// before another: a bounded number, which it returns.
	Collect(ctx context.Context, requests, consents time.Time) (removed int, err error)
}

// Narrowing is a part that is taken back of what was allowed. Its functions are pure and may
// be called several times.
type Narrowing struct {
	// Grant returns the grant of a session as it becomes. One that changes has a higher
	// Version.
	Grant func(session.Grant) session.Grant
	// Scopes returns what stays of a consent; empty forgets it.
	Scopes func(string) string
	// Entry is recorded if anything changed.
	Entry account.Entry
}

// Decider makes a decision: see Store.Decide.
type Decider func(Request, *Consent) (Request, *Consent, error)

// Redemption is what a redeemed code leads to.
type Redemption struct {
	At      time.Time
	Session session.New
	// Challenge is the hash of the request's code challenge.
	Challenge []byte
	// Consent is remembered; nil leaves what is remembered as it is.
	Consent *Consent
}
