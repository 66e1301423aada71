package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/firehose/event"
	"nestbox/oauth/scope"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// The kinds of caller. A handler's parameter type is its permission.
type (
	// Anyone proved nothing.
	Anyone struct{}

	// SignUpCaller proved nothing, or proved by a service token that it owns a DID,
	// with which an account moves in.
	SignUpCaller struct{ Owner syntax.DID }

	// RefreshCaller presented a refresh token that has not expired. The session package
	// decides whether its session is live.
	RefreshCaller struct{ Token Token }

	// EndingCaller presented a refresh token, expired or not: this allows ending the
	// session that it belongs to, and nothing else.
	EndingCaller struct{ Token Token }

	// StandardCaller holds an access token of a live session, opened by the password or
	// by an app password, of an account that is not taken down.
	StandardCaller struct{ Access }

	// StandardOrTakenDownCaller is a StandardCaller, or a caller that signed in to a
	// taken-down account.
	StandardOrTakenDownCaller struct{ Access }

	// UploadCaller may upload for an account: a StandardCaller, or a service that
	// holds a token of the account for it.
	UploadCaller struct {
		Holder

		granted *scope.Set
	}

	// FullCaller holds an access token of a session that the account's own
	// password opened.
	FullCaller struct{ Access }

	// FullOrTakenDownCaller is a FullCaller, or a caller that signed in to a
	// taken-down account: it may move out.
	FullOrTakenDownCaller struct{ Access }

	// Viewer asks for what is public, and may have proved to be the owner or the admin,
	// who see what others do not. DID is empty if nobody signed in; the owner of a
	// taken-down account still counts as one.
	Viewer struct {
		DID   syntax.DID
		Admin bool
	}

	// ModeratorCaller may look at accounts and change their status: the admin,
	// or a moderation service, whose DID Service is.
	ModeratorCaller struct{ Service syntax.DID }

	// OwnerOrServiceCaller is a StandardOrTakenDownCaller, or the moderation service,
	// whose DID is then Service, and which may ask about any account.
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
	// AppPassword is the number of the app password that opened the session; 0 if
	// another server issued the token, or if the session is not an app password's.
	AppPassword int64
	// ClientID is the OAuth client's, empty for any other caller.
	ClientID string

	granted *scope.Set // nil unless the caller is an OAuth client
}

// Standing is what the server knows of an access token's account and session.
type Standing struct {
	// Status is the account's hosting status, empty if it is active. It is reported
	// before any fault of the session.
	Status string
	// Live means that the account exists and the session has not ended.
	Live bool
	// AppPassword is Access.AppPassword.
	AppPassword int64
}

// Sessions looks up the account and session of an access token. The answer may come
// from a cache that is never older than the last committed change by this server.
type Sessions interface {
	Standing(ctx context.Context, t Token) (Standing, error)
}

