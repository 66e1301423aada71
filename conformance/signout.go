package conformance

import (
	"context"
	"net/http"
)

func (r *runner) signOut(ctx context.Context, token string) answer {
	return r.do(ctx, xrpc(http.MethodPost, deleteSession, bearer(token)))
}

func accessTokenAtSignOut(ctx context.Context, r *runner) verdict {
	return r.signOut(ctx, r.main.access).refused(http.StatusBadRequest, invalidToken)
}

func signOut(ctx context.Context, r *runner) verdict {
	s, next, v, ok := r.stepped(ctx, "a refresh before it")
	if !ok {
		return v
	}
	if v := r.signOut(ctx, next.refresh).is(statusOK); v.outcome != Pass {
		return v
	}
	r.before, r.ended = s, next
	a := r.signOut(ctx, next.refresh)
	if v := a.is(statusOK); v.outcome == Fail {
		return differs("%s when it has ended already", a.said())
	}
	return passed()
}

// notEnded is the verdict where no session was signed out.
func notEnded() verdict { return skipped("no session was signed out") }

func endedRefresh(ctx context.Context, r *runner) verdict {
	if r.ended.refresh == "" {
		return notEnded()
	}
	a := r.refresh(ctx, r.ended.refresh)
	v := a.refused(http.StatusBadRequest, expiredToken)
	if v.outcome == Differs && a.text("error") != invalidToken {
		v.outcome = Fail // clients keep what has ended
	}
	return v
}

// mostExpired is the Content-Length up to which one SDK looks for ExpiredToken.
const mostExpired = 81

func endedAccess(ctx context.Context, r *runner) verdict {
	if r.ended.access == "" {
		return notEnded()
	}
	a := r.do(ctx, xrpc(http.MethodGet, getSession, bearer(r.ended.access)))
	if v, none := a.unanswered(); none {
		return v
	}
	switch {
	case a.status == statusOK:
		return differs("it works until it expires")
	case a.status != http.StatusBadRequest || a.text("error") != expiredToken:
		return failed("%s instead of 400 ExpiredToken", a.said())
	case a.text("message") != "Token has expired" || len(a.body) > mostExpired:
		return differs("“%s”, in %d bytes", a.text("message"), len(a.body))
	}
	return passed()
}

func endedPredecessor(ctx context.Context, r *runner) verdict {
	if r.before.refresh == "" {
		return notEnded()
	}
	a := r.refresh(ctx, r.before.refresh)
	if a.status == statusOK {
		return differs("it opens the session again")
	}
	return a.refused(http.StatusBadRequest, expiredToken)
}

func othersLive(ctx context.Context, r *runner) verdict {
	if r.ended.refresh == "" {
		return notEnded()
	}
	parts := []verdict{r.works(ctx, r.main.access, "another session's access token")}
	s, v, ok := r.step(ctx, r.main.refresh, "a refresh of another session")
	if ok {
		r.main = s
	}
	return worst(append(parts, v)...)
}
