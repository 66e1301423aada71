package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"

	"nestbox/account"
	"nestbox/device"
	"nestbox/oauth/client"
	"nestbox/oauth/scope"
	"nestbox/request"
	"nestbox/signin"
)

// Flow is what was proven on the way from one page to the next. It travels in the form,
// sealed, so no step needs a cookie.
type Flow struct {
	// Request is the request's ID.
	Request string `json:"request"`
	// Page names this showing of a page: package signin calls it the flow of an attempt.
	Page string    `json:"page"`
	Step Step      `json:"step"`
	At   time.Time `json:"at"`
	// Device is the number of the browser, 0 if it kept no cookie.
	Device int64 `json:"device,omitzero"`

	// DID is the account that the person chose or signed in to. ProvenAt is when they signed in;
	// InFlow means on a page of this flow, with credentials of Epoch.
	DID      syntax.DID `json:"did,omitzero"`
	ProvenAt time.Time  `json:"provenAt,omitzero"`
	InFlow   bool       `json:"inFlow,omitzero"`
	// By is what proved them in this flow.
	By    signin.Proofs `json:"by,omitzero"`
	Epoch int64         `json:"epoch,omitzero"`
	GoOn  bool          `json:"goOn,omitzero"`
	Wish  Wish          `json:"wish,omitzero"`

	// Claim is what was proven before the second factor; Methods are those that pass. Remember is
	// what the person ticked.
	Claim    *signin.Claim   `json:"claim,omitzero"`
	Methods  []signin.Method `json:"methods,omitzero"`
	Method   signin.Method   `json:"method,omitzero"`
	Remember bool            `json:"remember,omitzero"`
}

// flowLife is how long a page may lie open.
const flowLife = 30 * time.Minute

const flowLabel = "flow of /oauth/authorize"

// maxFlow bounds a sealed Flow, in bytes.
const maxFlow = 8 << 10

// SealFlow returns a Flow as the form has it.
func (s *Service) SealFlow(f Flow) string {
	f.At = s.now()
	raw, err := json.Marshal(f)
	if err != nil { // texts, times and numbers always encode
		return ""
	}
	return s.Box.SealText(raw, flowLabel)
}

// ErrFlow: a flow that this server did not seal.
var ErrFlow = errors.New("not a flow of this server")

// OpenFlow returns what SealFlow made. If it has expired, or if the browser is another, only what
// the flow is about is left of it: its owner signs in again. device is that of the request,
// 0 for a browser without a cookie. ErrFlow.
func (s *Service) OpenFlow(text string, device int64) (f Flow, err error) {
	if len(text) > maxFlow {
		return Flow{}, ErrFlow
	}
	raw, err := s.Box.OpenText(text, flowLabel)
	if err != nil || json.Unmarshal(raw, &f) != nil {
		return Flow{}, ErrFlow
	}
	if s.now().Sub(f.At).Abs() >= flowLife || device != 0 && f.Device != 0 && device != f.Device {
		return Flow{Request: f.Request, Page: f.Page, Step: f.Step, Wish: f.Wish, Remember: f.Remember}, nil
	}
	return f, nil
}

// Find returns the request that a link names, for its client. ErrUnknown if it names none.
func (s *Service) Find(ctx context.Context, clientID, requestURI string) (*Request, error) {
	id, ok := strings.CutPrefix(requestURI, requestURIPrefix)
	if !ok || len(id) != idLength {
		return nil, ErrUnknown
	}
	q, err := s.Store.Request(ctx, id)
	if err != nil {
		return nil, err
	}
	if q.ClientID != clientID {
		return nil, ErrUnknown
	}
	return q, nil
}

// Open notes that somebody has opened the page of a request, which gives it longer to live.
func (s *Service) Open(ctx context.Context, q *Request) (*Request, error) {
	if !q.Opened.IsZero() || q.Decision != "" || s.Expired(q) {
		return q, nil
	}
	now := s.now()
	return s.Store.Change(ctx, q.ID, func(q Request) (Request, error) {
		if q.Opened.IsZero() && q.Decision == "" && now.Before(q.Expires) {
			q.Opened, q.Expires = now, q.Made.Add(openedLife)
		}
		return q, nil
	})
}

