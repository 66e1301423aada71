package server

import (
	"context"
	"time"

	"nestbox/takeover"
)

// sessions brings those of the source, with the grants of OAuth clients and the browsers:
// takeover.TakeOver.Sessions.
func (t *takeoverRun) sessions(ctx context.Context, now time.Time) (any, error) {
	store := t.store.Legacy()
	var counts takeover.Arrived
	var err error
	if counts.Sessions, err = takeover.BringSessions(ctx, t.source, store, now); err != nil {
		return nil, err
	}
	rules := takeover.GrantRules{Trusted: t.Config.OAuthTrustedClients}
	if rules.Browsers, counts.Browsers, err = takeover.BringBrowsers(ctx, t.source, store, now); err != nil {
		return nil, err
	}
	if counts.Grants, err = takeover.BringGrants(ctx, t.source, store, rules, now); err != nil {
		return nil, err
	}
	return counts, nil
}
