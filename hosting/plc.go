package hosting

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/plc"
	"nestbox/ratelimit"
	"nestbox/xrpc"
)

// The owner's own changes of a did:plc identity, above all for moving: the host
// that holds a rotation key signs an operation, and the host that it points to
// checks and submits it (https://web.plc.directory/spec/v0.1/did-plc).

// typePDS is the service type of an account's host.
const typePDS = "AtprotoPersonalDataServer"

func (s *Service) sign(ctx context.Context, did syntax.DID, c plc.Change) (*didplc.RegularOp, error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	if did.Method() != "plc" {
		return nil, fmt.Errorf("%w: %s is not of did:plc", plc.ErrOperation, did)
	}
	last, err := s.Directory.Last(ctx, did)
	if err != nil {
		return nil, err
	}
	if last.Tombstone != nil {
		return nil, identity.ErrDeactivated
	}
	return plc.Update(last, c, s.RotationKey)
}

// submissions limits the operations that are sent to the directory, which counts
// them too: those of one account, and all of this server's together.
var submissions = []ratelimit.Limit{
	{Name: "plc-operations-5m", Points: 10, Window: 5 * time.Minute},
	{Name: "plc-operations-1d", Points: 50, Window: 24 * time.Hour},
}

// submit sends an operation to the directory and announces it to the network. It
// may be repeated: an operation that is the DID's last one is not sent again. If it
// breaks off, the check of identities, for which the account is due, does the rest.
func (s *Service) submit(ctx context.Context, a *account.Account, op *didplc.RegularOp) error {
	last, err := s.Directory.Last(ctx, a.DID)
	if err != nil {
		return err
	}
	if last.Regular == nil || last.Regular.CID() != op.CID() {
		if err := s.Documents.Doubt(ctx, a.ID); err != nil {
			return err
		}
		if err := s.Directory.Submit(ctx, a.DID, op); err != nil {
			return err
		}
	}
	return s.refresh(ctx, a)
}

// checkOperation returns an error if an account would no longer work here after an
// operation, in the reference's words and order.
func (s *Service) checkOperation(a *account.Account, op *didplc.RegularOp) error {
	server, err := s.RotationKey.PublicKey()
	if err != nil {
		return xrpc.Unavailable(err)
	}
	d, _ := plc.DataOf(didplc.OpEnum{Regular: op})
	switch {
	case !slices.Contains(op.RotationKeys, server.DIDKey()):
		return xrpc.InvalidRequest("Rotation keys do not include server's rotation key")
	case op.Services["atproto_pds"].Type != typePDS:
		return xrpc.InvalidRequest("Incorrect type on atproto_pds service")
	case d.PDS != s.URL:
		return xrpc.InvalidRequest("Incorrect endpoint on atproto_pds service")
	case d.SigningKey != a.SigningKey:
		return xrpc.InvalidRequest("Incorrect signing key")
	case len(op.AlsoKnownAs) == 0 || op.AlsoKnownAs[0] != "at://"+a.Handle.String():
		return xrpc.InvalidRequest("Incorrect handle in alsoKnownAs")
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
