package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"nestbox/firehose/event"
	"nestbox/oauth/dpop"
	"nestbox/oauth/scope"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// Resource is what a Verifier needs for the callers of OAuth clients: the resource
// server's side of OAuth (RFC 9449 section 7).
type Resource struct {
	// Issuer is the origin of the authorization server, which is this server's own.
	Issuer string
	Proofs *dpop.Checker
	Grants Grants
}

// oauthAccess is what an endpoint does with the callers of OAuth clients. The zero value
// refuses them, so that a route that forgets about them is closed.
type oauthAccess struct {
	open  bool
	needs []scope.Need
}

// Granting returns a verifier for endpoints that OAuth clients may call if their scope
// meets all of needs. Without a need every grant will do.
func (v *Verifier) Granting(needs ...scope.Need) *Verifier {
	of := *v
	of.oauth = oauthAccess{open: true, needs: needs}
	return &of
}

// Scoped is a caller whose input decides what it needs. A handler gets at the caller only
// by naming that need.
type Scoped[C interface{ grant() *scope.Set }] struct{ caller C }

// NewScoped returns a caller whose need is still to be named. If it is an OAuth client, its
// scope counts then.
func NewScoped[C interface{ grant() *scope.Set }](c C) Scoped[C] { return Scoped[C]{c} }

// For returns the caller if it may do all that needs name: if it is no OAuth client, or
// its scope meets them all.
func (s Scoped[C]) For(needs ...scope.Need) (C, error) {
	if err := allowed(s.caller.grant(), needs); err != nil {
		var none C
		return none, err
	}
	return s.caller, nil
}

// ScopedBy returns how a verifier proves a caller whose input decides what it needs.
func ScopedBy[C interface{ grant() *scope.Set }](
	v *Verifier, prove func(*Verifier, context.Context, *http.Request) (C, error),
) xrpc.Auth[Scoped[C]] {
	v = v.Granting()
	return func(ctx context.Context, r *http.Request) (Scoped[C], error) {
		c, err := prove(v, ctx, r)
		return NewScoped(c), err
	}
}

// Calling proves a StandardCaller whose input decides what it needs. It refuses OAuth
// clients unless Granting made the verifier.
func (v *Verifier) Calling(ctx context.Context, r *http.Request) (Scoped[StandardCaller], error) {
	c, err := v.Standard(ctx, r)
	return NewScoped(c), err
}

// Allows reports whether the caller may do what a need names: always, unless it is an
// OAuth client whose scope lacks it.
func (a Access) Allows(n scope.Need) bool { return a.granted == nil || a.granted.Allows(n) }

// IsOAuth reports whether the caller is an OAuth client.
func (a Access) IsOAuth() bool { return a.granted != nil }

func (a Access) grant() *scope.Set { return a.granted }

func (c UploadCaller) grant() *scope.Set { return c.granted }

// May returns nil if the caller may do what a need names, and otherwise the answer: as
// Scoped.For, for what is known only later.
func (c UploadCaller) May(n scope.Need) error { return allowed(c.granted, []scope.Need{n}) }

func allowed(granted *scope.Set, needs []scope.Need) error {
	if granted == nil {
		return nil
	}
	for _, n := range needs {
		if !granted.Allows(n) {
			return errScopeMissing(n)
		}
	}
	return nil
}

// challenge begins each WWW-Authenticate header: clients look for "DPoP " at its start.
const challenge = `DPoP algs="` + dpop.AnnouncedAlgs + `", error="`

func errScopeMissing(n scope.Need) error {
	missing := n.String()
	return &xrpc.Error{
		Status: http.StatusForbidden, Name: "ScopeMissingError", Message: `Missing required scope "` + missing + `"`,
		Challenge: challenge + `insufficient_scope", scope="` + missing + `"`,
	}
}

// errClosed is the answer of an endpoint that OAuth clients may not call.
func errClosed() error {
	return &xrpc.Error{
		Status: http.StatusForbidden, Name: xrpc.NameForbidden, Message: "OAuth credentials are not supported for this endpoint",
	}
}

