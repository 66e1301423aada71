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
	"nestbox/plc"
	"nestbox/ratelimit"
	"nestbox/request"
)

// Rotation keys, for owners who know no PLC: whose each is, and one operation that adds or
// removes one, as SubmitOperation sends it.

// MaxRotationKeys is how many an identity has at most: the specification's limit
// (https://web.plc.directory/spec/v0.1/did-plc), which not every directory enforces.
const MaxRotationKeys = 5

// historyShown is how many operations of a log are shown: the signatures of each are checked.
const historyShown = 50

// identityLooks limits how often one account's owner asks the directory for its log.
var identityLooks = ratelimit.Limit{Name: "identity-looks", Points: 60, Window: 5 * time.Minute}

// KeyHolder is who has a rotation key, as far as this server can know.
type KeyHolder string

// The holders. HeldByOwner is a key that somebody who was signed in to the account has added
// through this server, which the trail still names.
const (
	HeldByServer   KeyHolder = "server"
	HeldByOperator KeyHolder = "operator"
	HeldByOwner    KeyHolder = "owner"
	HeldByUnknown  KeyHolder = "unknown"
)

// RotationKey is a rotation key of an identity.
type RotationKey struct {
	Key    string // did:key
	Holder KeyHolder
	// Since is when it came in, zero if the log does not tell; Added when HeldByOwner added it.
	Since, Added time.Time
}

// Control is who controls a did:plc.
type Control struct {
	// Head is the CID of its newest operation, which the next one must name.
	Head string
	// Keys are the rotation keys, the strongest first.
	Keys []RotationKey
	// Ours: this server's key is among them. Fits: the identity names this server, and the
	// account's handle and key; else nothing can be changed here.
	Ours, Fits bool
	// Steps are the newest operations, the newest first, Total is how many there are: LogErr
	// is why the log could not be read.
	Steps  []plc.Step
	Total  int
	LogErr error
}

// Holder returns who has a key, of the identity or of its past.
func (c *Control) Holder(key string) KeyHolder {
	for _, k := range c.Keys {
		if k.Key == key {
			return k.Holder
		}
	}
	return HeldByUnknown
}

// Errors of PlanRotation and ChangeRotation, besides ErrNotPLC and ErrNoControl.
var (
	ErrKeyThere   = errors.New("the rotation key is there already")
	ErrKeyRoom    = errors.New("there is no room for another rotation key")
	ErrKeySigning = errors.New("it is the key that signs the account's records, which this server has")
	ErrKeyServer  = errors.New("this server's rotation key stays while the account lives here")
	ErrUnfit      = errors.New("the identity names another handle, key or server than this server does")
	// ErrHeadMoved: the identity was changed since the owner looked at it.
	ErrHeadMoved = errors.New("the identity was changed meanwhile")
)

// ShowControl asks the directory who controls an account's identity. Errors: ErrNotPLC,
// identity.ErrNotRegistered, identity.ErrDeactivated, request.ErrTooMany, those of a
// directory that does not answer.
func (s *Service) ShowControl(ctx context.Context, a *account.Account) (c Control, err error) {
	if a.DID.Method() != "plc" {
		return c, ErrNotPLC
	}
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, identityLooks); err != nil {
		return c, err
	}
	last, err := s.last(ctx, a.DID)
	if err != nil {
		return c, err
	}
	log, err := s.log(ctx, a.DID)
	c.Steps, c.Total, c.LogErr = plc.History(log, historyShown), len(log), err
	return c, s.control(ctx, a, last, log, &c)
}

// log returns the whole log of a did:plc.
func (s *Service) log(ctx context.Context, did syntax.DID) ([]plc.Entry, error) {
	raw, err := s.Directory.Log(ctx, did)
	if err != nil {
		return nil, err
	}
	return plc.ReadLog(raw)
}

// control fills in what an identity's newest operation says, and when each key came.
func (s *Service) control(ctx context.Context, a *account.Account, last didplc.OpEnum, log []plc.Entry, c *Control) error {
	server, err := s.serverKey()
	if err != nil {
		return err
	}
	trail, err := s.Accounts.Trail(ctx, a.ID, account.TrailLimit)
	if err != nil {
		return err
	}
	added := map[string]time.Time{}
	for _, e := range slices.Backward(trail) { // the newest counts
		if e.Kind == account.EntryRotationKeys && e.By == account.ActorOwner {
			came, gone := account.ParseKeysChanged(e.Reason)
			for _, k := range came {
				added[k] = e.At
			}
			for _, k := range gone {
				delete(added, k)
			}
		}
	}
	d, _ := plc.DataOf(last) // last makes sure that it is no tombstone
	c.Head, c.Ours = plc.Head(last), slices.Contains(d.RotationKeys, server)
	for _, key := range d.RotationKeys {
		k := RotationKey{Key: key, Holder: HeldByUnknown, Since: plc.Since(log, key)}
		switch at, ok := added[key]; {
		case key == server:
			k.Holder = HeldByServer
		case key == s.RecoveryKey:
			k.Holder = HeldByOperator
		case ok:
			k.Holder, k.Added = HeldByOwner, at
		}
		c.Keys = append(c.Keys, k)
	}
	c.Fits = !slices.ContainsFunc(s.facts(a, d), IdentityFact.Differs)
	return nil
}