// Expired reports whether a request may not be decided any more.
func (s *Service) Expired(q *Request) bool { return q.Decision == "" && !s.now().Before(q.Expires) }

// Client returns the client of a request. Errors: those of client.Service.Load.
func (s *Service) Client(ctx context.Context, q *Request) (*client.Client, error) {
	return s.Clients.Load(ctx, q.ClientID, client.ForRequest)
}

// Request returns the request of a flow.
func (s *Service) Request(ctx context.Context, f Flow) (*Request, error) {
	return s.Store.Request(ctx, f.Request)
}

// Permissions returns what a request asks for, one by one, with the permission sets that are
// known.
func (s *Service) Permissions(ctx context.Context, q *Request) ([]scope.Permission, error) {
	set := scope.Parse(q.Parameters.Scope)
	includes := set.Includes()
	if len(includes) == 0 {
		return set.Permissions(nil), nil
	}
	sets, err := s.Schemas.Granted(ctx, includes)
	return set.Permissions(sets.Sets), err
}

// Ticked returns what of a request's scope is granted by the permissions that were ticked.
func (q *Request) Ticked(permissions []string) string {
	return scope.Parse(q.Parameters.Scope).Granted(permissions).String()
}

// Look gathers what decides the next step of a request: see Ask.
func (s *Service) Look(ctx context.Context, q *Request, c *client.Client, f Flow, v *device.Visit) (Ask, error) {
	p := q.Parameters
	a := Ask{
		Prompt: p.Prompt, MaxAge: -1, Remembers: remembers(c), SignUp: s.SignUp,
		Silent: strings.HasPrefix(p.RedirectURI, "https:"), Wish: f.Wish, GoOn: f.GoOn, InFlow: f.InFlow, Now: s.now(),
	}
	if p.MaxAge != nil {
		a.MaxAge = time.Duration(min(*p.MaxAge, int64(maxAge/time.Second))) * time.Second
	}
	if err := s.readHint(ctx, p.LoginHint, &a); err != nil {
		return Ask{}, err
	}
	live := v.Live()
	for i := range live {
		in := &live[i]
		h, err := s.here(ctx, q, in.DID, a.Remembers, in.Trusted(a.Now) || signin.ParseProofs(in.Factors).Level() > 1)
		if errors.Is(err, account.ErrNotFound) {
			continue
		}
		if err != nil {
			return Ask{}, err
		}
		h.At, h.Fresh = in.At, in.MayAuthorize(a.Now)
		a.Here = append(a.Here, h)
	}
	if f.DID == "" {
		return a, nil
	}
	return a, s.readProven(ctx, q, f, v, &a)
}

// maxAge bounds the parameter max_age: no sign-in is older.
const maxAge = 10 * 365 * 24 * time.Hour

// readHint finds the account that login_hint names. Whether somebody has an e-mail address is
// not told.
func (s *Service) readHint(ctx context.Context, hint string, a *Ask) error {
	if hint == "" {
		return nil
	}
	a.HintText = hint
	if strings.Contains(hint, "@") {
		return nil
	}
	found, err := account.Find(ctx, s.Accounts, hint)
	if errors.Is(err, account.ErrNotFound) {
		a.HintLost = true
		return nil
	}
	if err == nil {
		a.Hint = &found.DID
	}
	return err
}

// here reads an account. all: it was proven with all factors that there may be.
func (s *Service) here(ctx context.Context, q *Request, did syntax.DID, remembers, all bool) (Here, error) {
	acc, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return Here{}, err
	}
	h := Here{ID: acc.ID, DID: acc.DID, Handle: acc.ShownHandle(), Email: acc.Email, Status: acc.Status()}
	if !all {
		f, err := s.Factors.Factors(ctx, acc.ID)
		if err != nil {
			return Here{}, err
		}
		h.Lacks = f.Wanted(acc.EmailFactor)
	}
	if !remembers {
		return h, nil
	}
	before, err := s.Store.Consent(ctx, acc.ID, q.ClientID)
	h.Remembered = len(before.scopes(s.now()).Missing(scope.Parse(q.Parameters.Scope))) == 0
	return h, err
}

