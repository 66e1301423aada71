package signin

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"nestbox/account"
	"nestbox/internal/seal"
)

// CeremonyLife is how long a page may wait for a passkey.
const CeremonyLife = 30 * time.Minute

// userHandleSize is the size of a user handle in bytes: the most that WebAuthn allows.
const userHandleSize = 64

// WebAuthn asks browsers for passkeys. What it must know of an open question travels,
// sealed, in the page, with a key of this process: a page that is merely looked at leaves
// nothing here, and a restart voids the open questions.
type WebAuthn struct {
	web *webauthn.WebAuthn
	box *seal.Box
	now func() time.Time

	mu       sync.Mutex
	answered map[string]*answered // by challenge
}

// answered is a question whose answer was right, or is being checked.
type answered struct {
	mu     sync.Mutex
	answer [sha256.Size]byte // zero while none was right
	flow   string
	at     time.Time
	result any
}

// NewWebAuthn returns a WebAuthn for pages at an origin, whose passkeys belong to a host
// name: a server with another one does not know them.
func NewWebAuthn(host, name, origin string, now func() time.Time) (*WebAuthn, error) {
	web, err := webauthn.New(&webauthn.Config{RPID: host, RPDisplayName: name, RPOrigins: []string{origin}})
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	key := make([]byte, seal.KeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	box, err := seal.NewBox(key)
	if err != nil {
		return nil, err
	}
	return &WebAuthn{web: web, box: box, now: now, answered: map[string]*answered{}}, nil
}

// Host returns the host name that new passkeys belong to.
func (w *WebAuthn) Host() string { return w.web.Config.RPID }

// Question is what a page asks an authenticator.
type Question struct {
	// Options go to navigator.credentials, as JSON; Sealed comes back with the answer.
	Options, Sealed string
}

// ceremony is what Question.Sealed holds.
type ceremony struct {
	Purpose string               `json:"purpose"`
	Flow    string               `json:"flow"`
	Ends    time.Time            `json:"ends"`
	Session webauthn.SessionData `json:"session"`
	// Codes are the recovery codes of an account whose first factor is being made.
	Codes []string `json:"codes,omitzero"`
}

const ceremonyLabel = "passkey ceremony"

func (w *WebAuthn) question(options any, c ceremony) (Question, error) {
	c.Ends = w.now().Add(CeremonyLife)
	text, err := json.Marshal(options)
	if err != nil {
		return Question{}, fmt.Errorf("encode passkey options: %w", err)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return Question{}, fmt.Errorf("encode passkey ceremony: %w", err)
	}
	return Question{string(text), w.box.SealText(raw, ceremonyLabel)}, nil
}

// open returns the ceremony of a question that was asked for a purpose in a flow.
// ErrCeremony.
func (w *WebAuthn) open(sealed, purpose, flow string) (c ceremony, err error) {
	raw, err := w.box.OpenText(sealed, ceremonyLabel)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if now := w.now(); err != nil || c.Purpose != purpose || c.Flow != flow || !now.Before(c.Ends) || now.Before(c.Ends.Add(-2*CeremonyLife)) {
		return ceremony{}, ErrCeremony
	}
	return c, nil
}

// once runs check for the answer to a question, unless it was answered before: the same
// answer in the same flow gets the same result for account.RepeatFor, any other ErrCeremony.
func (w *WebAuthn) once(challenge, flow string, answer []byte, check func() (any, error)) (any, error) {
	w.mu.Lock()
	now := w.now()
	maps.DeleteFunc(w.answered, func(_ string, a *answered) bool { return now.Sub(a.at).Abs() > CeremonyLife })
	a := w.answered[challenge]
	if a == nil {
		a = &answered{at: now}
		w.answered[challenge] = a
	}
	w.mu.Unlock()

	a.mu.Lock()
	defer a.mu.Unlock()
	hash := sha256.Sum256(answer)
	if a.result != nil {
		if a.answer != hash || a.flow != flow || w.now().Sub(a.at).Abs() >= account.RepeatFor {
			return nil, ErrCeremony
		}
		return a.result, nil
	}
	result, err := check()
	if err == nil {
		a.answer, a.flow, a.result = hash, flow, result
		return result, nil
	}
	w.mu.Lock()
	if w.answered[challenge] == a {
		delete(w.answered, challenge) // a wrong answer leaves nothing here
	}
	w.mu.Unlock()
	return nil, err
}

// user is an account as the library wants it.
type user struct {
	account     *account.Account
	handle      []byte
	credentials []webauthn.Credential
}

func (u user) WebAuthnID() []byte                         { return u.handle }
func (u user) WebAuthnName() string                       { return u.account.Handle.String() }
func (u user) WebAuthnDisplayName() string                { return u.account.Handle.String() }
func (u user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func newUser(a *account.Account, f Factors) (user, error) {
	u := user{account: a, handle: f.UserHandle}
	for _, p := range f.Passkeys {
		c, err := p.credential()
		if err != nil {
			return user{}, err
		}
		u.credentials = append(u.credentials, c)
	}
	return u, nil
}

func (p Passkey) credential() (c webauthn.Credential, err error) {
	if err = json.Unmarshal(p.Credential, &c); err != nil {
		return c, fmt.Errorf("passkey %d: %w", p.ID, err)
	}
	return c, nil
}

// with returns the passkey with a credential.
func (p Passkey) with(c *webauthn.Credential) (Passkey, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return p, fmt.Errorf("encode passkey: %w", err)
	}
	p.CredentialID, p.Credential = c.ID, raw
	return p, nil
}

// algorithms are those of new passkeys, the preferred first.
func algorithms() (out []protocol.CredentialParameter) {
	for _, alg := range []webauthncose.COSEAlgorithmIdentifier{webauthncose.AlgES256, webauthncose.AlgRS256, webauthncose.AlgEdDSA} {
		out = append(out, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: alg})
	}
	return out
}

