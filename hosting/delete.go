package hosting

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// DeleteInput is the input of com.atproto.server.deleteAccount.
type DeleteInput struct {
	DID      string `json:"did"`
	Password string `json:"password"`
	Token    string `json:"token"`
}

// deletions limits attempts by one client network to delete accounts.
var deletions = ratelimit.Limit{Name: "deletions", Points: 50, Window: 5 * time.Minute}

// The limits of wrong passwords for one account: by one client network, and by all,
// which is wide, so that a stranger does not keep the owner from deleting.
var (
	deletionFailures = []ratelimit.Limit{
		{Name: "deletion-failures-5m", Points: 10, Window: 5 * time.Minute},
		{Name: "deletion-failures-1d", Points: 50, Window: 24 * time.Hour},
	}
	deletionFailuresAll = ratelimit.Limit{Name: "deletion-failures-all-1d", Points: 1000, Window: 24 * time.Hour}
)

// DeleteAccount is com.atproto.server.deleteAccount: it requires the password and
// the code that requestAccountDelete sent.
func (s *Service) DeleteAccount(ctx context.Context, _ auth.Anyone, in DeleteInput) (xrpc.None, error) {
	if err := request.AdmitNetwork(ctx, s.Limits, 1, deletions); err != nil {
		return xrpc.None{}, err
	}
	did, err := syntax.ParseDID(in.DID)
	if err != nil {
		return xrpc.None{}, xrpc.InvalidRequest("Invalid DID at $.did")
	}
	if utf8.RuneCountInString(in.Password) > account.MaxUsedPassword {
		return xrpc.None{}, xrpc.Unauthorized(xrpc.NameAuthRequired, "Password too long. Consider resetting your password.")
	}
	a, err := s.Accounts.ByDID(ctx, did)
	if errors.Is(err, account.ErrNotFound) {
		return xrpc.None{}, xrpc.InvalidRequest("account not found")
	}
	if err != nil {
		return xrpc.None{}, xrpc.Unavailable(err)
	}
	request.SetAccount(ctx, did.String())
	if err := s.checkPassword(ctx, a, in.Password); err != nil {
		return xrpc.None{}, err
	}
	if err := auth.May(auth.UseDelete, string(a.Status()), ""); err != nil {
		return xrpc.None{}, err
	}
	if _, err := s.Codes.Check(ctx, a, account.PurposeDeleteAccount, in.Token); err != nil {
		return xrpc.None{}, account.CodeError(err)
	}
	switch err := s.Accounts.Leave(ctx, a.ID, s.now()); {
	case err == nil, errors.Is(err, account.ErrNotFound):
		return xrpc.None{}, nil
	case errors.Is(err, account.ErrHeld):
		return xrpc.None{}, s.heldNow(ctx, did)
	default:
		return xrpc.None{}, xrpc.Unavailable(err)
	}
}

// heldNow returns the error for the client if a moderation measure came while the
// account was being deleted.
func (s *Service) heldNow(ctx context.Context, did syntax.DID) error {
	a, err := s.Accounts.ByDID(ctx, did)
	if err == nil {
		err = auth.May(auth.UseDelete, string(a.Status()), "")
	}
	if err == nil {
		err = xrpc.Unavailable(account.ErrHeld)
	}
	return err
}

// checkPassword fails on a wrong password, and on one with a NUL, which scrypt may
// ignore. The point is taken before, so that many at once pass no limit together.
func (s *Service) checkPassword(ctx context.Context, a *account.Account, password string) error {
	of := request.ClientOf(ctx).Network().Keys(a.DID.String() + " ")
	limits := s.Limits
	if request.ClientOf(ctx).Unlimited {
		limits = nil
	}
	r := limits.TakeKeys(of, 1, deletionFailures...)
	if r.Allowed {
		r = limits.Take(a.DID.String(), deletionFailuresAll)
	}
	if !r.Allowed {
		return xrpc.TooManyRequests(r.RetryAfter(s.now()))
	}
	c, err := s.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		return xrpc.Unavailable(err)
	}
	ok, _, err := s.Hasher.Verify(ctx, c.PasswordHash, password)
	switch {
	case err != nil:
		return xrpc.Unavailable(err)
	case !ok || strings.ContainsRune(password, 0):
		return xrpc.Unauthorized(xrpc.NameAuthRequired, "Invalid did or password")
	}
	limits.GiveBackKeys(of, 1, deletionFailures...)
	limits.GiveBack(a.DID.String(), deletionFailuresAll)
	return nil
}

// DeleteDue deletes the accounts whose owners deactivated them and asked for
// deletion by now.
func (s *Service) DeleteDue(ctx context.Context) error {
	for {
		a, err := s.Store.DeleteDue(ctx, s.now())
		if err != nil || a == nil {
			return err
		}
		s.Log.LogAttrs(ctx, slog.LevelInfo, "account deleted as its owner wished", slog.String("did", a.DID.String()))
	}
}