// readProven reads the account that the flow has, unless what proves it does not hold any more: a
// password that was changed since, a sign-out on this browser.
func (s *Service) readProven(ctx context.Context, q *Request, f Flow, v *device.Visit, a *Ask) error {
	h, err := s.here(ctx, q, f.DID, a.Remembers, f.By.Level() > 1)
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	h.At, h.Fresh, h.Lacks = f.ProvenAt, true, h.Lacks && !v.Trusts(h.ID)
	switch {
	case h.Status == account.TakenDown: // that ended what proved them
	case f.InFlow && h.Lacks:
		return nil
	case f.InFlow:
		cred, err := s.Accounts.Credentials(ctx, h.ID)
		if err != nil && !errors.Is(err, account.ErrNotFound) {
			return err
		}
		if err != nil || cred.Epoch != f.Epoch {
			return nil //nolint:nilerr // an answer, no fault
		}
	case !v.Known():
		return nil // an account that was chosen is proven by the browser alone
	default:
		i := slices.IndexFunc(a.Here, func(h Here) bool { return h.DID == f.DID })
		if i < 0 {
			return nil
		}
		h = a.Here[i]
	}
	a.Proven = &h
	return nil
}

// Choice is what a person decides about a request of a client.
type Choice struct {
	Client   *client.Client
	Decision Decision
	// Who names the account; nil if nobody has signed in, which suffices to deny.
	Who *Here
	// InFlow and Epoch are the Flow's.
	InFlow bool
	Epoch  int64
	// Granted is what was allowed of the scope.
	Granted string
	Device  int64
}

// ErrAnswered: the request was decided before, in another way, or its code was used.
var ErrAnswered = errors.New("the request was answered before")

// ErrExpired: the request has expired.
var ErrExpired = errors.New("the request has expired")