// errToken is the answer to a token that is not good. Clients refresh on it, and one of
// them drops the session if the new token gets it again.
func errToken(message string) *xrpc.Error {
	const name = "invalid_token"
	return &xrpc.Error{
		Status: http.StatusUnauthorized, Name: name, Message: message,
		Challenge: challenge + name + `", error_description="` + message + `"`,
	}
}

func errProof(err error) error {
	e, ok := errors.AsType[*dpop.Error](err)
	if !ok {
		return xrpc.Unavailable(err)
	}
	return &xrpc.Error{
		Status: http.StatusUnauthorized, Name: e.Code, Message: e.Message,
		Challenge: challenge + e.Code + `", error_description="` + e.Message + `"`,
	}
}

// strangers limits proofs and tokens that are not good, by client network.
var strangers = ratelimit.Limit{Name: "oauth-failures", Points: 300, Window: 5 * time.Minute}

// isDPoP reports whether a request presents a token by the scheme of OAuth.
func isDPoP(r *http.Request) bool {
	const name = "dpop "
	header := r.Header.Get("Authorization")
	return len(header) >= len(name) && strings.EqualFold(header[:len(name)], name)
}

// granted proves the caller of an OAuth client.
func (v *Verifier) granted(ctx context.Context, r *http.Request) (Access, error) {
	_, token, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return Access{}, err
	}
	t, err := v.bound(r, token)
	if err != nil {
		if e, ok := errors.AsType[*xrpc.Error](err); ok && e.Name != dpop.CodeUseNonce && !errors.Is(err, ErrOAuthExpired) {
			if many := request.ChargeNetwork(ctx, v.Limits, 1, strangers); many != nil {
				return Access{}, many
			}
		}
		return Access{}, err
	}
	request.SetAccount(ctx, t.DID.String())
	g, err := v.Resource.Grants.Granted(ctx, t)
	if err != nil {
		return Access{}, xrpc.Unavailable(err)
	}
	refused := May(v.use, g.Status, ScopeOAuth)
	// A takedown is reported rather than the end of the session, which it caused.
	if (!g.Live || g.JKT != t.JKT || g.ClientID != t.ClientID) && (refused == nil || g.Status != event.StatusTakenDown) {
		refused = errToken("Invalid token")
	}
	if refused == nil && !v.oauth.open {
		refused = errClosed()
	}
	if refused == nil {
		refused = allowed(g.Scope, v.oauth.needs)
	}
	if refused != nil {
		return Access{}, refused
	}
	return Access{DID: t.DID, Scope: ScopeOAuth, SID: t.SID, ClientID: t.ClientID, granted: g.Scope}, nil
}

// bound checks a token itself, and that the client holds its key. The token comes first:
// its check costs a hundredth of the proof's.
func (v *Verifier) bound(r *http.Request, token string) (OAuthToken, error) {
	proof := dpop.Request{Headers: r.Header.Values("DPoP"), Method: r.Method, Path: r.URL.EscapedPath(), Token: token}
	if len(proof.Headers) == 0 {
		_, err := v.Resource.Proofs.Check(proof)
		return OAuthToken{}, errProof(err)
	}
	t, err := v.Keyring.VerifyOAuthAccess(token, v.Resource.Issuer, v.Audience, v.Now())
	switch {
	case errors.Is(err, ErrOAuthExpired):
		e := errToken("Token has expired")
		e.Cause = err
		return OAuthToken{}, e
	case err != nil:
		return OAuthToken{}, errToken("Invalid token")
	}
	jkt, err := v.Resource.Proofs.Check(proof)
	if err != nil {
		return OAuthToken{}, errProof(err)
	}
	if jkt != t.JKT {
		return OAuthToken{}, errToken("Invalid DPoP key binding")
	}
	return t, nil
}

// SetNonce sets the DPoP-Nonce header of the answer to a request that speaks of DPoP:
// clients refuse an answer without it, whatever its status.
func (r *Resource) SetNonce(w http.ResponseWriter, req *http.Request) {
	if len(req.Header.Values("DPoP")) > 0 || isDPoP(req) {
		w.Header().Set("DPoP-Nonce", r.Proofs.Nonce())
	}
}
