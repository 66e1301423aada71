package takeover

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/session"
)

// RefreshToken is a row of the source's table refresh_token.
type RefreshToken struct {
	// ID is the token's jti.
	ID string
	// Expires is when the source refuses it: for one that was refreshed, two hours after that.
	// Zero if the source has none that can be read.
	Expires time.Time
	// Next is the jti of its successor, empty for none.
	Next string
	// AppPassword is the name of the app password that opened its session; OfApp tells an
	// empty name from none.
	AppPassword string
	OfApp       bool
}

// SessionSource is what the source keeps of sessions.
type SessionSource interface {
	// RefreshTokens calls yield once for each account that has any, with all of its tokens.
	RefreshTokens(ctx context.Context, yield func(did string, tokens []RefreshToken) error) error
}

// Holder is an account here that sessions are brought for.
type Holder struct {
	AccountID int64
	// AppPasswords are its app passwords, by name.
	AppPasswords map[string]HeldAppPassword
}

// HeldAppPassword is an app password here.
type HeldAppPassword struct {
	ID         int64
	Privileged bool
}

// Brought is a session as it is stored, with the tokens of the source that stand for its
// generations.
type Brought struct {
	// State has no ID yet.
	State  session.State
	Tokens []BroughtToken
}

// BroughtToken is a token of the source: see session.TokenHash.
type BroughtToken struct {
	Hash       [sha256.Size]byte
	Generation int64
}

// ErrNoAccount: no such account was taken over.
var ErrNoAccount = errors.New("no such account was taken over")

// SessionStore keeps the sessions that are brought. Nothing was served yet from the database
// that it is on.
type SessionStore interface {
	// BeginSessions removes every session and browser, and what came with them, and notes that
	// those of the source are brought as they are at a time. So a take-over may be repeated.
	BeginSessions(ctx context.Context, at time.Time) error
	// Holder returns an account: ErrNoAccount.
	Holder(ctx context.Context, did syntax.DID) (Holder, error)
	// PutSessions stores sessions.
	PutSessions(ctx context.Context, sessions []Brought) error
}

// SessionCounts counts what became of the source's sessions.
type SessionCounts struct {
	// Sessions were brought, by so many Tokens.
	Sessions int `json:"sessions"`
	Tokens   int `json:"tokens"`
	// SignedOut had ended: their last token is gone. Expired were unused for 90 days.
	SignedOut int `json:"signedOut"`
	Expired   int `json:"expired"`
	// NoAccount are sessions of accounts that were not taken over, NoAppPassword those of app
	// passwords that were revoked.
	NoAccount     int `json:"noAccount"`
	NoAppPassword int `json:"noAppPassword"`
	// Damaged are tokens that can belong to no session: a circle, or a link to the session of
	// another app password.
	Damaged int `json:"damaged"`
}

const (
	// sourceRefreshLife is how long a refresh token of the source is valid, and sourceGrace how
	// long after it was refreshed.
	sourceRefreshLife = 90 * 24 * time.Hour
	sourceGrace       = 2 * time.Hour
	// sourceWindow is the reuse window that brought sessions remember refreshes for.
	sourceWindow = 24 * time.Hour
	// sessionBatch is how many sessions are stored in one transaction.
	sessionBatch = 1000
)

// BringSessions brings the source's sessions, as they are now. The accounts were brought
// before.
func BringSessions(ctx context.Context, src SessionSource, dst SessionStore, now time.Time) (SessionCounts, error) {
	now = now.UTC().Truncate(time.Millisecond)
	var counts SessionCounts
	var batch []Brought
	flush := func() error {
		err := dst.PutSessions(ctx, batch)
		batch = batch[:0]
		return err
	}
	if err := dst.BeginSessions(ctx, now); err != nil {
		return counts, err
	}
	err := src.RefreshTokens(ctx, func(did string, tokens []RefreshToken) error {
		chains, found := chainsOf(tokens, now)
		holder, err := holderOf(ctx, dst, did)
		if errors.Is(err, ErrNoAccount) {
			counts.NoAccount += len(chains)
			return nil
		}
		if err != nil {
			return err
		}
		counts.add(found)
		for _, c := range chains {
			b, ok := c.session(holder, now)
			if !ok {
				counts.NoAppPassword++
				continue
			}
			counts.Sessions++
			counts.Tokens += len(b.Tokens)
			batch = append(batch, b)
		}
		if len(batch) < sessionBatch {
			return nil
		}
		return flush()
	})
	if err == nil && len(batch) > 0 {
		err = flush()
	}
	return counts, err
}

