package takeover

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/device"
	"nestbox/oauth/scope"
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
	// AppPasswords are those that it has, without their hashes: one that was used here has
	// another hash than in the source.
	AppPasswords []AppPassword
	// Takedowns are those of its records and blobs, by collection/rkey or CID: the case, or the
	// time as text.
	Takedowns map[string]string
	// Preferences is a JSON array, nil for none.
	Preferences []byte
	// PasswordChanged: it has another password since the take-over. Its old one counts again.
	PasswordChanged bool
}

// HasAppPassword reports whether it still has an app password of the source. Another one of the
// same name was made at another time.
func (a *BackAccount) HasAppPassword(of AppPassword) bool {
	return slices.ContainsFunc(a.AppPasswords, func(p AppPassword) bool {
		return p.Name == of.Name && p.Privileged == of.Privileged && p.CreatedAt.UnixMilli() == of.CreatedAt.UnixMilli()
	})
}

// BackPreference is a row of the table account_pref.
type BackPreference struct{ Name, Value string }

// PreferenceRows returns its preferences as rows.
func (a *BackAccount) PreferenceRows() (rows []BackPreference, err error) {
	if a.Preferences == nil {
		return nil, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(a.Preferences, &list); err != nil {
		return nil, fmt.Errorf("preferences of %s: %w", a.DID, err)
	}
	for _, value := range list {
		var p struct {
			Type string `json:"$type"`
		}
		if err := json.Unmarshal(value, &p); err != nil {
			return nil, fmt.Errorf("preferences of %s: %w", a.DID, err)
		}
		rows = append(rows, BackPreference{p.Type, string(value)})
	}
	return rows, nil
}

// BackSignIn is an account that is signed in on a browser of the source, by the hash of the
// browser's secret.
type BackSignIn struct {
	Browser [device.HashSize]byte
	DID     string
}

// BackConsent names what an owner need not allow again.
type BackConsent struct{ DID, ClientID string }

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
	// SignedIn returns who is signed in on which browser of the source.
	SignedIn(ctx context.Context, now time.Time) (map[BackSignIn]bool, error)
	// Consents returns the scopes that owners need not allow again.
	Consents(ctx context.Context) (map[BackConsent]string, error)
	// Invites returns all invite codes and their uses.
	Invites(ctx context.Context) ([]Invite, []InviteUse, error)
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
	// SignedIn are the sign-ins on browsers that stay, Consents the scopes of consents.
	SignedIn map[BackSignIn]bool
	Consents map[BackConsent]string
	// Invites and InviteUses are all of here.
	Invites    []Invite
	InviteUses []InviteUse
	// LastNumber is that of the event log.
	LastNumber int64
}

// Keeps reports whether an OAuth client's grant stays, by the jti of its access token and by its
// refresh token.
func (b *Back) Keeps(access, refresh string) bool {
	return b.Grants[session.TokenHash(access)] || b.Grants[session.TokenHash(refresh)]
}

// KeepsSignIn reports whether an account stays signed in on a browser, by the browser's cookies.
func (b *Back) KeepsSignIn(id, ses, did string) bool {
	hash, ok := device.InheritedHash(id, ses)
	return ok && b.SignedIn[BackSignIn{hash, did}]
}

// KeepsConsent reports whether an owner allows here, too, all that a row of the source does.
func (b *Back) KeepsConsent(did string, a Allowed) bool {
	c, ok := a.consent(Holder{}, time.Time{})
	here, there := b.Consents[BackConsent{did, a.ClientID}]
	return ok && there && len(scope.Parse(here).Missing(scope.Parse(c.Scopes))) == 0
}

// BackTarget makes the new data directory.
type BackTarget interface {
	// RefreshTokens are those of the source.
	SessionSource
	// Revs returns the revision of each account's repository in the source.
	Revs(ctx context.Context) (map[string]string, error)
	// AppPasswords are those of the source.
	AppPasswords() ([]AppPassword, error)
	// Write makes the directory, which must not exist, be empty, or be one that was not
	// finished. It returns how the old server's settings have to be.
	Write(ctx context.Context, b Back) (settings []string, err error)
	// Create makes a file in it for the repository of an account.
	Create(did string) (w io.WriteCloser, path string, err error)
	// Finish marks the directory as complete.
	Finish() error
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
	// AppPasswords were made here, and are not known there: account and name.
	AppPasswords []string `json:"appPasswords"`
	// Settings are those of the old server for the new directory, Remove those of ours with which it fails.
	Settings []string `json:"settings"`
	Remove   []string `json:"remove,omitempty"`
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
	lost, err := lostAppPasswords(dst, &b, &r)
	if err != nil {
		return r, err
	}
	if err := backSessions(ctx, src, dst, now, lost, &b, &r); err != nil {
		return r, err
	}
	if b.SignedIn, err = src.SignedIn(ctx, now); err != nil {
		return r, err
	}
	if b.Consents, err = src.Consents(ctx); err != nil {
		return r, err
	}
	if b.Invites, b.InviteUses, err = src.Invites(ctx); err != nil {
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
	return r, dst.Finish()
}

// appPasswordName names an app password: its account and its name.
type appPasswordName struct{ did, name string }

// lostAppPasswords returns the app passwords that were made here, and reports them.
func lostAppPasswords(dst BackTarget, b *Back, r *BackReport) (map[appPasswordName]bool, error) {
	old, err := dst.AppPasswords()
	if err != nil {
		return nil, err
	}
	kept := map[appPasswordName]bool{}
	for _, p := range old {
		if a, there := b.Accounts[p.DID.String()]; there && a.HasAppPassword(p) {
			kept[appPasswordName{a.DID, p.Name}] = true
		}
	}
	lost := map[appPasswordName]bool{}
	for did, a := range b.Accounts {
		for _, p := range a.AppPasswords {
			if name := (appPasswordName{did, p.Name}); !kept[name] {
				lost[name] = true
				r.AppPasswords = append(r.AppPasswords, did+" "+p.Name)
			}
		}
	}
	slices.Sort(r.AppPasswords)
	return lost, nil
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

// backSessions collects the sessions and grants that go back. Those of lost app passwords do
// not: nobody could end them there.
func backSessions(
	ctx context.Context, src BackStore, dst BackTarget, now time.Time, lost map[appPasswordName]bool, b *Back, r *BackReport,
) (err error) {
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
		if _, there := b.Accounts[s.DID]; !there || s.OfApp && lost[appPasswordName{s.DID, s.AppPassword}] {
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
