package conformance

import (
	"context"
	"net/http"
	"sync"
)

func refreshAnswer(ctx context.Context, r *runner) verdict {
	before := r.main.refresh
	r.refreshed = r.refresh(ctx, before)
	v := worst(r.refreshed.whose(r.main.did), r.refreshed.paired())
	r.rotated = tokenID(before) != tokenID(r.refreshed.text("refreshJwt"))
	if v.outcome == Fail || v.outcome == Skipped {
		return v
	}
	r.main = r.refreshed.session()
	return worst(v, r.works(ctx, r.main.access, "the new access token"))
}

func rotates(_ context.Context, r *runner) verdict {
	switch {
	case r.refreshed.text("refreshJwt") == "":
		return skipped("no refresh succeeded")
	case !r.rotated:
		return differs("refreshSession gives the same refresh token again")
	}
	return passed()
}

// step refreshes, as a part of a story; ok is false if that failed.
func (r *runner) step(ctx context.Context, token, what string) (s session, v verdict, ok bool) {
	a := r.refresh(ctx, token)
	v = a.is(statusOK).about(what)
	return a.session(), v, v.outcome == Pass
}

// stepped begins a story with a session that is refreshed once; ok is false if that failed.
func (r *runner) stepped(ctx context.Context, what string) (before, after session, v verdict, ok bool) {
	if before, v = r.fresh(ctx); v.outcome != Pass {
		return before, after, v, false
	}
	after, v, ok = r.step(ctx, before.refresh, what)
	return before, after, v, ok
}

func lostAnswer(ctx context.Context, r *runner) verdict {
	s, lost, v, ok := r.stepped(ctx, "the first refresh")
	if !ok {
		return v
	}
	again, v, ok := r.step(ctx, s.refresh, "the same token again")
	if !ok {
		return v
	}
	_, v, _ = r.step(ctx, again.refresh, "a refresh with what the second answer gave")
	return worst(v,
		r.works(ctx, again.access, "the second answer's access token"),
		r.works(ctx, lost.access, "the first answer's access token"))
}

func refreshesAtOnce(ctx context.Context, r *runner) verdict {
	s, v := r.fresh(ctx)
	if v.outcome != Pass {
		return v
	}
	answers := make([]answer, atOnce)
	r.burst(atOnce)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = r.refresh(ctx, s.refresh) })
	}
	all.Wait()
	var parts []verdict
	ids := map[string]bool{}
	for _, a := range answers {
		parts = append(parts, a.is(statusOK))
		ids[tokenID(a.text("refreshJwt"))] = true
	}
	if v := worst(parts...); v.outcome != Pass {
		return v
	}
	if len(ids) > 1 {
		parts = append(parts, differs("they gave %d refresh tokens, not one", len(ids)))
	}
	one, other := answers[0].session(), answers[atOnce-1].session()
	parts = append(parts, r.works(ctx, one.access, "one answer's access token"), r.works(ctx, other.access, "another answer's access token"))
	next, v, ok := r.step(ctx, one.refresh, "a refresh with one answer's token")
	late, w, okLate := r.step(ctx, other.refresh, "and then with another answer's")
	parts = append(parts, v, w)
	if ok && okLate && tokenID(next.refresh) != tokenID(late.refresh) {
		parts = append(parts, differs("the tabs go on with refresh tokens of their own"))
	}
	return worst(parts...)
}

func staleTab(ctx context.Context, r *runner) verdict {
	s, one, v, ok := r.stepped(ctx, "the first refresh")
	if !ok {
		return v
	}
	newest, v, ok := r.step(ctx, one.refresh, "the second refresh")
	if !ok {
		return v
	}
	a := r.refresh(ctx, s.refresh)
	if a.status == statusOK {
		v = r.works(ctx, a.text("accessJwt"), "what the stale tab got")
	} else if v = a.refused(http.StatusBadRequest, expiredToken); v.outcome == Pass {
		v = differs("the stale tab is refused: %s", a.said())
	}
	_, after, _ := r.step(ctx, newest.refresh, "the newest token after that")
	return worst(v, after)
}

func refreshMissing(ctx context.Context, r *runner) verdict {
	return r.do(ctx, xrpc(http.MethodPost, refreshSession, "")).unauthorized()
}

func accessTokenAtRefresh(ctx context.Context, r *runner) verdict {
	return r.refresh(ctx, r.main.access).refused(http.StatusBadRequest, invalidToken)
}

func forgedRefresh(ctx context.Context, r *runner) verdict {
	var parts []verdict
	for _, f := range forgeries(r.main.refresh) {
		parts = append(parts, r.refresh(ctx, f.token).refused(http.StatusBadRequest, invalidToken).about(f.what))
	}
	return worst(parts...)
}

// onMain refreshes the main session by a call that a server may refuse.
func (r *runner) onMain(ctx context.Context, q call) verdict {
	a := r.do(ctx, q)
	v, none := a.unanswered()
	switch {
	case none:
		return v
	case a.status == statusOK:
		if s := a.session(); s.refresh != "" {
			r.main = s
		}
		return passed()
	case a.status >= http.StatusInternalServerError:
		return failed("%s instead of 200", a.said())
	}
	return differs("%s instead of 200", a.said())
}

func noInput(ctx context.Context, r *runner) verdict {
	q := xrpc(http.MethodPost, refreshSession, bearer(r.main.refresh))
	q.kind = "application/json"
	empty := r.onMain(ctx, q).about("Content-Type without a body")
	q = xrpc(http.MethodPost, refreshSession, bearer(r.main.refresh))
	q.kind, q.body = "application/json", "{}"
	return worst(empty, r.onMain(ctx, q).about("{}"))
}

func ignoredAtRefresh(ctx context.Context, r *runner) verdict {
	q := xrpc(http.MethodPost, refreshSession+"?exampleConformance=1", bearer(r.main.refresh))
	q.header = map[string]string{"atproto-proxy": "did:web:appview.example.com#bsky_appview"}
	return r.onMain(ctx, q)
}

// three returns the answers that show an account, by the method that gave them.
func (r *runner) three() []seen {
	return []seen{{xrpc("", createSession, ""), r.first}, {xrpc("", refreshSession, ""), r.refreshed}, {xrpc("", getSession, ""), r.got}}
}

func activeMembers(_ context.Context, r *runner) verdict {
	var parts []verdict
	for _, s := range r.three() {
		active, there := s.answer.object["active"]
		on, isBool := active.(bool)
		switch {
		case !there:
		case !isBool:
			parts = append(parts, failed("active is %v", active).about(s.call.name()))
		case !on && s.answer.text("status") == "":
			parts = append(parts, failed("active is false without status").about(s.call.name()))
		}
	}
	return worst(parts...)
}

func optionalMembers(_ context.Context, r *runner) verdict {
	var parts []verdict
	for _, s := range r.three() {
		if s.answer.object == nil {
			continue
		}
		for _, name := range []string{"didDoc", "email", "emailConfirmed", "emailAuthFactor", "active"} {
			if s.answer.object[name] == nil {
				parts = append(parts, differs("no %s", name).about(s.call.name()))
			}
		}
	}
	return worst(parts...)
}
