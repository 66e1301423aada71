package signin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"nestbox/account"
	"nestbox/mail"
)

// The purposes of ceremonies, which keep an answer to one page from another.
const (
	askSignIn = "sign in"
	askMake   = "make"
)

// AskPasskey asks for any passkey of this server, in the flow of a page: to sign in, as a
// second factor, or to step up. conditional: beside the fields of a form, where the
// browser offers passkeys as it does passwords.
func (s *Service) AskPasskey(flow string, conditional bool) (Question, error) {
	verified := webauthn.WithUserVerification(protocol.VerificationRequired)
	mediation := protocol.MediationDefault
	if conditional {
		mediation = protocol.MediationConditional
	}
	options, session, err := s.WebAuthn.web.BeginDiscoverableMediatedLogin(mediation, verified)
	if err != nil {
		return Question{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	return s.WebAuthn.question(options, ceremony{Purpose: askSignIn, Flow: flow, Session: *session})
}

// PasskeyAttempt is an answer to AskPasskey.
type PasskeyAttempt struct {
	// Sealed is that of the Question, Answer the credential as JSON.
	Sealed, Answer string
	Flow           string
	// DID, if set, is whose passkey it must be.
	DID            syntax.DID
	AllowTakenDown bool
}

// ProvePasskey proves the owner of a passkey, which counts as both factors. Errors:
// *WrongFactor, *Paused, ErrCeremony, account.ErrTakenDown, request.ErrTooMany. The same
// answer in the same flow proves again for account.RepeatFor.
func (s *Service) ProvePasskey(ctx context.Context, in PasskeyAttempt) (Proven, error) {
	c, err := s.WebAuthn.open(in.Sealed, askSignIn, in.Flow)
	if err != nil {
		return Proven{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(in.Answer))
	if err != nil {
		return Proven{}, &WrongFactor{Method: Passkeys, Left: maxGuesses, Cause: refusal(err)}
	}
	a, err := s.Factors.ByUserHandle(ctx, parsed.Response.UserHandle)
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		return Proven{}, err
	}
	attempt, err := s.attempt(ctx, a, "passkey", Attempt{For: Page})
	if err != nil {
		return Proven{}, err
	}
	proven, err := s.provePasskey(ctx, a, c, parsed, in)
	attempt.settle(ctx, err)
	return proven, err
}

func (s *Service) provePasskey(
	ctx context.Context, a *account.Account, c ceremony, parsed *protocol.ParsedCredentialAssertionData, in PasskeyAttempt,
) (Proven, error) {
	if a == nil || in.DID != "" && a.DID != in.DID {
		return Proven{}, &WrongFactor{Method: Passkeys, Left: maxGuesses, Cause: ErrNotYours}
	}
	cred, err := s.Accounts.Credentials(ctx, a.ID) // before, so that its epoch is not newer than the proof
	if err != nil {
		return Proven{}, err
	}
	result, err := s.WebAuthn.once(c.Session.Challenge, in.Flow, []byte(in.Answer), func() (any, error) {
		by := ByPassword // replaced
		err := s.guess(ctx, a, Passkeys, func() (err error) { by, err = s.assert(ctx, a, c, parsed); return err })
		return by, err
	})
	if err != nil {
		return Proven{}, err
	}
	by, _ := result.(Proofs)
	if cred.TakenDown && !in.AllowTakenDown {
		return Proven{}, account.ErrTakenDown
	}
	return Proven{Account: a, Epoch: cred.Epoch, By: by}, nil
}

// ErrNotYours: the passkey is not of this account, or of none.
var ErrNotYours = errors.New("the passkey does not belong to the account")

// assert checks an authenticator's answer and records its use.
func (s *Service) assert(ctx context.Context, a *account.Account, c ceremony, parsed *protocol.ParsedCredentialAssertionData) (Proofs,
	error,
) {
	f, err := s.Factors.Factors(ctx, a.ID)
	if err != nil {
		return 0, err
	}
	u, err := newUser(a, f)
	if err != nil {
		return 0, err
	}
	data := parsed.Response.AuthenticatorData
	if f.passkey(parsed.RawID) < 0 {
		return 0, &WrongFactor{Method: Passkeys, Cause: ErrNotYours}
	}
	whose := func(_, _ []byte) (webauthn.User, error) { return u.asked(parsed.RawID, data.Flags), nil }
	if _, _, err := s.WebAuthn.web.ValidatePasskeyLogin(whose, c.Session, parsed); err != nil {
		return 0, &WrongFactor{Method: Passkeys, Cause: refusal(err)}
	}
	by := ByPasskey
	err = s.change(ctx, a, func(_ account.Account, f Factors, e account.Entry) (Factors, []note, error) {
		i := f.passkey(parsed.RawID)
		if i < 0 {
			return f, nil, &WrongFactor{Method: Passkeys, Cause: ErrNotYours} // removed meanwhile
		}
		p, notes, err := f.Passkeys[i].used(e, data.Flags, data.Counter)
		f.Passkeys[i] = p
		if old(p.MadeAt, e.At) {
			by |= ByAged
		}
		return f, notes, err
	})
	return by, err
}

// warnEvery is how often we mail the owner that there may be a copy of a passkey.
const warnEvery = 24 * time.Hour

// used returns the passkey after a right answer, and what the owner learns.
func (p Passkey) used(e account.Entry, flags protocol.AuthenticatorFlags, counter uint32) (Passkey, []note, error) {
	was, err := p.credential()
	if err != nil {
		return p, nil, err
	}
	var notes []note
	if _, backup := backedUp(was, flags); backup {
		notes = append(notes, note{kind: account.EntryPasskeyBackup, detail: p.Name})
	}
	is, cloned := counted(was, flags, counter)
	if cloned {
		n := note{kind: account.EntryPasskeyCloned, detail: p.Name}
		if p.WarnedAt.IsZero() || e.At.Sub(p.WarnedAt) >= warnEvery {
			n.notice, p.WarnedAt = mail.NoticePasskeyCloned, e.At
		}
		notes = append(notes, n)
	}
	p.UsedAt, p.UsedNetwork = e.At, e.Network
	p, err = p.with(&is)
	return p, notes, err
}

// BeginPasskey asks for a new passkey of an account, in the flow of a page.
// ErrTooManyPasskeys.
func (s *Service) BeginPasskey(ctx context.Context, a *account.Account, flow string) (Question, error) {
	f, err := s.Factors.Factors(ctx, a.ID)
	if err != nil {
		return Question{}, err
	}
	if len(f.Passkeys) >= MaxPasskeys {
		return Question{}, ErrTooManyPasskeys
	}
	if len(f.UserHandle) == 0 {
		f.UserHandle = make([]byte, userHandleSize)
		_, _ = rand.Read(f.UserHandle) // never fails: crypto/rand ends the process instead
	}
	u, err := newUser(a, f)
	if err != nil {
		return Question{}, err
	}
	options, session, err := s.WebAuthn.web.BeginRegistration(u,
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
			RequireResidentKey: protocol.ResidentKeyRequired(), ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationRequired,
		}),
		webauthn.WithConveyancePreference(protocol.PreferNoAttestation),
		webauthn.WithExclusions(webauthn.Credentials(u.credentials).CredentialDescriptors()),
		webauthn.WithCredentialParameters(algorithms()))
	if err != nil {
		return Question{}, fmt.Errorf("ask for a new passkey: %w", err)
	}
	return s.WebAuthn.question(options, ceremony{Purpose: askMake, Flow: flow, Session: *session, Codes: newRecoveryCodes()})
}

