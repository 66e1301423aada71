package server

import (
	"context"
	"time"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/takeover"
)

// letters returns what mails the owners of accounts that are to be deleted; nil if the server
// sends no mail.
func (t *takeoverRun) letters() func(*account.Account) []mail.Message {
	if !t.Config.SendsMail() {
		return nil
	}
	notices := &account.Notices{Templates: MailTemplates(t.Config)}
	return func(a *account.Account) []mail.Message {
		return notices.Of(a, mail.NoticeDeletionResumed, account.Entry{At: t.Now(), By: account.ActorAdmin}, a.DeleteAfter.Format(time.RFC3339))
	}
}

// sessions brings those of the source, with the grants of OAuth clients and the browsers:
// takeover.TakeOver.Sessions.
func (t *takeoverRun) sessions(ctx context.Context, now time.Time) (counts takeover.Arrived, err error) {
	store := t.store.Legacy()
	if counts.Sessions, err = takeover.BringSessions(ctx, t.source, store, now); err != nil {
		return counts, err
	}
	rules := takeover.GrantRules{Trusted: t.Config.OAuthTrustedClients}
	if rules.Browsers, counts.Browsers, err = takeover.BringBrowsers(ctx, t.source, store, now); err != nil {
		return counts, err
	}
	if counts.Grants, err = takeover.BringGrants(ctx, t.source, store, rules, now); err != nil {
		return counts, err
	}
	return counts, nil
}
