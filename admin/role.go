package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

// Role is what a person may do on the admin page. It is stored, so its text never changes.
type Role string

// The roles. A moderator may do what moderators may by XRPC.
const (
	RoleAdmin     Role = "admin"
	RoleModerator Role = "moderator"
)

// Holds reports whether a person of the role may do what needs another.
func (r Role) Holds(needed Role) bool {
	return r == RoleAdmin || r == RoleModerator && needed == RoleModerator
}

// Holder is an account that has a role.
type Holder struct {
	DID    syntax.DID
	Handle syntax.Handle
	Role   Role
	At     time.Time
}

// The arguments of commands about roles.
type (
	RoleArgs struct {
		Account string `json:"account"`
		Role    Role   `json:"role"`
	}
)

// RoleLine is an account that has a role, as lists show it.
type RoleLine struct {
	DID    string `json:"did"`
	Handle string `json:"handle"`
	Role   Role   `json:"role"`
	At     string `json:"givenAt,omitzero"`
}

func (s *Service) addRole(ctx context.Context, a RoleArgs) (RoleLine, error) {
	if a.Role != RoleAdmin && a.Role != RoleModerator {
		return RoleLine{}, fmt.Errorf("role %q: use %s or %s", a.Role, RoleAdmin, RoleModerator)
	}
	return s.setRole(ctx, a.Account, a.Role, s.action(ctx, ActionRoleGiven, "", "", string(a.Role)))
}

func (s *Service) removeRole(ctx context.Context, a AccountArgs) (RoleLine, error) {
	return s.setRole(ctx, a.Account, "", s.action(ctx, ActionRoleTaken, "", "", ""))
}

func (s *Service) setRole(ctx context.Context, who string, role Role, act Action) (RoleLine, error) {
	acc, err := s.find(ctx, who)
	if err != nil {
		return RoleLine{}, err
	}
	act.DID = acc.DID
	if err := s.Entries.SetRole(ctx, acc.ID, role, act); err != nil {
		return RoleLine{}, err
	}
	return RoleLine{DID: acc.DID.String(), Handle: acc.Handle.String(), Role: role, At: datetime(act.At)}, nil
}

func (s *Service) listRoles(ctx context.Context, _ Done) ([]RoleLine, error) {
	holders, err := s.Entries.Roles(ctx)
	if err != nil {
		return nil, err
	}
	lines := []RoleLine{}
	for _, h := range holders {
		lines = append(lines, RoleLine{h.DID.String(), h.Handle.String(), h.Role, datetime(h.At)})
	}
	return lines, nil
}

// EntranceStore keeps the roles, and who is signed in on the admin page. Every method is one
// transaction, durable when it returns nil.
type EntranceStore interface {
	// SetRole gives an account a role, or takes it away ("") and ends its sessions on the
	// admin page; the audit log gets a. account.ErrNotFound.
	SetRole(ctx context.Context, id int64, role Role, a Action) error
	// Roles returns every account that has one, by handle.
	Roles(ctx context.Context) ([]Holder, error)
	// Enter stores a session and notes a. Sessions that Expired says are over by now are
	// removed.
	Enter(ctx context.Context, p Presence, a Action) error
	// Present returns the session of a cookie's hash, with the account as it is now:
	// ErrSignedOut.
	Present(ctx context.Context, hash [HashSize]byte) (Presence, error)
	// Seen notes when and where a session was last used. One that is gone is not an error.
	Seen(ctx context.Context, hash [HashSize]byte, at time.Time, network string) error
	// Exit removes a session, if it is there, and then notes a.
	Exit(ctx context.Context, hash [HashSize]byte, a Action) error
}

// HashSize is that of a cookie's hash, in bytes.
const HashSize = 32

// Presence is a session on the admin page.
type Presence struct {
	Hash [HashSize]byte
	// AccountID is 0 for a session of the admin password, and Password then its keyed hash.
	AccountID int64
	Password  []byte
	// Epoch is that of the account's credentials at the sign-in.
	Epoch   int64
	MadeAt  time.Time
	SeenAt  time.Time
	Network string
	// Account, Role and Now are what a store knows of the account at present: Now is the
	// epoch of its credentials, Role is empty if it has none.
	Account *account.Account
	Role    Role
	Now     int64
}