// NewPasskey is an answer to BeginPasskey.
type NewPasskey struct {
	// Sealed is that of the Question, Answer the credential as JSON.
	Sealed, Answer, Flow string
	// Name is the owner's; empty for one that tells the kind and the day.
	Name string
}

// MaxPasskeyName bounds a name in characters.
const MaxPasskeyName = 64

// checkName returns a name as it is kept. ErrPasskeyName.
func checkName(name string) (string, error) {
	name = strings.Join(strings.Fields(name), " ")
	if utf8.RuneCountInString(name) > MaxPasskeyName || !utf8.ValidString(name) {
		return "", ErrPasskeyName
	}
	return name, nil
}

// AddPasskey keeps a new passkey, and returns the recovery codes if it is the account's
// first factor. ErrCeremony, *WrongFactor, ErrPasskeyName, ErrTooManyPasskeys,
// ErrPasskeyTaken.
func (s *Service) AddPasskey(ctx context.Context, a *account.Account, in NewPasskey) (recovery []string, err error) {
	name, err := checkName(in.Name)
	if err != nil {
		return nil, err
	}
	c, err := s.WebAuthn.open(in.Sealed, askMake, in.Flow)
	if err != nil {
		return nil, err
	}
	result, err := s.WebAuthn.once(c.Session.Challenge, in.Flow, []byte(in.Answer), func() (any, error) {
		return s.addPasskey(ctx, a, c, in.Answer, name)
	})
	recovery, _ = result.([]string)
	return recovery, err
}

