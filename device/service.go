package device

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"nestbox/account"
	"nestbox/internal/pause"
	"nestbox/mail"
	"nestbox/request"
)

// Service is what pages act through. Its fields are set once.
type Service struct {
	Store Store
	Now   func() time.Time
	// Doubt returns an error while Now cannot be trusted: then nothing is collected. If it
	// is nil, Now is always trusted.
	Doubt func() error
	Log   *slog.Logger
}

// Visit is a request's browser, as far as its cookie proves it.
type Visit struct {
	// Browser is the browser, with the sign-ins that the cookie proves, live or not. Its
	// ID is 0 if the cookie is missing or none of ours.
	Browser
	// Cookie, if it is not empty, is the value that the answer must set.
	Cookie string
	// At is when it was.
	At time.Time

	presented string
}

// Known reports whether the cookie is of a browser that we know.
func (v *Visit) Known() bool { return v.ID != 0 }

// Live returns the accounts that are signed in, latest used first.
func (v *Visit) Live() []SignIn {
	return v.without(func(s *SignIn) bool { return !s.Live(v.At) })
}

// Trusts reports whether the second factor of an account is not asked for on this
// browser.
func (v *Visit) Trusts(accountID int64) bool {
	s, ok := v.SignIn(accountID)
	return ok && s.Trusted(v.At)
}

// now returns the time in the precision that is stored.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// Visit returns the browser of a cookie's value, and notes that it, and the account (0:
// none) whose page is looked at, were used. A cookie that is none of ours, or of a browser
// that is forgotten, is not an error. The answer must carry Visit.Cookie.
func (s *Service) Visit(ctx context.Context, cookie string, accountID int64) (Visit, error) {
	v := Visit{At: s.now(), presented: cookie}
	client := request.ClientOf(ctx)
	err := s.change(ctx, &v, false, func(b *Browser) (Change, error) {
		return Change{Changed: b.used(accountID, v.At, client.Network().String(), client.UserAgent)}, nil
	})
	if errors.Is(err, ErrUnknown) {
		return Visit{At: v.At, presented: cookie}, nil
	}
	return v, err
}

// change turns the secret of v's cookie and applies decide to its browser, in one
// transaction. decide changes the browser that it gets. ErrUnknown: the cookie is of no
// browser.
func (s *Service) change(ctx context.Context, v *Visit, earns bool, decide func(*Browser) (Change, error)) error {
	id, sent, ok := parseCookie(v.presented)
	if !ok {
		return ErrUnknown
	}
	in := arrival{secret: sent, earns: earns, salt: random(), at: v.At}
	var t turned
	_, err := s.Store.Change(ctx, id, func(b Browser) (Change, error) {
		if t = turn(b, in); !t.known {
			return Change{}, ErrUnknown
		}
		c, err := decide(&t.next)
		c.Next, c.Changed = t.next, c.Changed || t.changed
		return c, err
	})
	if err != nil {
		return err
	}
	v.Browser, v.Cookie = t.shown(), ""
	if earns {
		v.Browser = t.next // what it just proved, it may see
	}
	if t.send != nil {
		v.Cookie = formatCookie(id, *t.send)
	}
	return nil
}

// Person is somebody whom package signin has proven, for SignIn and StepUp.
type Person struct {
	Account *account.Account
	// Epoch is that of the credentials that were checked.
	Epoch int64
	// Factors are what proved them, Level what that is worth: see StepUp.
	Factors string
	Level   int
	// Since is when the oldest of the proofs was given; zero for just now.
	Since time.Time
	// Code, if set, was asked for besides the password; it is used up.
	Code *account.Proof
	// Entry is the sign-in, as the trail records it, and Mails are queued with it.
	Entry account.Entry
	Mails []mail.Message
	// Remember: the sign-in lasts RememberLife unused, not TabLife. Trust: the browser
	// needs no second factor for TrustLife.
	Remember, Trust bool
}

// proof returns what was proven: it counts from its oldest part on.
func (p *Person) proof(now time.Time) StepUp {
	if !p.Since.IsZero() {
		now = p.Since
	}
	return StepUp{At: now, Level: p.Level, Factors: p.Factors}
}

