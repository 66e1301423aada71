package conformance

import (
	"context"
	"net/http"
)

func getSessionAnswer(ctx context.Context, r *runner) verdict {
	r.got = r.do(ctx, xrpc(http.MethodGet, getSession, bearer(r.main.access)))
	v := r.got.whose(r.main.did)
	if v.outcome == Pass && r.got.text("handle") != r.main.handle {
		return failed("handle is %s, and was %s at the sign-in", r.got.text("handle"), r.main.handle)
	}
	return v
}

func headSession(ctx context.Context, r *runner) verdict {
	a := r.do(ctx, xrpc(http.MethodHead, getSession, bearer(r.main.access)))
	if v, none := a.unanswered(); none {
		return v
	}
	if a.status != statusOK {
		return differs("%d instead of 200", a.status)
	}
	return passed()
}

func wrongMethods(ctx context.Context, r *runner) verdict {
	var parts []verdict
	for _, q := range []call{
		xrpc(http.MethodPost, getSession, bearer(r.main.access)),
		xrpc(http.MethodGet, createSession, ""),
		xrpc(http.MethodGet, refreshSession, bearer(r.main.refresh)),
	} {
		a := r.do(ctx, q)
		v, none := a.unanswered()
		switch {
		case none:
		case a.status == http.StatusBadRequest || a.status == http.StatusMethodNotAllowed:
			v = passed()
		case a.status >= 400 && a.status < 500:
			v = differs("%s instead of 400 or 405", a.said())
		default:
			v = failed("%s instead of 400 or 405", a.said())
		}
		parts = append(parts, v.about(q.name()))
	}
	return worst(parts...)
}

// unauthorized returns Fail unless a call was refused as one without credentials.
func (a answer) unauthorized() verdict {
	v := a.refused(http.StatusUnauthorized, authMissing)
	if v.outcome == Differs && a.status != http.StatusUnauthorized {
		v.outcome = Fail
	}
	return v
}

func missingAuth(ctx context.Context, r *runner) verdict {
	return worst(
		r.do(ctx, xrpc(http.MethodGet, getSession, "")).unauthorized().about("getSession"),
		r.do(ctx, xrpc(http.MethodPost, deleteSession, "")).unauthorized().about("deleteSession"),
	)
}

func malformedAuth(ctx context.Context, r *runner) verdict {
	var parts []verdict
	for _, header := range []string{"Bearer", "Bearer a b", "Conformance x"} {
		a := r.do(ctx, xrpc(http.MethodGet, getSession, header))
		v := a.refused(http.StatusBadRequest, invalidToken)
		if v.outcome == Differs { // any name will do
			v = passed()
		}
		parts = append(parts, v.about(header))
	}
	return worst(parts...)
}

func forgedAccess(ctx context.Context, r *runner) verdict {
	var parts []verdict
	for _, f := range forgeries(r.main.access) {
		a := r.do(ctx, xrpc(http.MethodGet, getSession, bearer(f.token)))
		parts = append(parts, a.refused(http.StatusBadRequest, invalidToken).about(f.what))
	}
	return worst(parts...)
}

func refreshTokenAtGetSession(ctx context.Context, r *runner) verdict {
	return r.do(ctx, xrpc(http.MethodGet, getSession, bearer(r.main.refresh))).refused(http.StatusBadRequest, invalidToken)
}
