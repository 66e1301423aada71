package takeover

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/session"
)

// The way back: a new data directory for the server that was taken over. It is a copy of the
// source, with what moved here since and has a place there.

// BackAccount is an account here that goes back.
type BackAccount struct {
	DID              string
	Handle, Email    string
	EmailConfirmedAt time.Time
	DeactivatedAt    time.Time
	// Takedown is its case, or its time as text; empty for none.
	Takedown string
	// Rev is that of the latest commit, empty without a repository.
	Rev string
	// AppPasswords are the names of those that it has.
	AppPasswords []string
	// PasswordChanged: it has another password since the take-over. Its old one counts again.
	PasswordChanged bool
}

// BackSession is a session here that goes back, of no OAuth client.
type BackSession struct {
	DID         string
	AppPassword string
	OfApp       bool
	// Head is the newest generation; HeadID and BeforeID are the jti of our token of it and of
	// the one before, which is empty if there is none.
	Head             int64
	HeadID, BeforeID string
	Expires          time.Time
	// Tokens are those of the source that stand for generations of it.
	Tokens []BroughtToken
}

// BackStore is what is kept here of what goes back.
type BackStore interface {
	// TakenOver returns when the sessions were taken over, zero if they never were.
	TakenOver(ctx context.Context) (time.Time, error)
	BackAccounts(ctx context.Context, since time.Time, yield func(BackAccount) error) error
	BackSessions(ctx context.Context, yield func(BackSession) error) error
	// UntouchedGrants returns the tokens of the source that stand for the newest generation of
	// an OAuth client's session, and nothing else does: the client never refreshed here.
	UntouchedGrants(ctx context.Context) (map[[sha256.Size]byte]bool, error)
	// LastNumber returns the last number that the event log gave.
	LastNumber(ctx context.Context) (int64, error)
}

// BackToken is a row of the new table refresh_token.
type BackToken struct {
	RefreshToken

	DID string
}

// Back is what changes in the copy of the source.
type Back struct {
	// Accounts are those that there are; all others of the source are gone.
	Accounts map[string]BackAccount
	Tokens   []BackToken
	// Grants are the tokens of OAuth clients that stay.
	Grants map[[sha256.Size]byte]bool
	// LastNumber is that of the event log.
	LastNumber int64
}

// Keeps reports whether an OAuth client's grant stays, by the jti of its access token and by its
// refresh token.
func (b *Back) Keeps(access, refresh string) bool {
	return b.Grants[session.TokenHash(access)] || b.Grants[session.TokenHash(refresh)]
}

// BackTarget makes the new data directory.
type BackTarget interface {
	// RefreshTokens are those of the source.
	SessionSource
	// Revs returns the revision of each account's repository in the source.
	Revs(ctx context.Context) (map[string]string, error)
	// Write makes the directory, which must not exist or be empty. It returns how the old server's
	// settings have to be.
	Write(ctx context.Context, b Back) (settings []string, err error)
	// Create makes a file in it for the repository of an account.
	Create(did string) (w io.WriteCloser, path string, err error)
}

// BackReport lists what the new directory has, and what it lacks.
type BackReport struct {
	Accounts int `json:"accounts"`
	Sessions int `json:"sessions"`
	Tokens   int `json:"tokens"`
	Grants   int `json:"grants"`
	// Moved are the files of repositories that changed here, to be imported.
	Moved []string `json:"moved"`
	// New were made here, and have no place there. Gone were deleted here.
	New  []string `json:"new"`
	Gone []string `json:"gone"`
	// PasswordChanged have their old password again.
	PasswordChanged []string `json:"passwordChanged"`
	// Settings are those of the old server for the new directory.
	Settings []string `json:"settings"`
}

// ErrNotTakenOver: nothing was taken over into this database.
var ErrNotTakenOver = errors.New("nothing was taken over here, so there is no way back")