// LiveSessions calls yield with the hash of the last token of each session of the source that
// lived at a time: those that BringSessions brings, but for accounts that were left out.
// passwords are the source's app passwords.
func LiveSessions(
	ctx context.Context, src SessionSource, passwords []AppPassword, at time.Time, yield func(did syntax.DID, token [sha256.Size]byte) error,
) error {
	apps := map[AppPassword]bool{}
	for _, p := range passwords {
		apps[AppPassword{DID: p.DID, Name: p.Name}] = true
	}
	return src.RefreshTokens(ctx, func(text string, tokens []RefreshToken) error {
		did := syntax.DID(text)
		chains, _ := chainsOf(tokens, at.UTC().Truncate(time.Millisecond))
		for _, c := range chains {
			if c.head.OfApp && !apps[AppPassword{DID: did, Name: c.head.AppPassword}] {
				continue
			}
			if err := yield(did, session.TokenHash(c.head.ID)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *SessionCounts) add(o SessionCounts) {
	c.SignedOut += o.SignedOut
	c.Expired += o.Expired
	c.Damaged += o.Damaged
}

// holderOf returns the account of a DID as the source has it: ErrNoAccount.
func holderOf(ctx context.Context, dst interface {
	Holder(ctx context.Context, did syntax.DID) (Holder, error)
}, text string,
) (Holder, error) {
	did, err := syntax.ParseDID(text)
	if err != nil {
		return Holder{}, ErrNoAccount //nolint:nilerr // no account has such a DID
	}
	return dst.Holder(ctx, did)
}

// chain is a session of the source.
type chain struct {
	head *RefreshToken
	// before are the head's predecessors, by how far they are away from it: before[0] are those
	// that it succeeded. A sound source has one in each.
	before [][]*RefreshToken
}

// chainsOf finds the live sessions among an account's tokens, and counts what is none. A
// session lives if its last token has no successor and has not expired: signing out removes
// that token alone, and leaves those before it. It is pure.
func chainsOf(tokens []RefreshToken, now time.Time) (chains []chain, counts SessionCounts) {
	byID := make(map[string]*RefreshToken, len(tokens))
	before := map[string][]*RefreshToken{}
	for i := range tokens {
		byID[tokens[i].ID] = &tokens[i]
	}
	for i := range tokens {
		if next := tokens[i].Next; next != "" {
			before[next] = append(before[next], &tokens[i])
		}
	}
	placed := 0 // tokens that lead to an end, whatever it is
	for i := range tokens {
		last := &tokens[i]
		_, leads := byID[last.Next]
		switch {
		case last.Next != "" && leads:
			continue
		case last.Next != "":
			counts.SignedOut++
		case !now.Before(last.Expires):
			counts.Expired++
		}
		c := chain{head: last}
		for at := []*RefreshToken{last}; len(at) > 0; {
			placed += len(at)
			var earlier []*RefreshToken
			for _, t := range at {
				earlier = append(earlier, before[t.ID]...)
			}
			if at = earlier; len(at) > 0 {
				c.before = append(c.before, at)
			}
		}
		if last.Next == "" && now.Before(last.Expires) {
			counts.Damaged += c.cut()
			chains = append(chains, c)
		}
	}
	counts.Damaged += len(tokens) - placed // each token has one successor, so the rest are circles
	return chains, counts
}

// cut leaves out what leads to the session of another app password, and returns how many
// tokens that were: what such a token could do, the session's must not.
func (c *chain) cut() (damaged int) {
	kept := map[string]bool{c.head.ID: true}
	for i := range c.before {
		c.before[i] = slices.DeleteFunc(c.before[i], func(t *RefreshToken) bool {
			same := kept[t.Next] && t.OfApp == c.head.OfApp && t.AppPassword == c.head.AppPassword
			if !same {
				damaged++
			}
			kept[t.ID] = same
			return !same
		})
	}
	c.before = slices.DeleteFunc(c.before, func(at []*RefreshToken) bool { return len(at) == 0 })
	return damaged
}

// session returns the session of a chain. It reports false if its app password is gone. It
// is pure but for the session's nonce.
func (c *chain) session(h Holder, now time.Time) (Brought, bool) {
	nonce := make([]byte, 9)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	st := session.State{
		Nonce: base64.RawURLEncoding.EncodeToString(nonce), AccountID: h.AccountID, Scope: auth.ScopeAccess,
	}
	if c.head.OfApp {
		app, ok := h.AppPasswords[c.head.AppPassword]
		if !ok {
			return Brought{}, false
		}
		st.AppPasswordID, st.AppPassword, st.Scope = app.ID, c.head.AppPassword, auth.ScopeAppPass
		if app.Privileged {
			st.Scope = auth.ScopeAppPassPrivileged
		}
	}
	made := earlier(c.head.Expires.Add(-sourceRefreshLife), now)
	moves := c.moves(made, now)
	if len(moves) > 0 {
		made = moves[0]
	}
	st.CreatedAt, st.RotatedAt = made, made
	st = session.Replayed(st, moves, session.Rules{ReuseWindow: sourceWindow})
	st.Expires = c.head.Expires

	b := Brought{State: st, Tokens: []BroughtToken{{session.TokenHash(c.head.ID), st.Head}}}
	for i, at := range c.before {
		for _, t := range at {
			b.Tokens = append(b.Tokens, BroughtToken{session.TokenHash(t.ID), st.Head - 1 - int64(i)})
		}
	}
	slices.SortFunc(b.Tokens, func(a, b BroughtToken) int { return cmp.Compare(a.Generation, b.Generation) })
	return b, true
}

// moves returns when the head moved to each generation from 1 on: when its predecessor was
// refreshed, which is two hours before that one expires, or unknown where the source's time
// cannot be read. They are in order, whatever the source says, and none is later than now.
func (c *chain) moves(unknown, now time.Time) []time.Time {
	moves := make([]time.Time, len(c.before))
	for i, at := range slices.Backward(c.before) {
		var moved time.Time
		for _, t := range at {
			if !t.Expires.IsZero() {
				moved = later(moved, t.Expires.Add(-sourceGrace))
			}
		}
		if moved.IsZero() {
			moved = unknown
		}
		n := len(moves) - 1 - i
		if n > 0 {
			moved = later(moved, moves[n-1])
		}
		moves[n] = earlier(moved, now)
	}
	return moves
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
