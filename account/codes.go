package account

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"nestbox/mail"
	"nestbox/request"
)

// Purpose is what an e-mail code allows; it is stored, so that its text never
// changes.
type Purpose string

// The purposes.
const (
	PurposeConfirmEmail  Purpose = "confirm_email"
	PurposeUpdateEmail   Purpose = "update_email"
	PurposeResetPassword Purpose = "reset_password"
	PurposeDeleteAccount Purpose = "delete_account"
	PurposePLCOperation  Purpose = "plc_operation"
	PurposeSignIn        Purpose = "sign_in"
	PurposeStepUp        Purpose = "step_up"
	// PurposeNewEmail is for the address that the code is sent to alone: see SendTo.
	PurposeNewEmail Purpose = "new_email"
)

// ToolPurposes returns the purposes whose codes tools ask for, so that the account page and
// the operator may give one out without a mail.
func ToolPurposes() []Purpose { return []Purpose{PurposePLCOperation, PurposeDeleteAccount} }

// OperatorPurposes returns the purposes whose codes the operator may give out, for an owner who gets
// no mail: those of tools, and those of an owner's own address and password.
func OperatorPurposes() []Purpose {
	return append(ToolPurposes(), PurposeConfirmEmail, PurposeUpdateEmail, PurposeResetPassword)
}

const (
	// CodeLife is how long a code holds; the mails say so.
	CodeLife = 15 * time.Minute
	// MaxCodeTries is how often something can be tried as a code before that is
	// worth nothing, right or wrong.
	MaxCodeTries = 10
)

// Errors of codes.
var (
	ErrCodeInvalid = errors.New("e-mail code is not the right one")
	ErrCodeExpired = errors.New("e-mail code has expired")
	ErrNoEmail     = errors.New("account does not have an email address")
	ErrNoMail      = errors.New("this server sends no mail")
)

// Code is an e-mail code as it is stored.
type Code struct {
	Purpose Purpose
	// Hash is keyed, so a stolen database alone does not allow guessing codes.
	Hash    []byte
	MadeAt  time.Time
	Expires time.Time
	// UsedFlow is the flow that used the code up at UsedAt: see CodeStore.UseCodeIn.
	UsedFlow string
	UsedAt   time.Time
}

// Proof is a code that was the right one. The store method that makes the change
// uses it up in the same transaction, and returns ErrCodeInvalid where another
// request was quicker.
type Proof struct {
	AccountID int64
	Purpose   Purpose
	Hash      []byte
}

// CodeStore keeps codes: at most one for an account and a purpose. Every method
// is one transaction, durable when it returns nil.
type CodeStore interface {
	// SetCode stores a code in the place of an older one, with no tries, and
	// queues the mail that brings it. ErrNotFound, mail.ErrFull.
	SetCode(ctx context.Context, id int64, c Code, m mail.Message) error
	// GiveCode is SetCode of a code that no mail brings: its caller shows it. The trail
	// records e, and the mails are queued if there is room. ErrNotFound.
	GiveCode(ctx context.Context, id int64, c Code, e Entry, mails ...mail.Message) error
	// Decoy takes as long as SetCode does and means nothing. mail.ErrFull.
	Decoy(ctx context.Context, at time.Time) error
	// Code returns a code, and counts nothing. ErrCodeInvalid where there is none.
	Code(ctx context.Context, id int64, p Purpose) (Code, error)
	// TryCode is Code that counts a try. ErrCodeInvalid where there is none, or
	// MaxCodeTries were counted before; ErrNotFound where there is no such account.
	TryCode(ctx context.Context, id int64, p Purpose) (Code, error)
	// UseCode uses up the code of a proof that changes nothing in the store.
	// ErrCodeInvalid where another request was quicker.
	UseCode(ctx context.Context, p Proof) error
	// UseCodeIn is UseCode that remembers in which flow, not empty, and when: until a new
	// code replaces it, TryCode still returns the code, and no other method does. nil if
	// the same flow used it before.
	UseCodeIn(ctx context.Context, p Proof, flow string, at time.Time) error
	// FindCode returns the code with that hash, and whose it is. ErrCodeInvalid
	// where there is none.
	FindCode(ctx context.Context, p Purpose, hash []byte) (*Account, Code, error)
}

// Codes makes codes that are sent by e-mail, and checks them. Its fields are set
// once.
type Codes struct {
	Store CodeStore
	// Templates is nil on a server that sends no mail.
	Templates *mail.Templates
	// Key keys the stored hashes: 32 secret bytes.
	Key []byte
	Now func() time.Time
}

