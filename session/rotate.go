package session

import (
	"strconv"
	"time"

	"nestbox/account"
	"nestbox/mail"
)

// marksPerWindow is how many rotations are remembered for one reuse window: one
// for each eighth, so that the window is exact to an eighth and a burst of
// refreshes, however long, forgets nobody.
const marksPerWindow = 8

// flagInterval bounds how often the same suspicion is recorded.
const flagInterval = time.Hour

// Rules are the settings that the table depends on.
type Rules struct {
	// ReuseWindow is how long a token that was superseded twice still works.
	ReuseWindow time.Duration
	// RefreshTTL is the life of a refresh token.
	RefreshTTL time.Duration
	// Policy decides what a reuse after the window does to the session.
	Policy Policy
}

// Presentation is one refresh token shown to refreshSession.
type Presentation struct {
	Generation int64
	At         time.Time
	Network    string
	UserAgent  string
}

// Outcome is a row of the contract's table.
type Outcome int

// The rows.
const (
	// Advance: the head was presented; it moves on.
	Advance Outcome = iota + 1
	// Repeat: the head's predecessor was presented: the answer that carried the
	// head may have been lost, so it is given again.
	Repeat
	// Converge: an older one, superseded within the window, gets the head.
	Converge
	// Stale: an older one, superseded before the window, is refused.
	Stale
	// Ahead: a generation that this database has not seen. The signature proves
	// that we issued it, so the database is older than the token.
	Ahead
	// Theft: the right token of an OAuth session, by another program than its own.
	Theft
)

// Rotation is what a presentation leads to.
type Rotation struct {
	Outcome Outcome
	// Next is the session's state afterwards; it differs from the one before
	// only when Changed.
	Next    State
	Changed bool
	// Revoke: the session ends (PolicyRevoke). Next means nothing then.
	Revoke bool
	// Entries are recorded on the account's trail with the change, in this order, and
	// Mails are queued.
	Entries []account.Entry
	Mails   []mail.Message
}

// rotate is the contract's table: what a presented token of generation n leads to
// when the head is h. It is pure; the caller stores Next if Changed.
func rotate(s State, p Presentation, rules Rules) Rotation {
	now := p.At
	if now.Before(s.RotatedAt) {
		now = s.RotatedAt // a clock that went back makes no token older
	}
	r := Rotation{Next: s}
	switch n := p.Generation; {
	case n == s.Head:
		r.Outcome = Advance
		r.advance(p, now, s.Head+1, rules)
		return r
	case n > s.Head:
		r.Outcome = Ahead
		r.Entries = append(r.Entries, evidence(account.EntrySessionAhead, s, p))
		r.advance(p, now, n+1, rules)
		return r
	case n == s.Head-1:
		r.Outcome = Repeat
	case withinWindow(s, n, now, rules.ReuseWindow):
		r.Outcome = Converge
	default:
		r.Outcome = Stale
		r.suspect(account.EntrySuspectedReuse, s, p, now)
		if rules.Policy == PolicyRevoke {
			reuse := evidence(account.EntrySuspectedReuse, s, p)
			revoked := reuse
			revoked.Kind, revoked.Reason = account.EntrySessionRevoked, "refresh token reused"
			r.Entries = []account.Entry{reuse, revoked}
			r.Revoke, r.Changed = true, true
		}
		return r
	}
	// Where a session was used before it was taken over is not known.
	if s.Network != "" && p.Network != s.Network && p.UserAgent != s.UserAgent {
		r.suspect(account.EntrySuspectedSharing, s, p, now)
	}
	return r
}

// advance moves the head to generation to. If more than an eighth of the window
// lies between the last rotation and this one, the last one is remembered by a mark
// of its own; within one eighth the newest stands for all.
func (r *Rotation) advance(p Presentation, now time.Time, to int64, rules Rules) {
	s := &r.Next
	r.Changed = true
	slot := max(rules.ReuseWindow/marksPerWindow, 1)
	marks := make([]Mark, 0, marksPerWindow)
	for _, m := range s.Marks {
		if now.Sub(m.Time) < rules.ReuseWindow {
			marks = append(marks, m)
		} else {
			s.Floor = m.Generation
		}
	}
	if s.RotatedAt.UnixNano()/int64(slot) != now.UnixNano()/int64(slot) {
		marks = append(marks, Mark{Time: s.RotatedAt, Generation: s.Head})
	}
	if extra := len(marks) - marksPerWindow; extra > 0 {
		s.Floor = marks[extra-1].Generation
		marks = marks[extra:]
	}
	s.Marks = marks
	s.Head = to
	s.RotatedAt = now
	s.Expires = expires(s.Grant, now, rules)
	s.Network, s.UserAgent = p.Network, p.UserAgent
}

// expires returns when the refresh token of a generation made now expires.
func expires(g *Grant, now time.Time, rules Rules) time.Time {
	at := now.Add(rules.RefreshTTL)
	if g != nil && g.EndsAt.Before(at) {
		return g.EndsAt
	}
	return at
}

// withinWindow reports whether generation n < head-1 was superseded for good, that
// is, its successor n+1 was presented and the head moved to n+2 or beyond, less
// than window ago.
func withinWindow(s State, n int64, now time.Time, window time.Duration) bool {
	if n+2 <= s.Floor {
		return false
	}
	for _, m := range s.Marks {
		if m.Generation >= n+2 {
			return now.Sub(m.Time) < window
		}
	}
	return now.Sub(s.RotatedAt) < window
}

// suspect records a suspicion, at most one an interval, so that a client stuck
// in a loop fills neither the trail nor the disk.
func (r *Rotation) suspect(kind account.EntryKind, s State, p Presentation, now time.Time) {
	if !s.FlaggedAt.IsZero() && now.Sub(s.FlaggedAt) < flagInterval {
		return
	}
	r.Next.FlaggedAt = now
	r.Changed = true
	r.Entries = append(r.Entries, evidence(kind, s, p))
}

// evidence returns an entry that names both sides: the client that presented the
// token, and the one that had moved the head.
func evidence(kind account.EntryKind, s State, p Presentation) account.Entry {
	return account.Entry{
		At: p.At, Kind: kind, By: account.ActorServer, Session: s.ID,
		Reason:  "generation " + strconv.FormatInt(p.Generation, 10) + " presented, head was " + strconv.FormatInt(s.Head, 10),
		Network: p.Network, UserAgent: p.UserAgent,
		OtherNetwork: s.Network, OtherUserAgent: s.UserAgent,
	}
}
