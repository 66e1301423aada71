package account

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/xrpc"
)

// CreateAppPasswordInput is what createAppPassword takes.
type CreateAppPasswordInput struct {
	Name       string `json:"name"`
	Privileged bool   `json:"privileged,omitzero"`
}

// CreateAppPasswordOutput is what createAppPassword answers: the only time that the
// password is shown.
type CreateAppPasswordOutput struct {
	Name       string `json:"name"`
	Password   string `json:"password"`
	CreatedAt  string `json:"createdAt"`
	Privileged bool   `json:"privileged"`
}

// AppPasswordView is one of listAppPasswords.
type AppPasswordView struct {
	Name       string `json:"name"`
	CreatedAt  string `json:"createdAt"`
	Privileged bool   `json:"privileged"`
}

// ListAppPasswordsOutput is what listAppPasswords answers.
type ListAppPasswordsOutput struct {
	Passwords []AppPasswordView `json:"passwords"`
}

// RevokeAppPasswordInput is what revokeAppPassword takes.
type RevokeAppPasswordInput struct {
	Name string `json:"name"`
}

func datetime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Create is com.atproto.server.createAppPassword.
func (s *AppPasswords) Create(ctx context.Context, caller auth.FullCaller, in CreateAppPasswordInput) (CreateAppPasswordOutput, error) {
	if err := CheckAppPasswordName(in.Name); err != nil {
		return CreateAppPasswordOutput{}, xrpc.InvalidRequest("An app password's name has 1 to %d characters", MaxAppPasswordName)
	}
	a, err := s.owner(ctx, caller.DID)
	if err != nil {
		return CreateAppPasswordOutput{}, err
	}
	made, password, err := s.Make(ctx, a, in.Name, in.Privileged)
	switch {
	case errors.Is(err, ErrNameTaken):
		return CreateAppPasswordOutput{}, xrpc.InvalidRequest("An app password of that name exists already")
	case errors.Is(err, ErrTooMany):
		return CreateAppPasswordOutput{}, xrpc.InvalidRequest("An account can have %d app passwords; revoke some first", MaxAppPasswords)
	case err != nil:
		return CreateAppPasswordOutput{}, ownerError(err)
	}
	return CreateAppPasswordOutput{Name: made.Name, Password: password, CreatedAt: datetime(made.CreatedAt), Privileged: made.Privileged}, nil
}

// List is com.atproto.server.listAppPasswords.
func (s *AppPasswords) List(ctx context.Context, caller auth.StandardCaller, _ xrpc.None) (ListAppPasswordsOutput, error) {
	a, err := s.owner(ctx, caller.DID)
	if err != nil {
		return ListAppPasswordsOutput{}, err
	}
	cred, err := s.Store.Credentials(ctx, a.ID)
	if err != nil {
		return ListAppPasswordsOutput{}, ownerError(err)
	}
	out := ListAppPasswordsOutput{Passwords: []AppPasswordView{}}
	for _, p := range slices.Backward(cred.AppPasswords) { // the newest first
		out.Passwords = append(out.Passwords, AppPasswordView{p.Name, datetime(p.CreatedAt), p.Privileged})
	}
	return out, nil
}

// Revoke is com.atproto.server.revokeAppPassword.
func (s *AppPasswords) Revoke(ctx context.Context, caller auth.StandardCaller, in RevokeAppPasswordInput) (xrpc.None, error) {
	a, err := s.owner(ctx, caller.DID)
	if err != nil {
		return xrpc.None{}, err
	}
	if err := s.End(ctx, a, in.Name); err != nil {
		return xrpc.None{}, ownerError(err)
	}
	return xrpc.None{}, nil
}

func (s *AppPasswords) owner(ctx context.Context, did syntax.DID) (*Account, error) {
	a, err := s.Store.ByDID(ctx, did)
	if err != nil {
		return nil, ownerError(err)
	}
	return a, nil
}

// ownerError returns the error for an owner whose change, or look-up, the store refused:
// the account may have been deleted since the caller was proven.
func ownerError(err error) error {
	if errors.Is(err, ErrNotFound) {
		return auth.Expired()
	}
	return xrpc.Unavailable(err)
}