// Send makes a code for a purpose, in the place of an older one, and queues the
// mail that brings it, in one transaction. ErrNoEmail, ErrNoMail, ErrNotFound,
// mail.ErrFull.
func (c *Codes) Send(ctx context.Context, a *Account, p Purpose) error {
	if c.Templates == nil {
		return ErrNoMail
	}
	if a.Email == "" {
		return ErrNoEmail
	}
	now := c.now()
	code := NewCode()
	m := c.message(ctx, a, p, code)
	m.Until = now.Add(CodeLife)
	return c.Store.SetCode(ctx, a.ID, Code{Purpose: p, Hash: c.hash(p, code), MadeAt: now, Expires: m.Until}, m)
}

// SendTo sends a code to an address that is to become the account's. It is good for that
// address alone: see CheckTo. Errors: those of Send.
func (c *Codes) SendTo(ctx context.Context, a *Account, address string) error {
	if c.Templates == nil {
		return ErrNoMail
	}
	now, code, to := c.now(), NewCode(), *a
	to.Email, to.EmailConfirmedAt = address, time.Time{} // it may be a stranger's
	m := c.message(ctx, &to, PurposeNewEmail, code)
	m.Until = now.Add(CodeLife)
	hash := c.hash(PurposeNewEmail, forAddress(code, address))
	return c.Store.SetCode(ctx, a.ID, Code{Purpose: PurposeNewEmail, Hash: hash, MadeAt: now, Expires: m.Until}, m)
}

// CheckTo is Check of a code that SendTo sent to an address.
func (c *Codes) CheckTo(ctx context.Context, a *Account, address, code string) (Proof, error) {
	return c.check(ctx, a, PurposeNewEmail, forAddress(CleanCode(code), address))
}

// forAddress returns what is hashed of a code that is for one address.
func forAddress(code, address string) string { return code + " " + EmailKey(address) }

// Give makes a code for a purpose, in the place of an older one, and returns it: no mail
// brings it. ErrNotFound.
func (c *Codes) Give(ctx context.Context, a *Account, p Purpose, e Entry, mails ...mail.Message) (string, error) {
	now, code := c.now(), NewCode()
	return code, c.Store.GiveCode(ctx, a.ID, Code{Purpose: p, Hash: c.hash(p, code), MadeAt: now, Expires: now.Add(CodeLife)}, e, mails...)
}

// Pretend takes the time of Send, for an address that is nobody's.
func (c *Codes) Pretend(ctx context.Context, p Purpose) error {
	if c.Templates == nil {
		return ErrNoMail
	}
	code := NewCode()
	_, _ = c.message(ctx, &Account{Handle: "nobody.invalid", Email: "nobody@invalid", EmailConfirmedAt: c.now()}, p, code), c.hash(p, code)
	return c.Store.Decoy(ctx, c.now())
}

// Check checks that code is the account's for a purpose. Each call counts as a
// try; none uses the code up. ErrCodeInvalid, ErrCodeExpired, ErrNotFound.
func (c *Codes) Check(ctx context.Context, a *Account, p Purpose, code string) (Proof, error) {
	return c.check(ctx, a, p, CleanCode(code))
}

// check is Check of a text whose hash is stored.
func (c *Codes) check(ctx context.Context, a *Account, p Purpose, text string) (Proof, error) {
	stored, err := c.try(ctx, a, p, text)
	if err == nil && stored.UsedFlow != "" {
		err = ErrCodeInvalid
	}
	if err != nil {
		return Proof{}, err
	}
	return c.proof(a, stored)
}

// RepeatFor is how long a post of a page may be repeated with the code that it sent
// before: its answer may have been lost.
const RepeatFor = 2 * time.Minute

// Use is Check that uses the code up, in the flow of a page. The same code in the same
// flow passes again for RepeatFor.
func (c *Codes) Use(ctx context.Context, a *Account, p Purpose, code, flow string) error {
	stored, err := c.try(ctx, a, p, CleanCode(code))
	if err != nil {
		return err
	}
	now := c.now()
	if stored.UsedFlow != "" {
		if stored.UsedFlow != flow || now.Sub(stored.UsedAt).Abs() >= RepeatFor {
			return ErrCodeInvalid
		}
		return nil
	}
	proof, err := c.proof(a, stored)
	if err != nil {
		return err
	}
	return c.Store.UseCodeIn(ctx, proof, flow, now)
}

