package hosting

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/mail"
	"nestbox/plc"
	"nestbox/ratelimit"
	"nestbox/request"
)

// The owner's own changes of a did:plc identity, above all for moving: the host
// that holds a rotation key signs an operation, and the host that it points to
// checks and submits it (https://web.plc.directory/spec/v0.1/did-plc).

// typePDS is the service type of an account's host.
const typePDS = "AtprotoPersonalDataServer"

// SignOperation signs a change of an account's did:plc, for which the owner shows the
// code that was mailed, and that of their authenticator app behind it if they want that.
// It submits nothing. Errors: those of signin.Service.Dangerous and account.Codes.UseCode,
// identity.ErrNotRegistered, identity.ErrDeactivated,
// plc.ErrOperation.
func (s *Service) SignOperation(ctx context.Context, did syntax.DID, code string, c plc.Change) (*didplc.RegularOp, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return nil, err
	}
	proof, err := s.SignIns.Dangerous(ctx, a, account.PurposePLCOperation, code, "")
	if err != nil {
		return nil, err
	}
	op, err := s.sign(ctx, did, c)
	if err != nil {
		return nil, err
	}
	// Last, so that a directory that cannot be reached does not use up anybody's code.
	return op, s.Codes.Store.UseCode(ctx, proof)
}

func (s *Service) sign(ctx context.Context, did syntax.DID, c plc.Change) (*didplc.RegularOp, error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	if did.Method() != "plc" {
		return nil, fmt.Errorf("%w: %s is not of did:plc", plc.ErrOperation, did)
	}
	last, err := s.last(ctx, did)
	if err != nil {
		return nil, err
	}
	return plc.Update(last, c, s.RotationKey)
}

// last returns the newest operation of a did:plc: identity.ErrNotRegistered,
// identity.ErrDeactivated if its owner has ended it.
func (s *Service) last(ctx context.Context, did syntax.DID) (didplc.OpEnum, error) {
	last, err := s.Directory.Last(ctx, did)
	if err == nil && last.Tombstone != nil {
		err = identity.ErrDeactivated
	}
	return last, err
}

// submissions limits the operations that are sent to the directory, which counts
// them too: those of one account, and all of this server's together.
var submissions = []ratelimit.Limit{
	{Name: "plc-operations-5m", Points: 10, Window: 5 * time.Minute},
	{Name: "plc-operations-1d", Points: 50, Window: 24 * time.Hour},
}

// operationError is why an operation is not submitted, in the reference's words: the
// account would no longer work here after it.
type operationError string

func (e operationError) Error() string { return string(e) }

// Is makes it an ErrUnfit.
func (operationError) Is(target error) bool { return target == ErrUnfit }

// SubmitOperation sends an owner's signed operation to the directory and announces it
// to the network: only one after which the account is hosted here and this server can
// help it. Errors: account.ErrStatusConflict, account.ErrNotFound, operationError,
// request.ErrTooMany, those of the directory.
func (s *Service) SubmitOperation(ctx context.Context, did syntax.DID, raw []byte) error {
	end, err := s.begin(did) // the handle and key that are checked stay what they are
	if err != nil {
		return err
	}
	defer end()
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return err
	}
	op, err := plc.Decode(raw)
	if err != nil || op.Regular == nil {
		return operationError("Invalid operation")
	}
	if did.Method() != "plc" {
		return operationError(did.String() + " is not of did:plc")
	}
	return s.send(ctx, a, op.Regular)
}

// send submits an owner's operation, if the account still works here after it, within the
// limits of such operations. The caller has begun a change of the identity.
func (s *Service) send(ctx context.Context, a *account.Account, op *didplc.RegularOp) error {
	if err := s.checkOperation(a, op); err != nil {
		return err
	}
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, submissions...); err != nil {
		return err
	}
	// From here on a client that disconnects must not leave things half done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitTimeout)
	defer cancel()
	return s.submit(ctx, a, op)
}

