package session

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"nestbox/account"
	"nestbox/ratelimit"
	"nestbox/request"
)

// Errors of SignIn.
var (
	errWrong        = errors.New("invalid identifier or password")
	errTooLong      = errors.New("password is too long")
	errManyAttempts = errors.New("too many sign-in attempts")
)

// The sign-in limits of the session contract. Failures are counted narrowly,
// successes ten times as wide. Failures with something that has the form of an
// app password have buckets of their own, so that one app with a revoked
// password does not lock the owner out.
var (
	failPerAccount = []ratelimit.Limit{
		{Name: "sign-in-failures-5m", Points: 30, Window: 5 * time.Minute},
		{Name: "sign-in-failures-1d", Points: 300, Window: 24 * time.Hour},
	}
	failPerNetwork    = []ratelimit.Limit{{Name: "sign-in-failures-network", Points: 100, Window: 5 * time.Minute}}
	appFailPerAccount = []ratelimit.Limit{
		{Name: "app-failures-5m", Points: 30, Window: 5 * time.Minute},
		{Name: "app-failures-1d", Points: 300, Window: 24 * time.Hour},
	}
	appFailPerNetwork = []ratelimit.Limit{{Name: "app-failures-network", Points: 100, Window: 5 * time.Minute}}
	passPerAccount    = []ratelimit.Limit{
		{Name: "sign-ins-5m", Points: 300, Window: 5 * time.Minute},
		{Name: "sign-ins-1d", Points: 3000, Window: 24 * time.Hour},
	}
	passPerNetwork = []ratelimit.Limit{{Name: "sign-ins-network", Points: 1000, Window: 5 * time.Minute}}
)

// SignIn is the input of createSession.
type SignIn struct {
	Identifier string
	Password   string
	// Code is the code that was sent by e-mail; empty if none was sent yet.
	Code           string
	AllowTakendown bool
}

// SignIn proves an account's password, or one of its app passwords, and starts
// a session. An unknown identifier costs the same time as a wrong password.
func (s *Service) SignIn(ctx context.Context, in SignIn) (Signed, error) {
	if utf8.RuneCountInString(in.Password) > account.MaxUsedPassword {
		return Signed{}, errTooLong
	}
	identifier := account.CleanIdentifier(in.Identifier)
	a, err := account.Find(ctx, s.Accounts, identifier)
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		return Signed{}, err
	}
	attempt, err := s.attempt(ctx, a, identifier, account.LooksLikeAppPassword(in.Password))
	if err != nil {
		return Signed{}, err
	}
	signed, err := s.prove(ctx, a, in)
	if errors.Is(err, ErrUnknown) {
		// Password, app password or status changed meanwhile: judge by what is true now.
		if a, err = account.Find(ctx, s.Accounts, identifier); err == nil {
			signed, err = s.prove(ctx, a, in)
		}
	}
	if errors.Is(err, ErrUnknown) || errors.Is(err, account.ErrNotFound) {
		err = errWrong // overtaken twice, or deleted
	}
	attempt.settle(ctx, err)
	return signed, err
}

// prove checks a password and starts the session. A password with a NUL proves
// nothing, whatever stands before it: scrypt, the hash of imported passwords and
// app passwords, ignores trailing ones.
func (s *Service) prove(ctx context.Context, a *account.Account, in SignIn) (Signed, error) {
	if a == nil || strings.ContainsRune(in.Password, 0) {
		return Signed{}, s.refuse(ctx, in.Password)
	}
	cred, err := s.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		return Signed{}, err
	}
	app, err := s.Hasher.FindAppPassword(ctx, a.DID, cred.AppPasswords, in.Password)
	if err != nil {
		return Signed{}, err
	}
	if app == nil {
		ok, err := s.checkPassword(ctx, a, cred.PasswordHash, in.Password)
		if err != nil {
			return Signed{}, err
		}
		if !ok {
			return Signed{}, errWrong
		}
	}
	if cred.Takendown {
		switch {
		case app != nil:
			return Signed{}, s.refuse(ctx, in.Password)
		case !in.AllowTakendown:
			return Signed{}, errTakendown
		}
	}
	var code *account.Proof
	if app == nil && a.EmailFactor {
		if code, err = s.factor(ctx, a, in.Code); err != nil {
			return Signed{}, err
		}
	}
	return s.Start(ctx, a, cred, app, code)
}