// try counts a try, and returns the stored code if text is what it was made of.
func (c *Codes) try(ctx context.Context, a *Account, p Purpose, text string) (Code, error) {
	stored, err := c.Store.TryCode(ctx, a.ID, p)
	if err != nil {
		return Code{}, err
	}
	if subtle.ConstantTimeCompare(stored.Hash, c.hash(p, text)) != 1 {
		return Code{}, ErrCodeInvalid
	}
	return stored, nil
}

// Find returns the account a code was issued to, for callers who cannot identify
// themselves otherwise (password reset). It searches by a keyed hash, whose
// comparison reveals nothing. ErrCodeInvalid, ErrCodeExpired.
func (c *Codes) Find(ctx context.Context, p Purpose, code string) (*Account, Proof, error) {
	a, stored, err := c.Store.FindCode(ctx, p, c.hash(p, CleanCode(code)))
	if err != nil {
		return nil, Proof{}, err
	}
	proof, err := c.proof(a, stored)
	return a, proof, err
}

// SentWithin reports whether a valid code for a purpose is younger than d: a caller
// that asks again so soon should wait for that one.
func (c *Codes) SentWithin(ctx context.Context, a *Account, p Purpose, d time.Duration) (bool, error) {
	stored, err := c.Store.Code(ctx, a.ID, p)
	if errors.Is(err, ErrCodeInvalid) {
		return false, nil
	}
	return err == nil && c.now().Sub(stored.MadeAt).Abs() < d, err // a clock that was ahead may have made it
}

func (c *Codes) proof(a *Account, stored Code) (Proof, error) {
	now := c.now()
	if early := stored.MadeAt.Add(-CodeLife); !now.Before(stored.Expires) || now.Before(early) { // made by a clock that was ahead
		return Proof{}, ErrCodeExpired
	}
	return Proof{AccountID: a.ID, Purpose: stored.Purpose, Hash: stored.Hash}, nil
}

func (c *Codes) now() time.Time { return c.Now().UTC().Truncate(time.Millisecond) }

func (c *Codes) message(ctx context.Context, a *Account, p Purpose, code string) mail.Message {
	t, r := c.Templates, mail.Reader{To: a.Email, Language: cmp.Or(a.Language, request.Language(ctx))}
	if !a.EmailConfirmedAt.IsZero() {
		r.Handle = a.Handle.String() // to anybody else it is a name of a stranger's choice
	}
	switch p {
	case PurposeConfirmEmail:
		return t.ConfirmEmail(r, code)
	case PurposeUpdateEmail:
		return t.UpdateEmail(r, code)
	case PurposeResetPassword:
		return t.ResetPassword(r, code)
	case PurposeDeleteAccount:
		return t.DeleteAccount(r, code, a.DangerousFactor)
	case PurposePLCOperation:
		return t.PLCOperation(r, code, a.DangerousFactor)
	case PurposeSignIn:
		return t.SignInCode(r, code)
	case PurposeStepUp:
		return t.StepUpCode(r, code)
	case PurposeNewEmail:
		return t.NewEmail(r, code)
	default:
		panic(fmt.Sprintf("account: no mail for code %q", p)) // a purpose that this list lacks
	}
}

// NewCode returns 50 random bits in the reference's form: XXXXX-XXXXX.
func NewCode() string {
	raw := make([]byte, 7)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	s := base32.StdEncoding.EncodeToString(raw)
	return s[:5] + "-" + s[5:10]
}

// codeLength is that of a code without its dash, in characters.
const codeLength = 10

// CleanCode is what was typed as a code, in the form that NewCode gives: case,
// dashes and white space do not matter. What cannot be a code comes back empty.
func CleanCode(typed string) string {
	if len(typed) > 10*codeLength {
		return ""
	}
	s := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToUpper(r)
	}, typed)
	if len(s) != codeLength {
		return ""
	}
	return s[:codeLength/2] + "-" + s[codeLength/2:]
}

// Imported returns a code that another server mailed at a time, as it is stored here.
func (c *Codes) Imported(p Purpose, code string, madeAt time.Time) Code {
	madeAt = madeAt.UTC().Truncate(time.Millisecond)
	return Code{Purpose: p, Hash: c.hash(p, CleanCode(code)), MadeAt: madeAt, Expires: madeAt.Add(CodeLife)}
}

// hash is the stored form of a code, bound to its purpose.
func (c *Codes) hash(p Purpose, code string) []byte {
	h := hmac.New(sha256.New, c.Key)
	h.Write([]byte(p))
	h.Write([]byte{0})
	h.Write([]byte(code))
	return h.Sum(nil)
}
