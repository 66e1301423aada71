package device

import (
	"context"
	"time"

	"nestbox/account"
	"nestbox/mail"
)

// New is a sign-in to be made.
type New struct {
	// Browser is the number in the cookie that came, 0 for none. Turn, which is pure,
	// decides what becomes of that browser, and which sign-in is stored; SignIns that next
	// lacks end. If it reports false, the cookie is not of that browser: then, as without
	// one, Secret is that of a new browser, and SignIn is stored.
	Browser int64
	Turn    func(Browser) (next Browser, in SignIn, known bool)
	Secret  Secret
	SignIn  SignIn

	// Epoch is that of the credentials that were checked.
	Epoch     int64
	Network   string
	UserAgent string
	// Entry is the sign-in, as the trail records it; the store adds the browser's number.
	Entry account.Entry
	// Code, if set, was asked for besides the password; it is used up.
	Code *account.Proof
	// Mails are queued with the sign-in.
	Mails []mail.Message
}

// Change is what a decision makes of a browser.
type Change struct {
	// Next is the browser as it becomes. SignIns that it lacks end; it has no new ones.
	Next Browser
	// Changed: Next is to be stored.
	Changed bool
	// Entries are for the trails of accounts.
	Entries []Noted
	// Code, if set, is used up: account.ErrCodeInvalid if another request was quicker.
	Code *account.Proof
}

// Noted is an entry for the trail of an account.
type Noted struct {
	AccountID int64
	Entry     account.Entry
}

// Store keeps browsers. Every method is one transaction; what it returned without error is
// durable. A read sees what was committed before it, by any server.
type Store interface {
	// SignIn stores a sign-in, in the place of an earlier one of the account on the browser,
	// and returns the browser as it is then. Sign-ins that MakeRoom names end. ErrChanged:
	// the account is gone or its credentials have changed, see New.Epoch.
	// account.ErrCodeInvalid: New.Code was used up.
	SignIn(ctx context.Context, n New) (Browser, error)
	// Change applies decide to a browser atomically. decide is pure and may be called
	// several times; its error is returned as it is and changes nothing. ErrUnknown: there
	// is no such browser.
	Change(ctx context.Context, id int64, decide func(Browser) (Change, error)) (Change, error)
	// Inherited returns the number of the browser that was taken over with a secret: see
	// InheritedHash. ErrUnknown: there is none.
	Inherited(ctx context.Context, hash [HashSize]byte) (int64, error)
	// ForgetInherited forgets which browsers were taken over, if that was before a time. They
	// stay.
	ForgetInherited(ctx context.Context, before time.Time) error
	// List returns the browsers on which an account is signed in, latest used first, each
	// with the sign-in of that account alone.
	List(ctx context.Context, accountID int64) ([]Browser, error)
	// EndAll ends every session of an account, as session.Store.EndAll does, and its
	// sign-ins on all browsers except keep (0: none), and records e. It returns how many
	// sessions and how many sign-ins there were.
	EndAll(ctx context.Context, accountID, keep int64, e account.Entry) (sessions, signIns int, err error)
	// Collect looks at a bounded number of browsers above after and applies Swept to each;
	// it returns where to go on, 0 at the end, and how many browsers it removed.
	Collect(ctx context.Context, after int64, now time.Time) (next int64, removed int, err error)
}
