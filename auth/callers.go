package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// The kinds of caller. A handler's parameter type is its permission.
type (
	// Anyone proved nothing.
	Anyone struct{}

	// SignUpCaller proved nothing, or by a service token that it owns a DID, with
	// which an account moves in.
	SignUpCaller struct{ Owner syntax.DID }

	// RefreshCaller presented a refresh token that has not expired. Whether its
	// session lives is for the session package to say.
	RefreshCaller struct{ Token Token }

	// EndingCaller presented a refresh token, expired or not: enough to end the
	// session that it belongs to, and for nothing else.
	EndingCaller struct{ Token Token }

	// StandardCaller holds an access token of a live session, be it of the
	// password or of an app password, of an account that is not taken down.
	StandardCaller struct{ Access }

	// StandardOrTakendownCaller is a StandardCaller, or someone who signed in to a
	// taken-down account.
	StandardOrTakendownCaller struct{ Access }

	// UploadCaller may upload for an account: a StandardCaller, or a service that
	// was given a token of the account for it.
	UploadCaller struct{ DID syntax.DID }

	// FullCaller holds an access token of a session that the account's own
	// password opened.
	FullCaller struct{ Access }

	// FullOrTakendownCaller is a FullCaller, or a caller that signed in to a
	// taken-down account: it may move out.
	FullOrTakendownCaller struct{ Access }

	// Viewer asks for what is public, and may have proved who they are: the
	// owner, or the admin, sees what others do not. DID is empty where nobody
	// signed in; the owner of a taken-down account is one still.
	Viewer struct {
		DID   syntax.DID
		Admin bool
	}

	// ModeratorCaller may look at accounts and change their status: the admin,
	// or a moderation service, whose DID Service is.
	ModeratorCaller struct{ Service syntax.DID }

	// OwnerOrServiceCaller is a StandardOrTakendownCaller, or the moderation
	// service, whose DID is Service then, and which may ask for any account.
	OwnerOrServiceCaller struct {
		Access

		Service syntax.DID
	}

	// AdminCaller runs this server.
	AdminCaller struct{}
)

// Access is what a verified access token says.
type Access struct {
	DID   syntax.DID
	Scope Scope
	SID   string
}

// Standing is what the server knows of an access token's account and session.
type Standing struct {
	// Status is the account's hosting status, empty if it is active. It is reported
	// before any fault of the session.
	Status string
	// Live: the account exists and the session has not been ended.
	Live bool
}

// Sessions tells what lies behind an access token. The answer may come from a
// cache that is never older than the last committed change by this server.
type Sessions interface {
	Standing(ctx context.Context, t Token) (Standing, error)
}

// Verifier proves callers. Its fields are set once.
type Verifier struct {
	Keyring *Keyring
	// Audience is the server's DID: aud of every session token.
	Audience string
	Sessions Sessions
	// AdminPassword is the password of user "admin" in Basic authentication.
	AdminPassword string
	// Issuers finds who signs service tokens. ModService is the moderation service
	// that is trusted like a moderator; "" for none.
	Issuers    Issuers
	ModService syntax.DID
	// Limits count guesses of AdminPassword; nil counts none.
	Limits *ratelimit.Limiter
	Now    func() time.Time

	use Use
}

// Anyone admits every request, with whatever credentials or none.
func (v *Verifier) Anyone(context.Context, *http.Request) (Anyone, error) { return Anyone{}, nil }

// SignUp proves a SignUpCaller.
func (v *Verifier) SignUp(ctx context.Context, r *http.Request) (SignUpCaller, error) {
	switch kind, _, err := parseAuthorization(r.Header.Get("Authorization")); {
	case err != nil || kind == schemeNone:
		return SignUpCaller{}, err
	case kind != schemeBearer:
		return SignUpCaller{}, xrpc.Unauthorized(xrpc.NameAuthRequired, "Invalid authorization header")
	}
	t, err := v.service(ctx, r)
	if err != nil {
		return SignUpCaller{}, err
	}
	if t.Service != "" {
		return SignUpCaller{}, errBadJWT("BadJwtIss", "jwt iss is a service, and no account")
	}
	return SignUpCaller{t.Issuer}, nil
}

