package signin

import (
	"context"
	"time"

	"nestbox/account"
	"nestbox/ratelimit"
	"nestbox/request"
)

// A method of an account takes so many wrong guesses in guessWindow, then it pauses for
// pause, whoever asks: who guesses knows the password. The right code would prove nothing
// then.
const (
	maxGuesses  = 10
	guessWindow = 15 * time.Minute
	pause       = 15 * time.Minute
)

func guessLimit(m Method) ratelimit.Limit {
	return ratelimit.Limit{Name: "factor-" + string(m), Points: maxGuesses, Window: guessWindow}
}

func pauseLimit(m Method) ratelimit.Limit {
	return ratelimit.Limit{Name: "factor-pause-" + string(m), Points: 1, Window: pause}
}

// paused returns *Paused if a method pauses.
func (s *Service) paused(a *account.Account, m Method) error {
	if r := s.Guesses.Look(a.DID.String(), pauseLimit(m)); !r.Allowed {
		return &Paused{m, request.ErrTooMany{Wait: r.RetryAfter(s.Now())}}
	}
	return nil
}

// guess checks a second factor with check, and counts it if it is wrong: see Paused and
// WrongFactor.
func (s *Service) guess(ctx context.Context, a *account.Account, m Method, check func() error) error {
	key := a.DID.String()
	if err := s.paused(a, m); err != nil {
		return err
	}
	taken := s.Guesses.Take(key, guessLimit(m)) // before, so that parallel guesses cannot pass together
	if !taken.Allowed {
		return &Paused{m, request.ErrTooMany{Wait: taken.RetryAfter(s.Now())}}
	}
	err := check()
	if !WrongCode(err) {
		s.Guesses.GiveBack(key, guessLimit(m))
		return err
	}
	request.SetMark(ctx, request.SignInFailed)
	if taken.Remaining == 0 {
		s.Guesses.Take(key, pauseLimit(m))
	}
	s.noteRefused(ctx, a, string(m))
	return wrongFactor(err, m, taken.Remaining)
}
