package hosting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/plc"
	"nestbox/request"
)

// submitTimeout bounds the wait for the PLC directory.
const submitTimeout = 20 * time.Second

// Errors of Create, besides those of account.CheckNewPassword, CheckEmail, NormalizeHandle
// and CheckServiceHandle, account.ErrInviteUsed, ErrHandleTaken, ErrEmailTaken, and
// request.ErrTooMany.
var (
	ErrNoEmail     = errors.New("e-mail is required")
	ErrNoPassword  = errors.New("password is required")
	errRecoveryKey = errors.New("recovery key is not a did:key that can be used")
	ErrDirectory   = errors.New("the PLC directory did not register the account")
	ErrUnsettled   = errors.New("the PLC directory did not confirm whether it registered the account")
)

// NewAccount is what an account is made from.
type NewAccount struct {
	Handle      string
	Email       string
	Password    string
	InviteCode  string
	RecoveryKey string
	// Owner is the DID that the caller has proven to own, for moving in.
	Owner syntax.DID
	// ByAdmin: the operator makes it, so no invite code is needed and reserved names
	// are allowed.
	ByAdmin bool
}

// Create makes an account with a new did:plc. If it returns an error, nothing is
// left behind, except after ErrUnsettled: then Resume settles it within minutes.
func (s *Service) Create(ctx context.Context, in NewAccount) (*account.Account, error) {
	p, err := s.check(ctx, "", in)
	if err != nil {
		return nil, err
	}
	release, err := s.brake(ctx, in)
	if err != nil {
		return nil, err
	}
	a, err := s.create(ctx, p, in)
	if err != nil {
		release()
		return nil, err
	}
	request.SetMark(ctx, request.AccountCreated)
	return a, nil
}

// create makes an account from checked input.
func (s *Service) create(ctx context.Context, p Pending, in NewAccount) (_ *account.Account, err error) {
	if p.PasswordHash, err = s.Hasher.Hash(ctx, in.Password); err != nil {
		return nil, err
	}
	op, err := s.genesis(&p, in.RecoveryKey)
	if err != nil {
		return nil, err
	}
	end, err := s.begin(p.DID)
	if err != nil {
		return nil, err
	}
	defer end()
	p.CreatedAt = s.now() // not before: the submission is timed from then
	if p.AccountID, err = s.Store.Reserve(ctx, p); err != nil {
		return nil, err
	}
	// From here on a client that disconnects must not leave things half done.
	ctx = context.WithoutCancel(ctx)
	doc, err := s.register(ctx, p, op)
	if err != nil {
		return nil, err
	}
	return s.activate(ctx, p, doc)
}

// SignUp is Create for somebody who comes to a page, or an app, of their own: such are
// counted. request.ErrTooMany.
func (s *Service) SignUp(ctx context.Context, in NewAccount) (*account.Account, error) {
	if err := request.AdmitNetwork(ctx, s.Limits, 1, signUps); err != nil {
		return nil, err
	}
	return s.Create(ctx, in)
}

// CheckNewHandle returns nil if a new account may have a handle of this service, as far as
// can be said before its sign-up. Errors: those of account.NormalizeHandle and
// CheckServiceHandle, account.ErrHandleTaken, request.ErrTooMany.
func (s *Service) CheckNewHandle(ctx context.Context, handle string) error {
	if err := request.AdmitNetwork(ctx, s.Limits, 1, signUps); err != nil {
		return err
	}
	h, err := account.NormalizeHandle(handle)
	if err != nil {
		return err
	}
	if err := account.CheckServiceHandle(h, s.Domains); err != nil {
		return err
	}
	switch _, err := s.Accounts.ByHandle(ctx, h); {
	case err == nil:
		return account.ErrHandleTaken
	case errors.Is(err, account.ErrNotFound):
		return nil
	default:
		return err
	}
}