// Refresh proves a RefreshCaller.
func (v *Verifier) Refresh(ctx context.Context, r *http.Request) (RefreshCaller, error) {
	t, err := v.refreshToken(ctx, r, false)
	return RefreshCaller{t}, err
}

// Ending proves an EndingCaller.
func (v *Verifier) Ending(ctx context.Context, r *http.Request) (EndingCaller, error) {
	t, err := v.refreshToken(ctx, r, true)
	return EndingCaller{t}, err
}

func (v *Verifier) refreshToken(ctx context.Context, r *http.Request, allowExpired bool) (Token, error) {
	token, err := bearer(r, false)
	if err != nil {
		return Token{}, err
	}
	t, err := v.Keyring.VerifyRefresh(token, v.Audience, v.Now(), allowExpired)
	if err != nil {
		return Token{}, err
	}
	request.SetAccount(ctx, t.DID.String())
	return t, nil
}

// Standard proves a StandardCaller.
func (v *Verifier) Standard(ctx context.Context, r *http.Request) (StandardCaller, error) {
	a, err := v.access(ctx, r, ScopeAccess, ScopeAppPass, ScopeAppPassPrivileged)
	return StandardCaller{a}, err
}

// StandardOrTakendown proves a StandardOrTakendownCaller.
func (v *Verifier) StandardOrTakendown(ctx context.Context, r *http.Request) (StandardOrTakendownCaller, error) {
	a, err := v.access(ctx, r, ScopeAccess, ScopeAppPass, ScopeAppPassPrivileged, ScopeTakendown)
	return StandardOrTakendownCaller{a}, err
}

// Upload proves an UploadCaller.
func (v *Verifier) Upload(ctx context.Context, r *http.Request) (UploadCaller, error) {
	if token, err := bearer(r, true); err != nil || !isServiceToken(token) {
		a, err := v.Standard(ctx, r)
		return UploadCaller{a.DID}, err
	}
	t, err := v.service(ctx, r)
	if err == nil && t.Service != "" {
		err = errBadJWT("BadJwtIss", "jwt iss is a service, and no account")
	}
	return UploadCaller{t.Issuer}, err
}

// Full proves a FullCaller.
func (v *Verifier) Full(ctx context.Context, r *http.Request) (FullCaller, error) {
	a, err := v.access(ctx, r, ScopeAccess)
	return FullCaller{a}, err
}

// FullOrTakendown proves a FullOrTakendownCaller.
func (v *Verifier) FullOrTakendown(ctx context.Context, r *http.Request) (FullOrTakendownCaller, error) {
	a, err := v.access(ctx, r, ScopeAccess, ScopeTakendown)
	return FullOrTakendownCaller{a}, err
}

// Viewer proves a Viewer. No credentials are fine; bad ones are refused, as on
// any other route.
func (v *Verifier) Viewer(ctx context.Context, r *http.Request) (Viewer, error) {
	kind, _, err := parseAuthorization(r.Header.Get("Authorization"))
	switch {
	case err != nil:
		return Viewer{}, err
	case kind == schemeNone:
		return Viewer{}, nil
	case kind == schemeBasic:
		err := v.basic(ctx, r)
		return Viewer{Admin: err == nil}, err
	}
	a, err := v.access(ctx, r, ScopeAccess, ScopeAppPass, ScopeAppPassPrivileged, ScopeTakendown)
	return Viewer{DID: a.DID}, err
}

// Sees says whether the viewer may look at what is kept of an account whatever
// its status is.
func (v Viewer) Sees(did syntax.DID) bool { return v.Admin || v.DID == did && did != "" }