// SignIn signs a person in on the browser of a visit, which becomes known if it was not.
// The answer must carry Visit.Cookie. ErrChanged, account.ErrCodeInvalid: see Store.SignIn.
func (s *Service) SignIn(ctx context.Context, v Visit, p Person) (Visit, error) {
	now, client := s.now(), request.ClientOf(ctx)
	id, sent, _ := parseCookie(v.presented)
	in := arrival{secret: sent, earns: true, salt: random(), at: now}
	fresh := secret(random())
	n := New{
		Browser: id, Secret: Secret{Hash: fresh.hash()}, Epoch: p.Epoch, Code: p.Code, Entry: p.Entry, Mails: p.Mails,
		Network: client.Network().String(), UserAgent: client.UserAgent,
		SignIn: SignIn{
			AccountID: p.Account.ID, DID: p.Account.DID, At: now, UsedAt: now, Factors: p.Factors, Remember: p.Remember,
			StepUp: p.proof(now),
		},
	}
	if p.Trust {
		n.SignIn.TrustedUntil = now.Add(TrustLife)
	}
	send := fresh
	n.Turn = func(b Browser) (Browser, SignIn, bool) {
		t := turn(b, in)
		if !t.known {
			send = fresh
			return Browser{}, SignIn{}, false
		}
		send = *t.send // what is earned is always sent
		return t.next, n.SignIn.replacing(&t), true
	}
	b, err := s.Store.SignIn(ctx, n)
	if err != nil {
		return Visit{}, err
	}
	cookie := formatCookie(b.ID, send)
	return Visit{Browser: b, Cookie: cookie, At: now, presented: cookie}, nil
}

// replacing returns a sign-in as it is stored on a browser: trust in the browser that came
// for the account goes on.
func (s SignIn) replacing(t *turned) SignIn {
	shown := t.shown()
	s.Generation = t.next.Generation
	if was, ok := shown.SignIn(s.AccountID); ok && s.TrustedUntil.IsZero() {
		s.TrustedUntil = was.TrustedUntil
	}
	return s
}

// StepUp notes that a person who is signed in on the browser of a visit has proven
// themselves again. The answer must carry Visit.Cookie. ErrUnknown: they are not signed in
// there any more; account.ErrCodeInvalid: Person.Code was used up.
func (s *Service) StepUp(ctx context.Context, v Visit, p Person) (Visit, error) {
	v.At = s.now()
	err := s.change(ctx, &v, true, func(b *Browser) (Change, error) {
		b.SignIns = slices.Clone(b.SignIns)
		in, ok := b.SignIn(p.Account.ID)
		if !ok || !in.Live(v.At) {
			return Change{}, ErrUnknown
		}
		in.UsedAt, in.StepUp = v.At, p.proof(v.At)
		if p.Trust {
			in.TrustedUntil = v.At.Add(TrustLife)
		}
		return Change{Changed: true, Code: p.Code}, nil
	})
	return v, err
}

// SignOut signs an account out on the browser of a visit, or all of them (0). One that is
// not signed in is not an error.
func (s *Service) SignOut(ctx context.Context, v Visit, accountID int64) (Visit, error) {
	v.At = s.now()
	err := s.change(ctx, &v, false, func(b *Browser) (Change, error) {
		return s.drop(ctx, b, account.ActorOwner, account.EntrySignOut, func(in *SignIn) bool {
			return accountID == 0 || in.AccountID == accountID
		}), nil
	})
	if errors.Is(err, ErrUnknown) {
		return v, nil
	}
	return v, err
}

// drop ends the sign-ins that which selects, and records each.
func (s *Service) drop(ctx context.Context, b *Browser, by account.Actor, kind account.EntryKind, which func(*SignIn) bool) Change {
	var c Change
	kept := b.without(which)
	for i := range b.SignIns {
		if in := &b.SignIns[i]; which(in) {
			e := account.NewEntry(ctx, s.now(), kind, by)
			e.Browser, e.Reason = b.ID, "browser: "+request.ClientName(b.UserAgent)
			c.Entries = append(c.Entries, Noted{in.AccountID, e})
		}
	}
	b.SignIns, c.Changed = kept, len(kept) < len(b.SignIns)
	return c
}