// check validates everything that can be wrong with a sign-up before a password is
// hashed, in the order of the reference. did is that of an owner who moves in, with
// a handle of this service or their own.
func (s *Service) check(ctx context.Context, did syntax.DID, in NewAccount) (Pending, error) {
	p := Pending{InviteCode: in.InviteCode, DID: did}
	if in.ByAdmin {
		p.MadeBy = account.Acting(ctx)
	}
	if in.Password == "" {
		return p, ErrNoPassword
	}
	if err := account.CheckNewPassword(in.Password); err != nil {
		return p, err
	}
	if err := s.admits(did, in); err != nil {
		return p, err
	}
	if in.Email == "" {
		return p, ErrNoEmail
	}
	var err error
	if p.Email, err = account.CheckEmail(in.Email); err != nil {
		return p, err
	}
	if p.Handle, err = account.NormalizeHandle(in.Handle); err != nil {
		return p, err
	}
	if did != "" && in.Owner != did && !account.IsServiceHandle(p.Handle, s.Domains) {
		return p, errNotOwner // before we ask others anything on behalf of a stranger
	}
	if err := s.checkHandle(ctx, did, p.Handle, in.ByAdmin); err != nil {
		return p, err
	}
	if in.RecoveryKey != "" && plc.CheckRotationKey(in.RecoveryKey) != nil {
		return p, errRecoveryKey
	}
	return p, s.checkFree(ctx, p)
}

// checkHandle returns nil if an account may have a handle: one of this service or,
// if it has a DID, one that is proven to lead to it.
func (s *Service) checkHandle(ctx context.Context, did syntax.DID, h syntax.Handle, byAdmin bool) error {
	if did == "" || account.IsServiceHandle(h, s.Domains) {
		err := account.CheckServiceHandle(h, s.Domains)
		if byAdmin && errors.Is(err, account.ErrHandleReserved) {
			return nil
		}
		return err
	}
	switch found, err := s.Resolver.ProvenHandle(ctx, h); {
	case errors.Is(err, identity.ErrHandleNotFound), errors.Is(err, identity.ErrHandleConflict), err == nil && found != did:
		return ErrHandleProof
	default:
		return err
	}
}

// checkFree spares a sign-up that cannot succeed the cost of its password. The
// reservation decides.
func (s *Service) checkFree(ctx context.Context, p Pending) error {
	if p.InviteCode != "" {
		codes, err := s.Accounts.InviteCodes(ctx, []string{p.InviteCode})
		if err != nil {
			return err
		}
		if len(codes) == 0 {
			return account.ErrInviteUsed
		}
		c := codes[0]
		again := slices.ContainsFunc(c.Uses, func(u account.InviteUse) bool { return u.UsedBy == p.DID })
		if err := c.Admits(len(c.Uses), again, account.Measures{}); err != nil {
			return err
		}
	}
	switch _, err := s.Accounts.ByHandle(ctx, p.Handle); {
	case err == nil:
		return account.ErrHandleTaken
	case !errors.Is(err, account.ErrNotFound):
		return err
	}
	switch _, err := s.Accounts.ByEmail(ctx, p.Email); {
	case err == nil:
		return account.ErrEmailTaken
	case !errors.Is(err, account.ErrNotFound):
		return err
	}
	return nil
}

// genesis makes the account's signing key and its first operation. The owner's
// recovery key has the highest authority, then the operator's, then the server's.
func (s *Service) genesis(p *Pending, recoveryKey string) (*didplc.RegularOp, error) {
	signing, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	public, err := signing.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	server, err := s.serverKey()
	if err != nil {
		return nil, err
	}
	var rotation []string
	for _, k := range []string{recoveryKey, s.RecoveryKey, server} {
		if k != "" {
			rotation = append(rotation, k)
		}
	}
	did, op, err := plc.Create(plc.Data{RotationKeys: rotation, SigningKey: public.DIDKey(), Handle: p.Handle, PDS: s.URL}, s.RotationKey)
	if err != nil {
		return nil, err
	}
	p.DID, p.SigningKey = did, public.DIDKey()
	p.SigningKeySealed = SealKey(s.Box, did, signing)
	return op, nil
}

// signingKeyLabel binds a sealed signing key to its account.
func signingKeyLabel(did syntax.DID) string { return "signing key of " + did.String() }

// register submits the genesis operation of a reserved account and returns the
// resulting document. If it certainly failed, the reservation is undone.
func (s *Service) register(ctx context.Context, p Pending, op *didplc.RegularOp) ([]byte, error) {
	ctx, cancel := s.submitting(ctx, p.CreatedAt)
	defer cancel()
	err := s.Directory.Submit(ctx, p.DID, op)
	if err == nil {
		return plc.Document(p.DID, didplc.OpEnum{Regular: op})
	}
	s.Log.LogAttrs(ctx, slog.LevelError, "registering a DID failed", slog.String("cause", err.Error()))
	if !untouched(err) {
		return nil, ErrUnsettled
	}
	if aerr := s.Store.Abandon(context.WithoutCancel(ctx), p.AccountID); aerr != nil {
		return nil, errors.Join(ErrDirectory, aerr)
	}
	return nil, ErrDirectory
}
