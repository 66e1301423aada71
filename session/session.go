package session

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"nestbox/auth"
)

// Policy decides what happens to a session whose superseded token comes back after
// the reuse window.
type Policy string

// The policies of PDS_SESSION_REUSE_POLICY.
const (
	// PolicyReport refuses the token and records it; the session lives on.
	PolicyReport Policy = "report"
	// PolicyRevoke ends the session as well.
	PolicyRevoke Policy = "revoke"
)

// State is a session as it is stored.
type State struct {
	// ID numbers the session in the store, from 1; an ID is not given twice.
	ID int64
	// Nonce is in every token beside the ID: after a restore from a backup the store
	// gives some numbers a second time, but not with the same nonce.
	Nonce string
	// AccountID is the account's number in the store.
	AccountID int64
	// Scope is that of the access tokens.
	Scope auth.Scope
	// AppPasswordID and AppPassword (its name) are set for a session that an
	// app password opened.
	AppPasswordID int64
	AppPassword   string
	// Grant is set for the session of an OAuth client. It is shared by all copies of the
	// State, and never changed in place.
	Grant *Grant

	CreatedAt time.Time
	// Head is the newest generation; RotatedAt is when it came to be.
	Head      int64
	RotatedAt time.Time
	// Marks are earlier rotations inside the reuse window, oldest first: see
	// Mark. Generations that were superseded so long ago that their mark was
	// dropped lie at or below Floor.
	Marks []Mark
	Floor int64
	// Expires is when the newest refresh token expires at the latest, counted
	// from RotatedAt.
	Expires time.Time
	// Network and UserAgent are those of the request that moved the head.
	Network   string
	UserAgent string
	// FlaggedAt is when something suspicious was last recorded.
	FlaggedAt time.Time
}

// Mark remembers that at Time the head moved to Generation.
type Mark struct {
	Time       time.Time
	Generation int64
}

// SID names the session in tokens.
func (s *State) SID() string {
	return strconv.FormatInt(s.ID, 36) + "-" + s.Nonce
}

// JTI names one generation of the session: the same string whenever that
// generation is minted.
func (s *State) JTI(generation int64) string {
	return s.SID() + "." + strconv.FormatInt(generation, 10)
}

// parseSID splits a SID into the store's number and the nonce.
func parseSID(sid string) (id int64, nonce string, ok bool) {
	num, nonce, ok := strings.Cut(sid, "-")
	if !ok || nonce == "" {
		return 0, "", false
	}
	id, err := strconv.ParseInt(num, 36, 64)
	return id, nonce, err == nil && id > 0 && strconv.FormatInt(id, 36) == num
}

// parseJTI returns the generation that a token ID of the session sid names.
func parseJTI(jti, sid string) (generation int64, ok bool) {
	num, found := strings.CutPrefix(jti, sid+".")
	if !found {
		return 0, false
	}
	n, err := strconv.ParseInt(num, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == num
}

// Errors of the package.
var (
	// ErrUnknown: no such session: never made, or ended.
	ErrUnknown = errors.New("no such session")
	// ErrReused: a refresh token that was superseded longer ago than the reuse
	// window.
	ErrReused = errors.New("refresh token was superseded")
	// ErrMismatch: a token whose jti does not fit its sid.
	ErrMismatch = errors.New("token id does not fit its session")
	// ErrEnded: an OAuth session that has lived as long as it may.
	ErrEnded = errors.New("session has reached its end")
	// ErrTheft: a token of an OAuth session that another program presents.
	ErrTheft = errors.New("token belongs to another program")
)
