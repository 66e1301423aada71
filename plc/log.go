package plc

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"
)

// RecoveryWindow is how long a stronger rotation key may undo an operation.
const RecoveryWindow = 72 * time.Hour

// Entry is one operation of a DID's log.
type Entry struct {
	Operation didplc.OpEnum
	CID       string
	CreatedAt time.Time
	// Nullified: a later operation by a stronger key undid it.
	Nullified bool
}

// Errors of Append.
var (
	ErrMisordered   = errors.New("operations not correctly ordered")
	ErrSignature    = errors.New("invalid signature on operation")
	ErrLateRecovery = errors.New("recovery operation outside of the 72 h window")
	ErrGenesisHash  = errors.New("hash of genesis operation does not match the DID")
)

// Append returns the log of did with one more operation, made at the time now. The
// first operation makes the DID; each other follows the last one that stands, or, if
// signed by a stronger key than the operation that it undoes and within
// RecoveryWindow of it, an earlier one. Append does not change log.
func Append(did syntax.DID, log []Entry, op didplc.OpEnum, now time.Time) ([]Entry, error) {
	o := op.AsOperation()
	if err := Check(o); err != nil {
		return nil, err
	}
	next := Entry{Operation: op, CID: o.CID().String(), CreatedAt: now}
	if len(log) == 0 {
		return []Entry{next}, checkGenesis(did, o)
	}
	if op.Legacy != nil || o.IsGenesis() {
		return nil, ErrMisordered
	}
	var standing []int // positions in log of the operations that are not nullified
	prev := -1         // position in standing
	for i, e := range log {
		if e.Nullified {
			continue
		}
		if e.CID == o.PrevCIDStr() {
			prev = len(standing)
		}
		standing = append(standing, i)
	}
	if prev < 0 {
		return nil, ErrMisordered
	}
	before := log[standing[prev]].Operation
	if before.Tombstone != nil {
		return nil, ErrMisordered
	}
	keys := before.AsOperation().EquivalentRotationKeys()
	undone := standing[prev+1:]
	if len(undone) > 0 {
		first := log[undone[0]]
		signer, err := didplc.VerifySignatureAny(first.Operation.AsOperation(), keys)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSignature, err)
		}
		keys = keys[:signer]
		if late := now.Sub(first.CreatedAt); late > RecoveryWindow {
			return nil, fmt.Errorf("%w: %s elapsed", ErrLateRecovery, late)
		}
	}
	if _, err := didplc.VerifySignatureAny(o, keys); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	out := append(make([]Entry, 0, len(log)+1), log...)
	for _, i := range undone {
		out[i].Nullified = true
	}
	return append(out, next), nil
}

func checkGenesis(did syntax.DID, o didplc.Operation) error {
	if !o.IsGenesis() {
		return ErrMisordered
	}
	if _, err := didplc.VerifySignatureAny(o, o.EquivalentRotationKeys()); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	made, err := o.DID()
	if err != nil {
		return improper("%v", err)
	}
	if made != did.String() {
		return fmt.Errorf("%w: %s", ErrGenesisHash, made)
	}
	return nil
}

// Last returns the last operation of a log, the one that stands.
func Last(log []Entry) (Entry, bool) {
	for _, e := range slices.Backward(log) {
		if !e.Nullified {
			return e, true
		}
	}
	return Entry{}, false
}
