package admin

import (
	"context"
	"errors"

	"nestbox/account"
	"nestbox/mail"
)

// MailTested is how a test message went.
type MailTested struct {
	To     string `json:"to"`
	Server string `json:"server"`
	// Transcript is the conversation, without the sign-in and the message.
	Transcript string `json:"transcript"`
	// Error is empty if the mail server accepted the message.
	Error string `json:"error,omitempty"`
}

// The arguments of commands about mail.
type (
	MailTestArgs struct {
		To string `json:"to"`
	}
	SwitchArgs struct {
		Account string `json:"account"`
		On      bool   `json:"on"`
	}
)

func (s *Service) testMail(ctx context.Context, a MailTestArgs) (MailTested, error) {
	if err := s.Store.Note(ctx, s.action(ctx, ActionMailTested, "", "", "")); err != nil {
		return MailTested{}, err
	}
	return s.TestMail(ctx, a.To)
}

// setNotices turns an account's notices on or off.
func (s *Service) setNotices(ctx context.Context, a SwitchArgs) (AccountLine, error) {
	return s.change(ctx, a.Account, func(acc *account.Account) (*account.Account, error) {
		kind := account.EntryNoticesOff
		if a.On {
			kind = account.EntryNoticesOn
		}
		return acc, s.Accounts.SetNotices(ctx, acc.ID, a.On, s.entry(ctx, kind))
	})
}

// errCodesOn: sign-in codes are for the owner to ask for.
var errCodesOn = errors.New("only the owner can turn sign-in codes on, in an app")

// setFactor turns off sign-in codes of an owner who does not get them any more.
func (s *Service) setFactor(ctx context.Context, a SwitchArgs) (AccountLine, error) {
	if a.On {
		return AccountLine{}, errCodesOn
	}
	return s.change(ctx, a.Account, func(acc *account.Account) (*account.Account, error) {
		e := s.entry(ctx, account.EntryFactorOff)
		c := account.EmailChange{Factor: new(false)}
		return acc, s.Accounts.SetEmail(ctx, acc.ID, c, e, s.Notices.Of(acc, mail.NoticeFactorOff, e, "")...)
	})
}

// MailWaiting is how many messages wait.
type MailWaiting struct {
	Messages int64 `json:"messages"`
}

// retryMail makes every message that waits due now.
func (s *Service) retryMail(ctx context.Context, _ Done) (MailWaiting, error) {
	n, err := s.Views.RetryNow(ctx, s.action(ctx, ActionMailRetried, "", "", ""))
	if err == nil && s.Outbox != nil {
		s.Outbox.Wake()
	}
	return MailWaiting{n}, err
}