// List returns the browsers on which an account is signed in, latest used first, without
// those whose sign-in is over.
func (s *Service) List(ctx context.Context, accountID int64) ([]Browser, error) {
	all, err := s.Store.List(ctx, accountID)
	now := s.now()
	return slices.DeleteFunc(all, func(b Browser) bool {
		in, ok := b.SignIn(accountID)
		return !ok || !in.Live(now) && !in.Trusted(now)
	}), err
}

// End signs an account out on one of its browsers, by its number. One on which it is not
// signed in is ErrUnknown.
func (s *Service) End(ctx context.Context, accountID, browser int64, by account.Actor) error {
	return s.of(ctx, accountID, browser, func(b *Browser) Change {
		return s.drop(ctx, b, by, account.EntrySessionRevoked, func(in *SignIn) bool { return in.AccountID == accountID })
	})
}

// StopTrust makes one of an account's browsers ask for the second factor again.
func (s *Service) StopTrust(ctx context.Context, accountID, browser int64) error {
	return s.of(ctx, accountID, browser, func(b *Browser) Change {
		in, _ := b.SignIn(accountID)
		in.TrustedUntil = time.Time{}
		return Change{Changed: true}
	})
}

// of changes one of an account's browsers.
func (s *Service) of(ctx context.Context, accountID, browser int64, fn func(*Browser) Change) error {
	_, err := s.Store.Change(ctx, browser, func(b Browser) (Change, error) {
		b.SignIns = slices.Clone(b.SignIns)
		if _, ok := b.SignIn(accountID); !ok {
			return Change{}, ErrUnknown
		}
		c := fn(&b)
		c.Next = b
		return c, nil
	})
	return err
}

// EndAll ends every session of an account, and its sign-ins on all browsers. It returns how
// many sessions and sign-ins there were.
func (s *Service) EndAll(ctx context.Context, accountID int64, by account.Actor) (sessions, signIns int, err error) {
	return s.Store.EndAll(ctx, accountID, 0, account.NewEntry(ctx, s.now(), account.EntryAllSignedOut, by))
}

// EndOthers is EndAll, but for the browser of a visit. That gets a new secret, so that a copy
// of its cookie is out once the answer, which must carry Visit.Cookie, has come. ErrUnknown:
// the account is not signed in there any more.
func (s *Service) EndOthers(ctx context.Context, v Visit, accountID int64, by account.Actor) (Visit, error) {
	v.At = s.now()
	err := s.change(ctx, &v, true, func(b *Browser) (Change, error) {
		if in, ok := b.SignIn(accountID); !ok || !in.Live(v.At) {
			return Change{}, ErrUnknown
		}
		return Change{}, nil
	})
	if err == nil {
		_, _, err = s.Store.EndAll(ctx, accountID, v.ID, account.NewEntry(ctx, v.At, account.EntryAllSignedOut, by))
	}
	return v, err
}

// Collection of what has ended by itself.
const (
	collectEvery = time.Hour
	collectPause = 50 * time.Millisecond
)

// Collect removes what has ended by itself in the background until ctx ends, once an hour,
// in small steps.
func (s *Service) Collect(ctx context.Context) {
	for pause.For(ctx, collectEvery) {
		for after := int64(0); ; {
			if s.Doubt != nil && s.Doubt() != nil {
				break
			}
			now := s.now()
			next, removed, err := s.Store.Collect(ctx, after, now)
			if err == nil && next == 0 {
				err = s.forgetInherited(ctx, now)
			}
			if err != nil && ctx.Err() == nil {
				s.Log.LogAttrs(ctx, slog.LevelError, "collecting browsers failed", slog.String("cause", err.Error()))
			}
			if removed > 0 {
				s.Log.LogAttrs(ctx, slog.LevelInfo, "browsers without accounts removed", slog.Int("removed", removed))
			}
			if err != nil || next == 0 || !pause.For(ctx, collectPause) {
				break
			}
			after = next
		}
	}
}
