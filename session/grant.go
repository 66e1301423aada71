package session

import (
	"strconv"
	"time"

	"nestbox/account"
)

// Grant is what only the session of an OAuth client has: the companion of its State.
type Grant struct {
	// Holder is the program that the session belongs to: as it proved itself when its code
	// was exchanged.
	Holder

	// Requested is what the client asked for, Granted what the owner allowed of it.
	// Effective is what that means now, with each permission set replaced by what it
	// expands to, and Sets names the versions of the sets.
	Requested string
	Granted   string
	Effective string
	Sets      string
	// EndsAt is when the session ends, however often it is refreshed.
	EndsAt time.Time
	// DeviceID is the number of the browser that the owner used; 0 if it kept no cookie.
	DeviceID int64
	// LastCallAt is when the client last called, within an hour; zero if it never did.
	LastCallAt time.Time
	// TheftAt is when a theft was last recorded.
	TheftAt time.Time
	// Version counts the changes of the Grant.
	Version int64
}

// The ways in which a client proves itself (RFC 7591 section 2).
const (
	AuthNone       = "none"
	AuthPrivateKey = "private_key_jwt"
)

// Holder is the program that presents a token or a code.
type Holder struct {
	ClientID string
	// AuthMethod is how it proved itself: AuthNone or AuthPrivateKey.
	AuthMethod string
	// KID, Alg and ClientJKT (the thumbprint) are those of the key that signed its assertion;
	// empty for a public client.
	KID       string
	Alg       string
	ClientJKT string
	// DPoPJKT is the thumbprint of the key that signed its proof.
	DPoPJKT string
}

// GrantPresentation is one refresh token shown to the token endpoint.
type GrantPresentation struct {
	Presentation
	Holder

	// Effective and Sets are those of the grant as they are now, if Granted is still what
	// was granted.
	Granted   string
	Effective string
	Sets      string
}

// rotateGrant is the contract's table for the session of an OAuth client: rotate, behind
// what only such a session has. Errors: ErrUnknown, ErrEnded. The right token without the
// right keys changes nothing for the program that has them, except under PolicyRevoke.
func rotateGrant(s State, p GrantPresentation, rules Rules) (Rotation, error) {
	g := s.Grant
	switch {
	case g == nil:
		return Rotation{}, ErrUnknown
	case !p.At.Before(g.EndsAt):
		return Rotation{}, ErrEnded
	case p.Holder != g.Holder:
		return suspectTheft(s, p, rules), nil
	}
	r := rotate(s, p.Presentation, rules)
	if r.Outcome == Stale || p.Granted != g.Granted || p.Effective == g.Effective && p.Sets == g.Sets {
		return r, nil
	}
	next := *g
	next.Effective, next.Sets = p.Effective, p.Sets
	next.Version++
	r.Next.Grant, r.Changed = &next, true
	return r, nil
}

// theftInterval bounds how often the theft of one session's tokens is recorded and told.
const theftInterval = 24 * time.Hour

// suspectTheft returns what follows when another program presents the right token.
// FlaggedAt changes too, so that of two who do so at once one is recorded.
func suspectTheft(s State, p GrantPresentation, rules Rules) Rotation {
	r := Rotation{Outcome: Theft, Next: s}
	e := evidence(account.EntrySuspectedTheft, s, p.Presentation)
	e.Reason = differs(s.Grant.Holder, p.Holder) + ", generation " + strconv.FormatInt(p.Generation, 10)
	if rules.Policy == PolicyRevoke {
		revoked := e
		revoked.Kind, revoked.Reason = account.EntrySessionRevoked, "refresh token presented by another program"
		r.Entries, r.Revoke, r.Changed = []account.Entry{e, revoked}, true, true
		return r
	}
	if at := s.Grant.TheftAt; !at.IsZero() && p.At.Sub(at).Abs() < theftInterval {
		return r
	}
	next := *s.Grant
	next.TheftAt = p.At
	next.Version++
	r.Next.Grant, r.Next.FlaggedAt = &next, p.At
	r.Entries, r.Changed = []account.Entry{e}, true
	return r
}

// differs says in which way a program is not the one that a session belongs to.
func differs(right, p Holder) string {
	switch {
	case p.ClientID != right.ClientID:
		return "another client"
	case p.AuthMethod != right.AuthMethod:
		return "another way of authentication"
	case p.DPoPJKT != right.DPoPJKT:
		return "another DPoP key"
	default:
		return "another client key"
	}
}