// Verifier proves callers. Its fields are set once.
type Verifier struct {
	Keyring *Keyring
	// Audience is the server's DID: aud of every session token.
	Audience string
	// HostDID is did:web and the server's host name. Clients that let a service upload for
	// them put it into the service's token instead of Audience.
	HostDID  string
	Sessions Sessions
	// Resource proves OAuth clients; nil refuses them.
	Resource *Resource
	// AdminPassword is the password of user "admin" in Basic authentication.
	AdminPassword string
	// Issuers finds the keys that sign service tokens. ModService is the moderation
	// service that is trusted like a moderator; "" for none.
	Issuers    Issuers
	ModService syntax.DID
	// Limits count guesses of AdminPassword; nil counts none.
	Limits *ratelimit.Limiter
	Now    func() time.Time

	use    Use
	oauth  oauthAccess
	byHost bool // a service token for HostDID is as good as one for Audience
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

// StandardOrTakenDown proves a StandardOrTakenDownCaller.
func (v *Verifier) StandardOrTakenDown(ctx context.Context, r *http.Request) (StandardOrTakenDownCaller, error) {
	a, err := v.access(ctx, r, ScopeAccess, ScopeAppPass, ScopeAppPassPrivileged, ScopeTakenDown)
	return StandardOrTakenDownCaller{a}, err
}

// Upload proves an UploadCaller.
func (v *Verifier) Upload(ctx context.Context, r *http.Request) (UploadCaller, error) {
	if token, err := bearer(r, true); err != nil || !isServiceToken(token) {
		a, err := v.Standard(ctx, r)
		return UploadCaller{a.Holder(), a.granted}, err
	}
	uploads := *v
	uploads.byHost = true
	t, err := uploads.service(ctx, r)
	if err == nil && t.Service != "" {
		err = errBadJWT("BadJwtIss", "jwt iss is a service, and no account")
	}
	return UploadCaller{Holder: Holder{t.Issuer, viaService}}, err
}

// Full proves a FullCaller.
func (v *Verifier) Full(ctx context.Context, r *http.Request) (FullCaller, error) {
	a, err := v.access(ctx, r, ScopeAccess)
	return FullCaller{a}, err
}

// FullOrTakenDown proves a FullOrTakenDownCaller.
func (v *Verifier) FullOrTakenDown(ctx context.Context, r *http.Request) (FullOrTakenDownCaller, error) {
	a, err := v.access(ctx, r, ScopeAccess, ScopeTakenDown)
	return FullOrTakenDownCaller{a}, err
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
	a, err := v.access(ctx, r, ScopeAccess, ScopeAppPass, ScopeAppPassPrivileged, ScopeTakenDown)
	return Viewer{DID: a.DID}, err
}

// Sees reports whether the viewer may see what is stored of an account, whatever
// its status is.
func (v Viewer) Sees(did syntax.DID) bool { return v.Admin || v.DID == did && did != "" }

// Refused returns nil if the viewer may see the content of an account, records and
// blobs: if its status is empty, and always as its owner or the admin. Otherwise it
// returns the error for the client, by the Lexicon's name: RepoTakendown,
// RepoSuspended, RepoDeactivated.
func (v Viewer) Refused(did syntax.DID, status string) error {
	switch {
	case status == "" || v.Sees(did):
		return nil
	case status == event.StatusTakenDown:
		return xrpc.BadRequest("RepoTakendown", "Repo has been takendown: "+did.String())
	case status == event.StatusSuspended:
		return xrpc.BadRequest("RepoSuspended", "Repo has been suspended: "+did.String())
	default:
		return xrpc.BadRequest("RepoDeactivated", "Repo has been deactivated: "+did.String())
	}
}

func (v *Verifier) access(ctx context.Context, r *http.Request, allowed ...Scope) (Access, error) {
	if v.Resource != nil && isDPoP(r) {
		return v.granted(ctx, r)
	}
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
	// A takedown is reported rather than the end of the session, which it caused.
	if !st.Live && (refused == nil || st.Status != event.StatusTakenDown) {
		refused = Expired()
	}
	if refused != nil {
		return Access{}, refused
	}
	return Access{DID: t.DID, Scope: t.Scope, SID: t.SID, AppPassword: st.AppPassword}, nil
}

// Admin proves an AdminCaller: HTTP Basic with user "admin".
func (v *Verifier) Admin(ctx context.Context, r *http.Request) (AdminCaller, error) {
	return AdminCaller{}, v.basic(ctx, r)
}

// OwnerOrService proves an OwnerOrServiceCaller.
func (v *Verifier) OwnerOrService(ctx context.Context, r *http.Request) (OwnerOrServiceCaller, error) {
	if token, err := bearer(r, true); err != nil || !isServiceToken(token) {
		c, err := v.StandardOrTakenDown(ctx, r)
		return OwnerOrServiceCaller{Access: c.Access}, err
	}
	service, err := v.modService(ctx, r)
	return OwnerOrServiceCaller{Service: service}, err
}

// IsService reports whether a request presents what looks like a service token. It proves
// nothing.
func (*Verifier) IsService(r *http.Request) bool {
	token, err := bearer(r, true)
	return err == nil && isServiceToken(token)
}

// Moderator proves a ModeratorCaller. The admin is one.
func (v *Verifier) Moderator(ctx context.Context, r *http.Request) (ModeratorCaller, error) {
	if kind, _, err := parseAuthorization(r.Header.Get("Authorization")); err != nil || kind != schemeBearer {
		return ModeratorCaller{}, v.basic(ctx, r)
	}
	service, err := v.modService(ctx, r)
	return ModeratorCaller{service}, err
}

// modService verifies a token of the moderation service, and returns the service's
// DID.
func (v *Verifier) modService(ctx context.Context, r *http.Request) (syntax.DID, error) {
	if v.ModService == "" {
		return "", errBadJWT("UntrustedIss", "Untrusted issuer")
	}
	t, err := v.service(ctx, r, v.ModService.String(), v.ModService.String()+"#"+labeler)
	return t.Issuer, err
}

// guesses limits guesses of the admin's password by one client network.
var guesses = ratelimit.Limit{Name: "admin-failures", Points: 20, Window: 5 * time.Minute}

// basic proves the admin. Failures are counted; after too many even the right password
// is refused.
func (v *Verifier) basic(ctx context.Context, r *http.Request) error {
	// The answer is the same whatever is wrong, as in the reference.
	refused := xrpc.Unauthorized(xrpc.NameAuthRequired, "Authentication Required")
	kind, value, err := parseAuthorization(r.Header.Get("Authorization"))
	if err != nil || kind != schemeBasic {
		return refused
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return refused
	}
	user, password, _ := strings.Cut(string(raw), ":")
	err = v.ProveAdmin(ctx, user, password)
	if many, ok := errors.AsType[request.ErrTooMany](err); ok {
		return xrpc.TooManyRequests(many.Wait)
	}
	if err != nil {
		return refused
	}
	return nil
}

// ErrNotAdmin: the name or the password is not the admin's.
var ErrNotAdmin = errors.New("wrong name or password of the admin")

// ProveAdmin checks the admin's name and password. Failures are counted; after too many even
// the right password is refused: request.ErrTooMany, ErrNotAdmin.
func (v *Verifier) ProveAdmin(ctx context.Context, user, password string) error {
	client := request.ClientOf(ctx)
	limits := v.Limits
	if client.Unlimited {
		limits = nil
	}
	keys := client.Network().Keys("")
	counted := limits.TakeKeys(keys, 1, guesses)
	if !counted.Allowed {
		counted.SetHeaders(request.Header(ctx))
		return request.ErrTooMany{Wait: counted.RetryAfter(limits.Now())}
	}
	// Both sides are hashed first, so that lengths do not show either.
	want, got := sha256.Sum256([]byte("admin\x00"+v.AdminPassword)), sha256.Sum256([]byte(user+"\x00"+password))
	if v.AdminPassword == "" || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		if limits != nil {
			counted.SetHeaders(request.Header(ctx))
		}
		return ErrNotAdmin
	}
	limits.GiveBackKeys(keys, 1, guesses)
	return nil
}
