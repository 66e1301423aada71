package device

import (
	"slices"
	"time"

	"nestbox/account"
)

// What changes of an account do to its browsers: pure functions that a store runs inside
// the transaction of the change.

// Ending is what a change of an account ends on its browsers.
type Ending struct {
	// SignIns: the account is signed out on all of them, and none is trusted.
	SignIns bool
	// Trust: each needs the second factor again.
	Trust bool
}

// EndingOf returns what a change ends, by the entry that records it. A deletion needs no
// row: the sign-ins go with the account.
func EndingOf(kind account.EntryKind) Ending {
	switch kind { //nolint:exhaustive // the others end nothing
	case account.EntryPasswordChanged, account.EntryTakedown, account.EntryAllSignedOut:
		return Ending{SignIns: true, Trust: true}
	case account.EntryFactorOn, account.EntryTOTPOn, account.EntryPasskeyAdded, account.EntryPasskeySecondOn:
		return Ending{Trust: true}
	default:
		return Ending{}
	}
}

// Held is a sign-in as it counts against a bound.
type Held struct {
	Browser, AccountID int64
	UsedAt             time.Time
}

// MakeRoom returns which of the sign-ins held, of one browser or of one account, end so
// that one more keeps within a limit: those that were unused for longest. It is pure;
// held may be in any order, and is sorted.
func MakeRoom(held []Held, limit int) []Held {
	over := min(len(held)+1-limit, len(held))
	if over <= 0 {
		return nil
	}
	slices.SortFunc(held, func(a, b Held) int { return a.UsedAt.Compare(b.UsedAt) })
	return held[:over]
}

// Swept returns a browser without what has ended by itself, and whether anything has:
// sign-ins that are unused for too long, unless their trust goes on. gone: nobody is
// signed in on it, and it was not seen for EmptyLife.
func Swept(b Browser, now time.Time) (next Browser, changed, gone bool) {
	next = b
	next.SignIns = b.without(func(s *SignIn) bool { return !s.Live(now) && !s.Trusted(now) })
	gone = len(next.SignIns) == 0 && !within(b.SeenAt, EmptyLife, now)
	return next, len(next.SignIns) < len(b.SignIns), gone
}
