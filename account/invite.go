package account

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// InviteCode lets its bearer sign up.
type InviteCode struct {
	Code      string
	Available int // uses in all
	// Uses are the sign-ups with it, the latest first.
	Uses     []InviteUse
	Disabled bool
	// ForAccount is the DID of the account that may give it away, or InvitesByAdmin;
	// CreatedBy is its maker: an account earns its own.
	ForAccount string
	CreatedBy  string
	CreatedAt  time.Time
}

// InvitesByAdmin is whose the codes are that nobody earned.
const InvitesByAdmin = "admin"

// InviteUse is one sign-up with an invite code.
type InviteUse struct {
	UsedBy syntax.DID
	UsedAt time.Time
}

// Admits returns ErrInviteUsed if the code does not let a DID sign up: it is disabled, or
// used up, or the account that may give it away is taken down. used counts the sign-ups
// with the code; again reports whether one of them is the DID's own, which counts once.
// owner are the measures against ForAccount, none if that is InvitesByAdmin.
func (c InviteCode) Admits(used int, again bool, owner Measures) error {
	if c.Disabled || !owner.TakenDownAt.IsZero() || used >= c.Available && !again {
		return ErrInviteUsed
	}
	return nil
}

// InviteStore keeps invite codes. A use is part of a sign-up: see hosting.Store.
type InviteStore interface {
	AddInviteCodes(ctx context.Context, codes []InviteCode) error
	// InviteCodes returns codes by their text; those that do not exist are left
	// out.
	InviteCodes(ctx context.Context, codes []string) ([]InviteCode, error)
	// InviteCodesFor returns the codes made for an account, the oldest first.
	InviteCodesFor(ctx context.Context, did syntax.DID) ([]InviteCode, error)
	// EarnInviteCodes adds the codes that decide makes of an account and of those
	// made for it. Nothing comes in between. ErrNotFound.
	EarnInviteCodes(ctx context.Context, id int64, decide func(a *Account, own []InviteCode) []InviteCode) error
	// ListInviteCodes returns a page of all codes.
	ListInviteCodes(ctx context.Context, q InviteQuery) ([]InviteCode, error)
	// DisableInviteCodes disables codes by their text, and those made for owners.
	// An unknown code or owner is not an error. It returns how many were in force.
	DisableInviteCodes(ctx context.Context, codes, owners []string) (int, error)
}

// InviteQuery asks for a page of invite codes: the newest first, or those used most
// where ByUsage is set. The page begins behind After: a code, and its time of
// creation or its uses.
type InviteQuery struct {
	ByUsage bool
	Limit   int
	After   *InvitePlace
}

// InvitePlace is where a code stands in a list.
type InvitePlace struct {
	CreatedAt time.Time
	Uses      int64
	Code      string
}

// NewInviteCode returns a code: the host's name, with dashes so that it is no link,
// and 50 random bits.
func NewInviteCode(hostname string) string {
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	s := strings.ToLower(base32.StdEncoding.EncodeToString(raw))
	return strings.ReplaceAll(hostname, ".", "-") + "-" + s[:5] + "-" + s[5:10]
}

// maxUnusedInvites is how many codes of its own an account has that nobody used.
const maxUnusedInvites = 5

// invitesEarned is how many more codes an account has earned: one for each whole
// interval of its life that ended after epoch, less those that it made since then.
// Codes that the admin gave away do not count.
func invitesEarned(created, epoch, now time.Time, interval time.Duration, own []InviteCode) int {
	unused, since := 0, 0
	for _, c := range own {
		if c.CreatedBy == InvitesByAdmin {
			continue
		}
		if !c.Disabled && c.Available > len(c.Uses) {
			unused++
		}
		if c.CreatedAt.After(epoch) {
			since++
		}
	}
	earned := int(now.Sub(created) / interval)
	if created.Before(epoch) {
		earned -= int(epoch.Sub(created) / interval)
	}
	return max(0, min(maxUnusedInvites-unused, earned-since))
}
