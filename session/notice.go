package session

import (
	"context"
	"slices"
	"strings"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/request"
)

// notice returns the mail about a sign-in with the password, or with an app password:
// none if the same program signed in from the same network before.
func (s *Service) notice(ctx context.Context, a *account.Account, e account.Entry, app bool) ([]mail.Message, error) {
	if !s.Notices.Wanted(a, mail.NoticeSignIn) {
		return nil, nil
	}
	seen, err := s.Store.Seen(ctx, a.ID, e.Network)
	if err != nil {
		return nil, err
	}
	if known(seen, e.UserAgent) {
		return nil, nil
	}
	used := mail.UsedPassword
	if app {
		used = mail.UsedAppPassword
	}
	return s.Notices.Of(a, mail.NoticeSignIn, e, used), nil
}

// known reports whether one of the user agents is of the same program as ua,
// whatever its version.
func known(seen []string, ua string) bool {
	return slices.ContainsFunc(seen, func(other string) bool { return program(other) == program(ua) })
}

// program returns what identifies the program of a user agent: its name for people,
// and what stands before its version.
func program(userAgent string) string {
	product, _, _ := strings.Cut(userAgent, "/")
	return request.ClientName(userAgent) + "|" + strings.TrimSpace(product)
}

// Arrived returns the mails about a sign-in on a page of ours, which e records: as about
// one by an app.
func (s *Service) Arrived(ctx context.Context, a *account.Account, e account.Entry) ([]mail.Message, error) {
	return s.notice(ctx, a, e, false)
}