// backedUp returns the credential as an assertion shows it, and whether it can be backed
// up since: some are only after they were first synchronised, and the library refuses any
// change. The other way stays refused.
func backedUp(c webauthn.Credential, flags protocol.AuthenticatorFlags) (webauthn.Credential, bool) {
	if c.Flags.BackupEligible || !flags.HasBackupEligible() {
		return c, false
	}
	c.Flags = webauthn.NewCredentialFlags(c.Flags.ProtocolValue() | protocol.FlagBackupEligible)
	return c, true
}

// counted returns the credential after an assertion that was right, and whether its
// counter did not grow, as of an authenticator that was copied. The counter is kept as it
// came.
func counted(c webauthn.Credential, flags protocol.AuthenticatorFlags, counter uint32) (webauthn.Credential, bool) {
	c, _ = backedUp(c, flags)
	cloned := counter <= c.Authenticator.SignCount && (counter != 0 || c.Authenticator.SignCount != 0)
	c.Authenticator.SignCount, c.Authenticator.CloneWarning = counter, false
	c.Flags = c.Flags.Update(flags)
	return c, cloned
}

// asked returns the credentials with those that backedUp changes for an assertion.
func (u user) asked(id []byte, flags protocol.AuthenticatorFlags) user {
	for i, c := range u.credentials {
		if bytes.Equal(c.ID, id) {
			u.credentials[i], _ = backedUp(c, flags)
		}
	}
	return u
}

// refusal returns why an authenticator's answer was refused.
func refusal(err error) error {
	if p, ok := errors.AsType[*protocol.Error](err); ok {
		return fmt.Errorf("%w: %s", errAnswer, p.Details)
	}
	return fmt.Errorf("%w: %w", errAnswer, err)
}

// errAnswer: the answer of an authenticator is not right.
var errAnswer = errors.New("the passkey's answer is not valid")