// refuse returns errWrong after as much work as verifying a password takes.
func (s *Service) refuse(ctx context.Context, password string) error {
	if err := s.Hasher.VerifyDummy(ctx, password); err != nil {
		return err
	}
	return errWrong
}

// checkPassword verifies the account's own password and replaces a hash of an
// older form, now that the password is at hand.
func (s *Service) checkPassword(ctx context.Context, a *account.Account, hash, password string) (bool, error) {
	ok, upgrade, err := s.Hasher.Verify(ctx, hash, password)
	if err != nil || !ok || !upgrade {
		return ok, err
	}
	better, err := s.Hasher.Hash(ctx, password)
	if err == nil {
		err = s.Accounts.UpgradeHash(ctx, a.ID, hash, better)
	}
	if err != nil && !errors.Is(err, account.ErrPasswordChanged) {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "password hash not upgraded", slog.String("cause", err.Error()))
	}
	return true, nil
}

// attempt holds the points that a sign-in took before its outcome was known.
type attempt struct {
	limits               *ratelimit.Limiter
	account, network     []ratelimit.Key
	failAcct, failNet    []ratelimit.Limit
	shown                ratelimit.Result
	passAccount, passNet []ratelimit.Limit
}

// maxUnknown bounds, in bytes, what is remembered of an identifier that names
// nobody: there are many buckets.
const maxUnknown = 256

// attempt takes a point from every bucket that the sign-in could count against.
// errManyAttempts if one is empty; the headers are set either way.
func (s *Service) attempt(ctx context.Context, a *account.Account, identifier string, appForm bool) (*attempt, error) {
	client := request.ClientOf(ctx)
	who := identifier[:min(len(identifier), maxUnknown)]
	if a != nil {
		who = a.DID.String() // handle, e-mail and DID share one bucket
	}
	t := &attempt{
		limits: s.Limits, account: client.Network().Keys(who + "|"), network: client.Network().Keys(""),
		failAcct: failPerAccount, failNet: failPerNetwork, passAccount: passPerAccount, passNet: passPerNetwork,
	}
	if appForm {
		t.failAcct, t.failNet = appFailPerAccount, appFailPerNetwork
	}
	if s.Limits == nil || client.Unlimited {
		t.limits = nil
		return t, nil
	}
	taken := []struct {
		keys   []ratelimit.Key
		limits []ratelimit.Limit
	}{{t.account, t.passAccount}, {t.network, t.passNet}, {t.network, t.failNet}, {t.account, t.failAcct}}
	for i, b := range taken {
		t.shown = s.Limits.TakeKeys(b.keys, 1, b.limits...)
		if t.shown.Allowed {
			continue
		}
		for _, back := range taken[:i] {
			s.Limits.GiveBackKeys(back.keys, 1, back.limits...)
		}
		t.shown.SetHeaders(request.Header(ctx))
		return nil, &tooMany{wait: t.shown.RetryAfter(s.Limits.Now())}
	}
	return t, nil
}

// settle gives points back to the buckets that the outcome does not count against:
// a success leaves the failures as they were, a failure the successes, and what was
// nobody's fault both.
func (t *attempt) settle(ctx context.Context, err error) {
	if t.limits == nil {
		return
	}
	failed := errors.Is(err, errWrong) || wrongCode(err)
	if !failed {
		t.limits.GiveBackKeys(t.account, 1, t.failAcct...)
		t.limits.GiveBackKeys(t.network, 1, t.failNet...)
		t.shown.Remaining++
	}
	t.shown.SetHeaders(request.Header(ctx))
	if err != nil && !errors.Is(err, errCodeNeeded) { // the password was right
		t.limits.GiveBackKeys(t.account, 1, t.passAccount...)
		t.limits.GiveBackKeys(t.network, 1, t.passNet...)
	}
}

// tooMany is errManyAttempts with the time to wait.
type tooMany struct{ wait time.Duration }

func (e *tooMany) Error() string        { return errManyAttempts.Error() }
func (e *tooMany) Is(target error) bool { return target == errManyAttempts }