// GoBack makes the directory. export writes the repository of an account as a CAR file. No
// server runs on either.
func GoBack(
	ctx context.Context, src BackStore, dst BackTarget, now time.Time,
	export func(ctx context.Context, did syntax.DID, w io.Writer) error,
) (r BackReport, err error) {
	since, err := src.TakenOver(ctx)
	if err != nil {
		return r, err
	}
	if since.IsZero() {
		return r, ErrNotTakenOver
	}
	revs, err := dst.Revs(ctx)
	if err != nil {
		return r, err
	}
	b := Back{Accounts: map[string]BackAccount{}}
	err = src.BackAccounts(ctx, since, func(a BackAccount) error {
		rev, there := revs[a.DID]
		if !there {
			r.New = append(r.New, a.DID)
			return nil
		}
		b.Accounts[a.DID] = a
		if a.Rev != "" && a.Rev != rev {
			r.Moved = append(r.Moved, a.DID)
		}
		if a.PasswordChanged {
			r.PasswordChanged = append(r.PasswordChanged, a.DID)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	for did := range revs {
		if _, there := b.Accounts[did]; !there {
			r.Gone = append(r.Gone, did)
		}
	}
	slices.Sort(r.Gone)
	r.Accounts = len(b.Accounts)
	if err := backSessions(ctx, src, dst, now, &b, &r); err != nil {
		return r, err
	}
	if b.LastNumber, err = src.LastNumber(ctx); err != nil {
		return r, err
	}
	if r.Settings, err = dst.Write(ctx, b); err != nil {
		return r, err
	}
	for i, did := range r.Moved {
		if r.Moved[i], err = exportTo(ctx, dst, did, export); err != nil {
			return r, fmt.Errorf("export the repository of %s: %w", did, err)
		}
	}
	return r, nil
}

func exportTo(
	ctx context.Context, dst BackTarget, did string, export func(ctx context.Context, did syntax.DID, w io.Writer) error,
) (path string, err error) {
	w, path, err := dst.Create(did)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	return path, export(ctx, syntax.DID(did), w)
}

// backSessions collects the sessions and grants that go back.
func backSessions(ctx context.Context, src BackStore, dst BackTarget, now time.Time, b *Back, r *BackReport) (err error) {
	old := map[[sha256.Size]byte]RefreshToken{}
	err = dst.RefreshTokens(ctx, func(_ string, tokens []RefreshToken) error {
		for _, t := range tokens {
			old[session.TokenHash(t.ID)] = t
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = src.BackSessions(ctx, func(s BackSession) error {
		if _, there := b.Accounts[s.DID]; !there {
			return nil
		}
		r.Sessions++
		for _, t := range s.back(old, now) {
			b.Tokens = append(b.Tokens, BackToken{t, s.DID})
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.Tokens = len(b.Tokens)
	b.Grants, err = src.UntouchedGrants(ctx)
	r.Grants = len(b.Grants) / 2 // by its access token and by its refresh token
	return err
}

// back returns the rows of a session: the head, and the token before it, whose answer may have
// been lost; ours, and those of the source that stand for the same. Older ones are not needed,
// and nothing that ended here has a row. It is pure.
func (s *BackSession) back(old map[[sha256.Size]byte]RefreshToken, now time.Time) []RefreshToken {
	if !now.Before(s.Expires) {
		return nil
	}
	row := func(id, next string) RefreshToken {
		return RefreshToken{ID: id, Expires: s.Expires, Next: next, AppPassword: s.AppPassword, OfApp: s.OfApp}
	}
	rows := []RefreshToken{row(s.HeadID, "")}
	head := s.HeadID
	for _, t := range s.Tokens {
		if was, there := old[t.Hash]; there && t.Generation == s.Head {
			rows = append(rows, row(was.ID, ""))
			head = was.ID // what those before it led to there
		}
	}
	if s.BeforeID != "" {
		rows = append(rows, row(s.BeforeID, head))
	}
	for _, t := range s.Tokens {
		if was, there := old[t.Hash]; there && t.Generation == s.Head-1 {
			rows = append(rows, row(was.ID, head))
		}
	}
	return rows
}