// Decide notes a person's decision. The first one stands; the same again returns the same. Errors:
// ErrAnswered, with the request as it is; ErrExpired; account.ErrTakenDown; ErrUnknown, also if what
// proved the person has changed.
func (s *Service) Decide(ctx context.Context, q *Request, c Choice) (*Request, error) {
	now, browser := s.now(), request.ClientOf(ctx)
	next := Request{
		Decision: c.Decision, DecidedAt: now, DeviceID: c.Device, Network: browser.Network().String(),
		UserAgent: browser.UserAgent,
	}
	if c.Who != nil {
		next.AccountID, next.DID = c.Who.ID, c.Who.DID
	}
	if c.Decision == Allow {
		cred, err := s.Accounts.Credentials(ctx, c.Who.ID)
		switch {
		case err == nil && cred.TakenDown:
			return nil, account.ErrTakenDown
		case errors.Is(err, account.ErrNotFound), err == nil && c.InFlow && cred.Epoch != c.Epoch:
			return nil, ErrUnknown
		}
		if err != nil {
			return nil, err
		}
		next.Epoch, next.Granted = cred.Epoch, scope.Parse(c.Granted).String()
	}
	decided, err := s.Store.Decide(ctx, q.ID, next.AccountID, func(q Request, before *Consent) (Request, *Consent, error) {
		if q.Decision != "" {
			return q, nil, nil
		}
		if !now.Before(q.Expires) {
			return q, nil, ErrExpired
		}
		q.Decision, q.DecidedAt, q.AccountID, q.DID, q.Epoch = next.Decision, now, next.AccountID, next.DID, next.Epoch
		q.Granted, q.DeviceID, q.Network, q.UserAgent = next.Granted, next.DeviceID, next.Network, next.UserAgent
		q.Expires = later(q.Expires, now.Add(codeLife))
		if q.Opened.IsZero() {
			q.Opened = now
		}
		if c.Decision == Allow && remembers(c.Client) {
			return q, before.narrowed(&q, now), nil
		}
		return q, nil, nil
	})
	if err != nil {
		return nil, err
	}
	same := decided.Decision == next.Decision && (decided.Decision == Deny || decided.AccountID == next.AccountID &&
		decided.Granted == next.Granted)
	if !same || decided.Decision == Allow && !s.CodeLives(decided) {
		return decided, ErrAnswered
	}
	if decided.Decision == Allow {
		request.SetMark(ctx, request.ClientAllowed)
		trusted := c.Client != nil && c.Client.Trusted
		if trusted {
			request.SetMark(ctx, request.FirstParty)
		}
		request.Event(ctx, request.EventAuthorized, decided.DID.String(), request.ForClient(decided.ClientID),
			slog.Bool("clientTrusted", trusted), slog.Bool("clientFirstParty", trusted), //nolint:sloglint // the reference's names
			slog.Bool("clientConfidential", c.Client != nil && c.Client.Confidential())) //nolint:sloglint // the reference's name
	}
	return decided, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// CodeLives reports whether a request was allowed, and its code can still be used.
func (s *Service) CodeLives(q *Request) bool {
	return q.Decision == Allow && q.RedeemedAt.IsZero() && s.now().Sub(q.DecidedAt) < codeLife
}

// Answer is what is sent to the client: by a redirect to URL, or, if Fields is set, by a form that
// is posted to it.
type Answer struct {
	URL    string
	Fields [][2]string
	// Refused means that it is an error.
	Refused bool
}

// Answer returns the answer to a decided request.
func (s *Service) Answer(q *Request) Answer {
	if q.Decision == Allow {
		return s.answer(q, "code", s.code(q))
	}
	return s.Fail(q, codeAccessDenied, "The user denied the request")
}

// Fail returns an error for the client of a request.
func (s *Service) Fail(q *Request, code, description string) Answer {
	a := s.answer(q, "error", code, "error_description", description)
	a.Refused = true
	return a
}

// ExpiredAnswer is the answer to a request that nobody decided in time.
func (s *Service) ExpiredAnswer(q *Request) Answer {
	return s.Fail(q, codeAccessDenied, "This request has expired")
}

// TakenDownAnswer is the answer to a request whose person's account was taken down meanwhile.
func (s *Service) TakenDownAnswer(q *Request) Answer { return s.Fail(q, codeAccessDenied, takenDown) }

// FaultAnswer is the answer to a fault of ours.
func (s *Service) FaultAnswer(q *Request) Answer {
	return s.Fail(q, codeServerError, "The server cannot answer now")
}

// answer makes an answer of pairs, with iss (RFC 9207) and the client's state.
func (s *Service) answer(q *Request, pairs ...string) Answer {
	var fields [][2]string
	fields = append(fields, [2]string{"iss", s.Issuer})
	if state := q.Parameters.State; state != "" {
		fields = append(fields, [2]string{"state", state})
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		fields = append(fields, [2]string{pairs[i], pairs[i+1]})
	}
	to := q.Parameters.RedirectURI
	if q.Parameters.ResponseMode == ModeFormPost {
		return Answer{URL: to, Fields: fields}
	}
	var text []string
	for _, f := range fields {
		text = append(text, f[0]+"="+url.QueryEscape(f[1]))
	}
	return Answer{URL: withParameters(to, strings.Join(text, "&"), q.Parameters.ResponseMode)}
}

// withParameters adds parameters to a redirect URI, which stays as it is otherwise.
func withParameters(uri, parameters string, mode ResponseMode) string {
	if mode == ModeFragment {
		return uri + "#" + parameters // it has none: see client.Redirect
	}
	switch i := strings.IndexByte(uri, '?'); {
	case i < 0:
		return uri + "?" + parameters
	case i == len(uri)-1, strings.HasSuffix(uri, "&"):
		return uri + parameters
	default:
		return uri + "&" + parameters
	}
}
