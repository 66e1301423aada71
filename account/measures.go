package account

import (
	"errors"
	"time"
)

// Measures are what moderators have decided about a DID. They outlive its account: when
// the DID moves in again, they are in force again. Only moderators lift them. They hold
// no personal data.
type Measures struct {
	TakenDownAt time.Time
	// TakedownRef is the moderators' reference of the case.
	TakedownRef string
	SuspendedAt time.Time
	// InvitesDisabled: the account earns no invite codes that work.
	InvitesDisabled bool
}

// Errors of what a measure forbids.
var (
	// ErrTakenDown: the account is taken down.
	ErrTakenDown = errors.New("account is taken down")
	// ErrHeld: a takedown or a suspension stands, so the owner cannot delete the account.
	ErrHeld = errors.New("account cannot be deleted while a takedown or a suspension stands")
)

// Any reports whether a measure is in force.
func (m Measures) Any() bool { return m != Measures{} }

// With returns the measures after a change at now. A measure that is in force already
// keeps its date.
func (m Measures) With(c StatusChange, now time.Time) Measures {
	if t := c.Takedown; t != nil {
		m.TakenDownAt = dated(t.Applied, m.TakenDownAt, now)
		m.TakedownRef = ""
		if t.Applied {
			m.TakedownRef = t.Ref
		}
	}
	if c.Suspended != nil {
		m.SuspendedAt = dated(*c.Suspended, m.SuspendedAt, now)
	}
	if c.InvitesDisabled != nil {
		m.InvitesDisabled = *c.InvitesDisabled
	}
	return m
}

// MayLeave returns ErrHeld while the owner must not delete the account: a deleted
// account's content is gone, and with it what a moderator looks at.
func (m Measures) MayLeave() error {
	if !m.TakenDownAt.IsZero() || !m.SuspendedAt.IsZero() {
		return ErrHeld
	}
	return nil
}

// Leaving is what proved an owner who deletes the account.
type Leaving struct {
	// Epoch is that of the credentials that were checked: see Credentials.
	Epoch int64
	// Code was sent for this.
	Code Proof
}

// Check returns why an owner who was proven cannot delete the account after all, by the
// account's present measures and epoch: ErrHeld, ErrPasswordChanged.
func (l Leaving) Check(m Measures, epoch int64) error {
	if err := m.MayLeave(); err != nil {
		return err
	}
	if epoch != l.Epoch {
		return ErrPasswordChanged
	}
	return nil
}

// MayMoveIn returns ErrTakenDown if a DID with these measures must not get an account
// here. A suspended DID may: its account is suspended from the start.
func (m Measures) MayMoveIn() error {
	if !m.TakenDownAt.IsZero() {
		return ErrTakenDown
	}
	return nil
}