func (s *Service) addPasskey(ctx context.Context, a *account.Account, c ceremony, answer, name string) (recovery []string, err error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return nil, &WrongFactor{Method: Passkeys, Left: maxGuesses, Cause: refusal(err)}
	}
	made, err := s.WebAuthn.web.CreateCredential(user{account: a, handle: c.Session.UserID}, c.Session, parsed)
	if err != nil {
		return nil, &WrongFactor{Method: Passkeys, Left: maxGuesses, Cause: refusal(err)}
	}
	err = s.change(ctx, a, func(now account.Account, f Factors, e account.Entry) (Factors, []note, error) {
		switch {
		case len(f.Passkeys) >= MaxPasskeys:
			return f, nil, ErrTooManyPasskeys
		case f.passkey(made.ID) >= 0:
			return f, nil, ErrPasskeyTaken
		case len(f.UserHandle) == 0:
			f.UserHandle = c.Session.UserID
		case string(f.UserHandle) != string(c.Session.UserID):
			return f, nil, ErrCeremony // another page has made the first meanwhile
		}
		p, err := Passkey{Host: s.WebAuthn.Host(), Name: name, MadeAt: e.At}.with(made)
		if err != nil {
			return f, nil, err
		}
		if p.Name == "" {
			p.Name = kindOf(made.Authenticator.AAGUID) + " " + e.At.Format(time.DateOnly)
		}
		f.Passkeys = append(f.Passkeys, p)
		f, recovery = s.withRecovery(&now, f, c.Codes)
		return f, []note{{kind: account.EntryPasskeyAdded, notice: mail.NoticePasskeyAdded, detail: p.Name}}, nil
	})
	return recovery, err
}

// RenamePasskey gives a passkey another name. ErrNoFactor, ErrPasskeyName.
func (s *Service) RenamePasskey(ctx context.Context, a *account.Account, id int64, name string) error {
	name, err := checkName(name)
	if err == nil && name == "" {
		err = ErrPasskeyName
	}
	if err != nil {
		return err
	}
	return s.change(ctx, a, func(_ account.Account, f Factors, _ account.Entry) (Factors, []note, error) {
		i := slices.IndexFunc(f.Passkeys, func(p Passkey) bool { return p.ID == id })
		switch {
		case i < 0:
			return f, nil, ErrNoFactor
		case f.Passkeys[i].Name == name:
			return f, nil, nil
		}
		f.Passkeys[i].Name = name
		return f, []note{{kind: account.EntryPasskeyRenamed, notice: mail.NoticePasskeyRenamed, detail: name}}, nil
	})
}

// RemovePasskey removes a passkey; one that is gone is not an error.
func (s *Service) RemovePasskey(ctx context.Context, a *account.Account, id int64) error {
	return s.change(ctx, a, func(_ account.Account, f Factors, _ account.Entry) (Factors, []note, error) {
		i := slices.IndexFunc(f.Passkeys, func(p Passkey) bool { return p.ID == id })
		if i < 0 {
			return f, nil, nil
		}
		name := f.Passkeys[i].Name
		f.Passkeys = slices.Delete(f.Passkeys, i, i+1)
		return f, []note{{kind: account.EntryPasskeyRemoved, notice: mail.NoticePasskeyRemoved, detail: name}}, nil
	})
}

// kindOf names the program or device that made a passkey, by its AAGUID.
func kindOf(aaguid []byte) string {
	names := map[string]string{
		"fbfc3007154e4ecc8c0b6e020557d7bd": "iCloud Keychain", "dd4ec289e01d41c9bb8970fa845d4bf2": "iCloud Keychain",
		"ea9b8d664d011d213ce4b6b48cb575d4": "Google Password Manager", "adce000235bcc60a648b0b25f1f05503": "Chrome on Mac",
		"08987058cadc4b81b6e130de50dcbe96": "Windows Hello", "9ddd1817af5a4672a2b93e3dd95000a9": "Windows Hello",
		"6028b017b1d44c02b4b3afcdafc96bb2": "Windows Hello", "bada5566a7aa401fbd9645619a55120d": "1Password",
		"d548826e79b4db40a3d811116f7e8349": "Bitwarden", "531126d6e717415c93203d9aa6981239": "Dashlane",
		"fdb141b25d84443e8a354698c205a502": "KeePassXC", "50726f746f6e5061737350726f746f6e": "Proton Pass",
		"53414d53554e47000000000000000000": "Samsung Pass", "f38095407f1449c1a8b38f813b225541": "Enpass",
	}
	if name := names[fmt.Sprintf("%x", aaguid)]; name != "" {
		return name
	}
	return "Passkey"
}