// serverKey returns this server's rotation key (did:key).
func (s *Service) serverKey() (string, error) {
	key, err := s.RotationKey.PublicKey()
	if err != nil {
		return "", fmt.Errorf("read rotation key: %w", err)
	}
	return key.DIDKey(), nil
}

// RotationChange is what an owner wants: to add a key, above this server's or below all, or to
// remove one.
type RotationChange struct {
	Add    string
	Above  bool
	Remove string
}

// RotationPlan is an operation that was not sent.
type RotationPlan struct {
	Control

	// After are the rotation keys that the identity has after it; the same if it has them
	// already.
	After []RotationKey
}

// PlanRotation returns what a change would do. Errors: those of ShowControl, ErrNoControl,
// ErrUnfit, ErrKeyThere, ErrKeyRoom, ErrKeySigning, ErrKeyServer.
func (s *Service) PlanRotation(ctx context.Context, a *account.Account, change RotationChange) (p RotationPlan, err error) {
	if p.Control, err = s.ShowControl(ctx, a); err != nil {
		return p, err
	}
	keys, err := s.rotated(a, &p.Control, change)
	for _, key := range keys {
		k := RotationKey{Key: key, Holder: HeldByOwner}
		if i := slices.IndexFunc(p.Keys, func(k RotationKey) bool { return k.Key == key }); i >= 0 {
			k = p.Keys[i]
		}
		p.After = append(p.After, k)
	}
	if err == nil && change.Add != "" && len(keys) == len(p.Keys) {
		err = ErrKeyThere
	}
	return p, err
}

// rotated returns the rotation keys of an identity after a change: the same if they are so
// already.
func (s *Service) rotated(a *account.Account, c *Control, change RotationChange) ([]string, error) {
	server, err := s.serverKey()
	if err != nil {
		return nil, err
	}
	var now []string
	for _, k := range c.Keys {
		now = append(now, k.Key)
	}
	switch {
	case !c.Fits:
		return now, ErrUnfit
	case !c.Ours:
		return now, ErrNoControl
	case change.Remove != "":
		if change.Remove == server {
			return now, ErrKeyServer
		}
		return slices.DeleteFunc(now, func(k string) bool { return k == change.Remove }), nil
	case change.Add == a.SigningKey:
		return now, ErrKeySigning
	}
	// Above: ahead of the server's and the operator's, so that neither outranks it. Whatever
	// else is above them stays so.
	at := len(now)
	if change.Above {
		at = slices.IndexFunc(now, func(k string) bool { return k == server || k == s.RecoveryKey })
	}
	if is := slices.Index(now, change.Add); is >= 0 {
		if change.Add != server && (is < at == change.Above || is == len(now)-1 && !change.Above) {
			return now, nil
		}
		return now, ErrKeyThere
	}
	if len(now) >= MaxRotationKeys {
		return now, ErrKeyRoom
	}
	return slices.Insert(now, at, change.Add), nil
}

// ChangeRotation sends the operation that PlanRotation has shown to the owner, whose head the
// identity must still have: ErrHeadMoved. What is so already is a success. Errors: those of
// PlanRotation and SubmitOperation.
func (s *Service) ChangeRotation(ctx context.Context, a *account.Account, head string, change RotationChange) error {
	end, err := s.begin(a.DID)
	if err != nil {
		return err
	}
	defer end()
	if a, err = s.Accounts.ByDID(ctx, a.DID); err != nil { // as it is now that no other request changes it
		return err
	}
	if a.DID.Method() != "plc" {
		return ErrNotPLC
	}
	last, err := s.last(ctx, a.DID)
	if err != nil {
		return fmt.Errorf("%w: %w", identity.ErrUnreached, err) // nothing was sent
	}
	var c Control
	if err := s.control(ctx, a, last, nil, &c); err != nil {
		return err
	}
	keys, err := s.rotated(a, &c, change)
	switch {
	case err != nil && c.Head != head:
		return ErrHeadMoved
	case err != nil:
		return err
	case len(keys) == len(c.Keys):
		return s.refresh(ctx, a)
	case c.Head != head:
		return ErrHeadMoved
	}
	op, err := plc.Update(last, plc.Change{RotationKeys: keys}, s.RotationKey)
	if err != nil {
		return fmt.Errorf("%w: %w", identity.ErrRefused, err)
	}
	return s.send(ctx, a, op)
}

// RecommendedDocument returns the DID document, JSON, that an account hosted here should have:
// the owner of a did:web serves it.
func (s *Service) RecommendedDocument(a *account.Account) ([]byte, error) {
	c, err := s.Recommended(a)
	if err != nil {
		return nil, err
	}
	return plc.Document(a.DID, didplc.OpEnum{Regular: &didplc.RegularOp{
		AlsoKnownAs: c.AlsoKnownAs, VerificationMethods: c.VerificationMethods, Services: c.Services,
	}})
}
