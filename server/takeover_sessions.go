package server

import (
	"context"
	"time"

	"nestbox/takeover"
)

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
