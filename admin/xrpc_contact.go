package admin

import (
	"context"
	"errors"
	"strconv"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/xrpc"
)

// UpdateAccountEmailInput is the input of updateAccountEmail. Account is a DID or a handle.
type UpdateAccountEmailInput struct {
	Account string `json:"account"`
	Email   string `json:"email"`
}

// UpdateAccountEmail is com.atproto.admin.updateAccountEmail. The new address is
// not confirmed; the owner gets a notice at the old one, if that was confirmed.
func (s *Service) UpdateAccountEmail(ctx context.Context, _ auth.AdminCaller, in UpdateAccountEmailInput) (xrpc.None, error) {
	id, err := syntax.ParseAtIdentifier(in.Account)
	if err != nil {
		return xrpc.None{}, xrpc.InvalidRequest("Invalid AT identifier at $.account")
	}
	a, err := s.Find(ctx, id.String())
	if isUnknown(err) {
		return xrpc.None{}, xrpc.InvalidRequest("Account does not exist: %s", in.Account)
	}
	if err == nil {
		err = s.SetEmail(ctx, a, in.Email)
	}
	switch {
	case errors.Is(err, account.ErrEmail):
		return xrpc.None{}, xrpc.InvalidRequest("This email address is not supported, please use a different email.")
	case errors.Is(err, account.ErrEmailTaken):
		return xrpc.None{}, xrpc.InvalidRequest("This email address is already in use, please use a different email.")
	default:
		return xrpc.None{}, wireError(err)
	}
}

// SendEmailInput is the input of sendEmail. The sender and the comment are for the
// moderators: no mail has them.
type SendEmailInput struct {
	RecipientDID string `json:"recipientDid"`
	Content      string `json:"content"`
	Subject      string `json:"subject,omitzero"`
	SenderDID    string `json:"senderDid"`
	Comment      string `json:"comment,omitzero"`
}

// SendEmailOutput is the output of sendEmail.
type SendEmailOutput struct {
	Sent bool `json:"sent"`
}

// SendEmail is com.atproto.admin.sendEmail: the message is in the outbox when
// the answer is sent. On a server that sends no mail, the answer is that it was
// not sent.
func (s *Service) SendEmail(ctx context.Context, caller auth.ModeratorCaller, in SendEmailInput) (SendEmailOutput, error) {
	did, err := parseDID(in.RecipientDID, "recipientDid")
	if err != nil {
		return SendEmailOutput{}, err
	}
	if _, err := parseDID(in.SenderDID, "senderDid"); err != nil {
		return SendEmailOutput{}, err
	}
	a, err := s.Accounts.ByDID(ctx, did)
	if isUnknown(err) {
		return SendEmailOutput{}, xrpc.InvalidRequest("Recipient not found")
	}
	if err == nil {
		err = s.Mail(as(ctx, caller), a, in.Subject, in.Content, true)
	}
	switch {
	case err == nil:
		return SendEmailOutput{Sent: true}, nil
	case errors.Is(err, errNoMail):
		return SendEmailOutput{Sent: false}, nil
	case errors.Is(err, errNoAddress):
		return SendEmailOutput{}, xrpc.InvalidRequest("account does not have an email address")
	case errors.Is(err, mail.ErrTooLarge):
		return SendEmailOutput{}, xrpc.InvalidRequest("The message is too large")
	default:
		return SendEmailOutput{}, xrpc.Unavailable(err)
	}
}

// SearchAccountsParams are the parameters of searchAccounts.
type SearchAccountsParams struct {
	Email  string `json:"email,omitzero"`
	Cursor string `json:"cursor,omitzero"`
	Limit  *int64 `json:"limit,omitzero"`
}

// SearchAccountsOutput is the output of searchAccounts.
type SearchAccountsOutput struct {
	Cursor   string        `json:"cursor,omitzero"`
	Accounts []AccountView `json:"accounts"`
}

// The Lexicon's page sizes, and what bounds a text that is searched for.
const (
	defaultFound = 50
	maxFound     = 100
	maxSearch    = 254
)

// SearchAccounts is com.atproto.admin.searchAccounts: the accounts that have a
// text in their address or handle; without a text, all.
func (s *Service) SearchAccounts(ctx context.Context, _ auth.ModeratorCaller, p SearchAccountsParams) (SearchAccountsOutput, error) {
	limit := int64(defaultFound)
	if p.Limit != nil {
		limit = *p.Limit
	}
	var after int64
	var err error
	if p.Cursor != "" {
		after, err = strconv.ParseInt(p.Cursor, 10, 64)
	}
	switch {
	case limit < 1:
		return SearchAccountsOutput{}, xrpc.InvalidRequest("integer too small (minimum 1, got %d) at $.limit", limit)
	case limit > maxFound:
		return SearchAccountsOutput{}, xrpc.InvalidRequest("integer too big (maximum %d, got %d) at $.limit", maxFound, limit)
	case err != nil || after < 0:
		return SearchAccountsOutput{}, xrpc.InvalidRequest("Malformed cursor")
	case len(p.Email) > maxSearch:
		return SearchAccountsOutput{}, xrpc.InvalidRequest("string too long (maximum %d) at $.email", maxSearch)
	}
	found, err := s.Store.Search(ctx, p.Email, after, int(limit)+1)
	if err != nil {
		return SearchAccountsOutput{}, xrpc.Unavailable(err)
	}
	out := SearchAccountsOutput{Accounts: []AccountView{}}
	if len(found) > int(limit) {
		found = found[:limit]
		out.Cursor = strconv.FormatInt(found[limit-1].ID, 10)
	}
	for _, a := range found {
		v, err := s.view(ctx, a)
		if err != nil {
			return SearchAccountsOutput{}, err
		}
		out.Accounts = append(out.Accounts, v)
	}
	return out, nil
}

// UpdateAccountHandleInput is the input of updateAccountHandle.
type UpdateAccountHandleInput struct {
	DID    string `json:"did"`
	Handle string `json:"handle"`
}

// UpdateAccountHandle is com.atproto.admin.updateAccountHandle. A handle outside of
// the service's domains must lead to the account, as when its owner asks.
func (s *Service) UpdateAccountHandle(ctx context.Context, _ auth.AdminCaller, in UpdateAccountHandleInput) (xrpc.None, error) {
	did, err := syntax.ParseDID(in.DID)
	if err != nil {
		return xrpc.None{}, xrpc.InvalidRequest("Invalid DID at $.did")
	}
	a, err := s.Accounts.ByDID(ctx, did)
	switch {
	case isUnknown(err):
		return xrpc.None{}, xrpc.InvalidRequest("Account not found")
	case err != nil:
		return xrpc.None{}, wireError(err)
	}
	return xrpc.None{}, hosting.HandleError(s.Hosting.SetHandle(ctx, a, in.Handle, account.ActorAdmin), in.Handle)
}