// submit sends an operation to the directory and announces it to the network. It
// may be repeated: an operation that is the DID's last one is not sent again. If it
// breaks off, the check of identities, for which the account is due, does the rest.
// A change of the rotation keys is on the trail, and the owner gets a mail.
func (s *Service) submit(ctx context.Context, a *account.Account, op *didplc.RegularOp) error {
	last, err := s.Directory.Last(ctx, a.DID)
	if err != nil {
		return fmt.Errorf("%w: %w", identity.ErrUnreached, err) // nothing was sent
	}
	if last.Regular == nil || last.Regular.CID() != op.CID() {
		if err := s.Documents.Doubt(ctx, a.ID); err != nil {
			return err
		}
		err := s.Directory.Submit(ctx, a.DID, op)
		if !untouched(err) { // it was taken, or it may have been
			err = errors.Join(err, s.noteKeys(ctx, a, last, op))
		}
		if err != nil {
			return err
		}
	}
	return s.refresh(ctx, a)
}

// noteKeys tells the owner of the rotation keys that an operation changes.
func (s *Service) noteKeys(ctx context.Context, a *account.Account, last didplc.OpEnum, op *didplc.RegularOp) error {
	var came, gone []string
	changed := false
	for _, d := range plc.Compare(last, didplc.OpEnum{Regular: op}) {
		switch d.Part {
		case plc.PartKey:
			if d.New != "" {
				came = append(came, d.New)
			} else {
				gone = append(gone, d.Old)
			}
		case plc.PartKeyOrder:
		case plc.PartHandle, plc.PartHost, plc.PartSigningKey, plc.PartAlias, plc.PartMethod, plc.PartService, plc.PartEnd:
			continue
		}
		changed = true
	}
	if !changed {
		return nil
	}
	e := account.NewEntry(ctx, s.now(), account.EntryRotationKeys, account.ActorOwner)
	e.Reason = account.KeysChanged(came, gone)
	return s.Accounts.AddEntry(ctx, a.ID, e, s.Notices.Of(a, mail.NoticeRotationKeys, e, e.Reason)...)
}

// checkOperation returns an operationError if an account would no longer work here
// after an operation, in the reference's order.
func (s *Service) checkOperation(a *account.Account, op *didplc.RegularOp) error {
	server, err := s.serverKey()
	if err != nil {
		return err
	}
	d, _ := plc.DataOf(didplc.OpEnum{Regular: op})
	switch {
	case !slices.Contains(op.RotationKeys, server):
		return operationError("Rotation keys do not include server's rotation key")
	case op.Services["atproto_pds"].Type != typePDS:
		return operationError("Incorrect type on atproto_pds service")
	case d.PDS != s.URL:
		return operationError("Incorrect endpoint on atproto_pds service")
	case d.SigningKey != a.SigningKey:
		return operationError("Incorrect signing key")
	case len(op.AlsoKnownAs) == 0 || op.AlsoKnownAs[0] != "at://"+a.Handle.String():
		return operationError("Incorrect handle in alsoKnownAs")
	default:
		return nil
	}
}

// refresh stores the DID document that the network has now, and announces it.
func (s *Service) refresh(ctx context.Context, a *account.Account) error {
	d, err := s.Resolver.Fresh(ctx, a.DID)
	if err != nil {
		return err
	}
	kept, err := identity.Kept(a.DID, d.Raw)
	if err != nil {
		return err
	}
	return s.Documents.Announce(ctx, subject(a), kept, s.handleInvalid(ctx, a, d.Handle()), s.now())
}

// subject returns an account as far as its identity goes.
func subject(a *account.Account) identity.Subject {
	return identity.Subject{
		AccountID: a.ID, DID: a.DID, Handle: a.Handle, SigningKey: a.SigningKey, Document: a.Document, HandleInvalid: a.HandleInvalid,
		CheckedAt: a.IdentityCheckedAt, Hidden: a.Hidden(),
	}
}