func (v *Verifier) access(ctx context.Context, r *http.Request, allowed ...Scope) (Access, error) {
	token, err := bearer(r, true)
	if err != nil {
		return Access{}, err
	}
	t, err := v.Keyring.VerifyAccess(token, v.Audience, v.Now(), allowed...)
	if err != nil {
		return Access{}, err
	}
	request.SetAccount(ctx, t.DID.String())
	st, err := v.Sessions.Standing(ctx, t)
	if err != nil {
		return Access{}, xrpc.Unavailable(err)
	}
	refused := May(v.use, st.Status, t.Scope)
	// A takedown is reported before the end of the session, which it caused.
	if !st.Live && (refused == nil || st.Status != StatusTakendown) {
		refused = ErrExpired()
	}
	if refused != nil {
		return Access{}, refused
	}
	return Access{DID: t.DID, Scope: t.Scope, SID: t.SID}, nil
}

// Admin proves an AdminCaller: HTTP Basic with user "admin".
func (v *Verifier) Admin(ctx context.Context, r *http.Request) (AdminCaller, error) {
	return AdminCaller{}, v.basic(ctx, r)
}

// OwnerOrService proves an OwnerOrServiceCaller.
func (v *Verifier) OwnerOrService(ctx context.Context, r *http.Request) (OwnerOrServiceCaller, error) {
	if token, err := bearer(r, true); err != nil || !isServiceToken(token) {
		c, err := v.StandardOrTakendown(ctx, r)
		return OwnerOrServiceCaller{Access: c.Access}, err
	}
	service, err := v.modService(ctx, r)
	return OwnerOrServiceCaller{Service: service}, err
}

// Moderator proves a ModeratorCaller. The admin is one.
func (v *Verifier) Moderator(ctx context.Context, r *http.Request) (ModeratorCaller, error) {
	if kind, _, err := parseAuthorization(r.Header.Get("Authorization")); err != nil || kind != schemeBearer {
		return ModeratorCaller{}, v.basic(ctx, r)
	}
	service, err := v.modService(ctx, r)
	return ModeratorCaller{service}, err
}

// modService verifies a token of the moderation service, and returns whose it is.
func (v *Verifier) modService(ctx context.Context, r *http.Request) (syntax.DID, error) {
	if v.ModService == "" {
		return "", errBadJWT("UntrustedIss", "Untrusted issuer")
	}
	t, err := v.service(ctx, r, v.ModService.String(), v.ModService.String()+"#"+labeler)
	return t.Issuer, err
}

// guesses are those of the admin's password by one client network.
var guesses = ratelimit.Limit{Name: "admin-failures", Points: 20, Window: 5 * time.Minute}

// basic proves the admin. Failures are counted, and too many refuse the right password
// as well.
func (v *Verifier) basic(ctx context.Context, r *http.Request) error {
	// Whatever is wrong, the answer is the same, as the reference's.
	refused := xrpc.Unauthorized(xrpc.NameAuthRequired, "Authentication Required")
	kind, value, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil || kind != schemeBasic {
		return refused
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return refused
	}
	client := request.ClientOf(ctx)
	limits := v.Limits
	if client.Unlimited {
		limits = nil
	}
	counted := limits.Take(client.Network(), guesses)
	if !counted.Allowed {
		counted.SetHeaders(request.Header(ctx))
		return xrpc.TooManyRequests(counted.RetryAfter(limits.Now()))
	}
	user, password, _ := strings.Cut(string(raw), ":")
	// Both sides are hashed first, so that lengths do not show either.
	want, got := sha256.Sum256([]byte("admin\x00"+v.AdminPassword)), sha256.Sum256([]byte(user+"\x00"+password))
	if v.AdminPassword == "" || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		if limits != nil {
			counted.SetHeaders(request.Header(ctx))
		}
		return refused
	}
	limits.GiveBack(client.Network(), guesses)
	return nil
}
