package hosting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/plc"
)

// What the network says about an account's identity, compared with what is stored
// here, and how to make the network say the same.

// IdentityFact is one fact as both sides have it. Network is empty if the network
// says nothing about it.
type IdentityFact struct {
	What    string `json:"what"`
	Here    string `json:"here"`
	Network string `json:"network"`
}

// The names of the facts.
const (
	factHandle = "handle"
	factKey    = "signing key"
	factHost   = "host"
)

// Differs reports whether the sides differ.
func (f IdentityFact) Differs() bool { return f.Here != f.Network }

// IdentityReport is what was found.
type IdentityReport struct {
	// Facts are the handle, the signing key and the host.
	Facts []IdentityFact `json:"facts"`
	// RotationKeys are those of a did:plc, the one with the highest authority first;
	// Ours is this server's, and Control reports whether it is among them.
	RotationKeys []string `json:"rotationKeys,omitempty"`
	Ours         string   `json:"ours"`
	Control      bool     `json:"control"`
	// Proven: the handle leads to the account's DID.
	Proven bool `json:"proven"`
}

// Errors of RepairIdentity.
var (
	ErrMovedOut  = errors.New("the DID names another host: the account has moved out; nestbox identity repair --force brings it back here")
	ErrNoControl = errors.New("this server's rotation key is not among the DID's: only who holds one of those can change it")
	ErrNotPLC    = errors.New("a did:web is changed where its owner serves it")
)

// ShowIdentity asks the network, past every cache, for an account's identity.
func (s *Service) ShowIdentity(ctx context.Context, a *account.Account) (r IdentityReport, err error) {
	if r.Ours, err = s.serverKey(); err != nil {
		return r, err
	}
	if a.DID.Method() == "plc" {
		last, err := s.last(ctx, a.DID)
		if err != nil {
			return r, err
		}
		d, _ := plc.DataOf(last)
		r.Facts, r.RotationKeys, r.Control = s.facts(a, d), d.RotationKeys, slices.Contains(d.RotationKeys, r.Ours)
	} else {
		d, err := s.Resolver.Fresh(ctx, a.DID)
		if err != nil {
			return r, err
		}
		r.Facts = s.facts(a, plc.Data{Handle: d.Handle(), SigningKey: d.SigningKey(), PDS: d.PDS()})
	}
	back, err := s.Resolver.ProvenHandle(ctx, a.Handle)
	r.Proven = err == nil && back == a.DID
	return r, nil
}

// facts compares an account with what the network says about its identity.
func (s *Service) facts(a *account.Account, network plc.Data) []IdentityFact {
	return []IdentityFact{
		{factHandle, a.Handle.String(), network.Handle.Normalize().String()},
		{factKey, a.SigningKey, network.SigningKey},
		{factHost, s.URL, network.PDS},
	}
}

// RepairIdentity makes the DID name the account's handle and key, and this server,
// by one operation that leaves everything else as it is, and announces it to the
// network, even if nothing differed. An account that has moved out is only brought
// back with force. Errors: ErrMovedOut, ErrNoControl, ErrNotPLC, those of the
// directory.
func (s *Service) RepairIdentity(ctx context.Context, a *account.Account, force bool) (IdentityReport, error) {
	end, err := s.begin(a.DID)
	if err != nil {
		return IdentityReport{}, err
	}
	defer end()
	if a, err = s.Accounts.ByDID(ctx, a.DID); err != nil { // as it is now that no other request changes it
		return IdentityReport{}, err
	}
	r, err := s.ShowIdentity(ctx, a)
	if err != nil {
		return r, err
	}
	differs := slices.ContainsFunc(r.Facts, IdentityFact.Differs)
	elsewhere := slices.ContainsFunc(r.Facts, func(f IdentityFact) bool { return f.What == factHost && f.Differs() && f.Network != "" })
	switch {
	case !differs:
		return r, s.refresh(ctx, a)
	case a.DID.Method() != "plc":
		return r, ErrNotPLC
	case elsewhere && !force:
		return r, ErrMovedOut
	case !r.Control:
		return r, ErrNoControl
	}
	// If it breaks off from here on, the check of identities, for which the account is
	// due, does the rest.
	if err := s.Documents.Doubt(ctx, a.ID); err != nil {
		return r, err
	}
	if _, err := s.amend(ctx, a.DID, plc.Data{Handle: a.Handle, SigningKey: a.SigningKey, PDS: s.URL}); err != nil {
		return r, err
	}
	if err := s.refresh(ctx, a); err != nil {
		return r, err
	}
	return s.ShowIdentity(ctx, a)
}

// amend makes a did:plc name the handle, the key and the host in want, each if it is set,
// by one operation unless it names them already, and returns its document. A DID that
// names another host is only changed if want brings it back: ErrMovedOut.
func (s *Service) amend(ctx context.Context, did syntax.DID, want plc.Data) ([]byte, error) {
	last, err := s.Directory.Last(ctx, did)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", identity.ErrUnreached, err) // nothing was sent
	}
	now, ok := plc.DataOf(last)
	now.Handle = now.Handle.Normalize()
	switch {
	case ok && want.PDS == "" && now.PDS != "" && now.PDS != s.URL:
		return nil, ErrMovedOut
	case ok && cmp.Or(want.Handle, now.Handle) == now.Handle &&
		cmp.Or(want.SigningKey, now.SigningKey) == now.SigningKey && cmp.Or(want.PDS, now.PDS) == now.PDS:
		return plc.Document(did, last)
	}
	op, err := plc.Amend(last, want, s.RotationKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", identity.ErrRefused, err)
	}
	if err := s.Directory.Submit(ctx, did, op); err != nil {
		return nil, err
	}
	return plc.Document(did, didplc.OpEnum{Regular: op})
}

// untouched reports whether amend, or the directory, failed in a way that certainly left
// the DID as it was. After any other error the operation may still arrive.
func untouched(err error) bool {
	return errors.Is(err, identity.ErrUnreached) || errors.Is(err, identity.ErrRefused) || errors.Is(err, ErrMovedOut)
}
