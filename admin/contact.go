package admin

import (
	"context"
	"errors"

	"nestbox/account"
	"nestbox/mail"
)

// SetEmail gives an account another address: account.ErrEmail,
// account.ErrEmailTaken.
func (s *Service) SetEmail(ctx context.Context, a *account.Account, email string) error {
	email, err := account.CheckEmail(email)
	if err != nil {
		return err
	}
	e := s.entry(ctx, account.EntryEmailChanged)
	return s.Accounts.SetEmail(ctx, a.ID, account.EmailChange{Email: email}, e, s.Notices.Of(a, mail.NoticeEmail, e, email)...)
}

// defaultSubject is that of a message without one.
const defaultSubject = "Message via your PDS"

// Errors of Mail.
var (
	errNoMail    = errors.New("this server sends no mail")
	errNoAddress = errors.New("the account has no e-mail address")
)

// Mail sends a message to an account's owner: text, or with markup what may be HTML.
func (s *Service) Mail(ctx context.Context, a *account.Account, subject, text string, markup bool) error {
	switch {
	case s.Notices == nil || s.Notices.Templates == nil:
		return errNoMail
	case a.Email == "":
		return errNoAddress
	case len(text) > mail.MaxMessage:
		return mail.ErrTooLarge // before it is put into a letter
	}
	if subject == "" {
		subject = defaultSubject
	}
	compose := s.Notices.Templates.FromAdmin
	if markup {
		compose = s.Notices.Templates.FromModerator
	}
	m := compose(mail.Reader{To: a.Email, Language: a.Language}, subject, text)
	return s.Store.SendMail(ctx, m, s.action(ctx, ActionMail, a.DID, "", "subject "+quote(m.Subject)))
}

// The arguments of commands about reaching owners.
type (
	SearchArgs struct {
		Text  string `json:"text"`
		After int64  `json:"after"`
	}
	EmailArgs struct {
		Account string `json:"account"`
		Email   string `json:"email"`
	}
	MailArgs struct {
		Account string `json:"account"`
		Subject string `json:"subject"`
		Text    string `json:"text"`
	}
)

func (s *Service) searchAccounts(ctx context.Context, a SearchArgs) (AccountPage, error) {
	found, err := s.Store.Search(ctx, a.Text, a.After, pageSize)
	if err != nil {
		return AccountPage{}, err
	}
	return accountPage(found), nil
}

func (s *Service) setEmail(ctx context.Context, a EmailArgs) (AccountLine, error) {
	return s.change(ctx, a.Account, func(acc *account.Account) (*account.Account, error) {
		if err := s.SetEmail(ctx, acc, a.Email); err != nil {
			return nil, err
		}
		return s.Accounts.ByDID(ctx, acc.DID)
	})
}

// errNoText: there is nothing to send.
var errNoText = errors.New("the message is empty")

func (s *Service) sendMail(ctx context.Context, a MailArgs) (AccountLine, error) {
	return s.change(ctx, a.Account, func(acc *account.Account) (*account.Account, error) {
		if a.Text == "" {
			return nil, errNoText
		}
		return acc, s.Mail(ctx, acc, a.Subject, a.Text, false)
	})
}
