package oauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/oauth/client"
	"nestbox/oauth/dpop"
	"nestbox/oauth/scope"
	"nestbox/request"
)

// requestURIPrefix is that of RFC 9126 section 2.2; what follows is the request's ID.
const requestURIPrefix = "urn:ietf:params:oauth:request_uri:"

// maxState bounds the parameter state, in bytes.
const maxState = 4 << 10

// pushed is the answer to a request that was pushed (RFC 9126 section 2.2).
type pushed struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int    `json:"expires_in"`
}

// ServePush answers POST /oauth/par.
func (s *Service) ServePush(w http.ResponseWriter, r *http.Request) { s.serve(s.push)(w, r) }

func (s *Service) push(w http.ResponseWriter, r *http.Request) (int, any, error) {
	answer, err := s.pushRequest(w, r)
	if err != nil {
		return 0, nil, s.countFailure(r.Context(), err, pushesPerNetwork)
	}
	return http.StatusCreated, answer, nil
}

func (s *Service) pushRequest(w http.ResponseWriter, r *http.Request) (pushed, error) {
	ctx := r.Context()
	p, err := readBody(w, r)
	if err != nil {
		return pushed{}, err
	}
	jkt, err := s.proof(r)
	if err != nil {
		return pushed{}, err
	}
	if jkt, err = boundKey(p["dpop_jkt"], jkt); err != nil {
		return pushed{}, err
	}
	asked, err := readParameters(p)
	if err != nil {
		return pushed{}, err
	}
	who, err := s.authenticate(ctx, p, jkt, client.ForRequest, func(c *client.Client) error { return asked.of(p, c) })
	if err != nil {
		return pushed{}, err
	}
	if _, _, err := s.expandNew(ctx, asked.Scope); err != nil {
		return pushed{}, err
	}
	// First the assertion: a copy that was used before uses up nothing of its client's.
	if err := who.Record(); err != nil {
		return pushed{}, err
	}
	if err := s.admitPush(ctx, who); err != nil {
		return pushed{}, err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails: crypto/rand ends the process instead
	now := s.now()
	q := Request{
		ID: base64.RawURLEncoding.EncodeToString(id), Holder: who.Holder, Parameters: asked, Made: now, Expires: now.Add(unopenedLife),
	}
	if err := s.Store.Push(ctx, q, maxWaiting); err != nil {
		return pushed{}, err
	}
	return pushed{requestURIPrefix + q.ID, int(unopenedLife.Seconds())}, nil
}

// admitPush counts a push: that of a client which has proven itself against the client, any
// other against its network.
func (s *Service) admitPush(ctx context.Context, who authenticated) error {
	if who.Client.Confidential() {
		return request.Charge(ctx, s.Limits, who.Client.ID, 1, pushesPerClient)
	}
	return request.ChargeNetwork(ctx, s.Limits, 1, pushesPerNetwork)
}

// boundKey returns the key that a request is bound to: that of its proof, or the one that it
// names.
func boundKey(named, proven string) (string, error) {
	switch {
	case named == "":
		return proven, nil
	case !isHash(named):
		return "", badRequest("dpop_jkt is not a thumbprint (43 characters of base64url)")
	case proven != "" && proven != named:
		return "", refuse(dpop.CodeInvalidProof, "dpop_jkt is not the key of the DPoP proof")
	default:
		return named, nil
	}
}

// isHash reports whether text is a SHA-256 hash in base64url.
func isHash(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(raw) == 32 && len(text) == 43 // the decoder skips line breaks
}

// readParameters checks what a client asks for, but for what its document must allow: see of.
func readParameters(p parameters) (Parameters, error) {
	asked := Parameters{
		State: p["state"], Challenge: p["code_challenge"], ResponseMode: ResponseMode(cmp.Or(p["response_mode"], string(ModeQuery))),
		LoginHint: readHint(p["login_hint"]), UILocales: preference(p["ui_locales"]), Display: preference(p["display"]),
	}
	switch {
	case p["request"] != "":
		return asked, badRequest("request is not supported")
	case p["request_uri"] != "":
		return asked, badRequest("request_uri must not be in a pushed request")
	case p["response_type"] != "code":
		return asked, refuse(codeUnsupportedResponse, "response_type must be code")
	case len(asked.State) > maxState:
		return asked, badRequest("state is larger than 4 KiB")
	case strings.ContainsFunc(asked.State, unicode.IsControl): // a form would bring it back changed
		return asked, badRequest("state has a control character")
	case !isHash(asked.Challenge):
		return asked, badRequest("code_challenge is missing or not 43 characters of base64url")
	case p["code_challenge_method"] != "S256":
		return asked, badRequest("code_challenge_method must be S256")
	}
	var err error
	if asked.Prompt, err = readPrompt(p["prompt"]); err != nil {
		return asked, err
	}
	if age := p["max_age"]; age != "" {
		n, err := strconv.ParseInt(age, 10, 64)
		if err != nil || n < 0 {
			return asked, badRequest("max_age is not a number of seconds")
		}
		asked.MaxAge = &n
	}
	return asked, nil
}

// maxPreference bounds a parameter that is a mere preference, in bytes.
const maxPreference = 256

// preference returns a parameter that is never an error; one that makes no sense is ignored.
func preference(text string) string {
	if len(text) > maxPreference || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return ""
	}
	return text
}

// of checks what a client's document must allow.
func (a *Parameters) of(p parameters, c *client.Client) (err error) {
	if a.RedirectURI, a.RedirectImplied, err = readRedirect(p["redirect_uri"], c); err != nil {
		return err
	}
	if err := a.readScope(p["scope"], c); err != nil {
		return err
	}
	return a.checkMode()
}

func readRedirect(uri string, c *client.Client) (redirect string, implied bool, err error) {
	if uri == "" {
		if uri, ok := c.SoleRedirect(); ok {
			return uri, true, nil
		}
		return "", false, badRequest("Invalid redirect_uri: it is missing, and the client has several")
	}
	return uri, false, c.Redirect(uri)
}

// readScope drops what it does not know, so that a client which asks for a permission of the
// future works; all else must be in the client's document, compared by its meaning.
func (a *Parameters) readScope(text string, c *client.Client) error {
	if text == "" {
		return refuse(codeInvalidScope, "scope is missing")
	}
	if err := scope.Check(text); err != nil {
		return err
	}
	if slices.Contains(strings.Fields(text), "openid") {
		return refuse(codeInvalidScope, "openid is not supported")
	}
	asked := scope.Parse(text)
	if !asked.Has(scope.Atproto) {
		return refuse(codeInvalidScope, "scope must hold atproto")
	}
	if missing := scope.Parse(c.Scope).Missing(asked); len(missing) > 0 {
		return refuse(codeInvalidScope, "Scope %.200s is not in the scope of the client metadata", missing[0])
	}
	a.Dropped = asked.Dropped()
	a.Scope = strings.Join(slices.DeleteFunc(strings.Fields(text), func(token string) bool { return slices.Contains(a.Dropped, token) }), " ")
	return nil
}

func (a *Parameters) checkMode() error {
	switch a.ResponseMode {
	case ModeQuery, ModeFragment:
	case ModeFormPost:
		if u, err := url.Parse(a.RedirectURI); err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return badRequest("response_mode form_post needs a redirect_uri of http or https")
		}
	default:
		return badRequest("response_mode must be query, fragment or form_post")
	}
	return nil
}

func readPrompt(text string) (p Prompt, err error) {
	words := strings.Fields(text)
	for _, word := range words {
		switch word {
		case "none":
			p.None = true
		case "login":
			p.Login = true
		case "consent":
			p.Consent = true
		case "select_account":
			p.SelectAccount = true
		case "create":
			p.Create = true
		default:
			return Prompt{}, badRequest("prompt must be none, login, consent, select_account or create")
		}
	}
	if p.None && len(words) > 1 {
		return Prompt{}, badRequest("prompt none must be alone")
	}
	return p, nil
}

// readHint returns a login_hint in its clean form; what is none is ignored.
func readHint(hint string) string {
	const longest = 2048
	hint = account.CleanIdentifier(hint[:min(len(hint), longest)])
	if did, err := syntax.ParseDID(hint); err == nil {
		return did.String()
	}
	if handle, err := syntax.ParseHandle(hint); err == nil {
		return handle.Normalize().String()
	}
	if name, host, ok := strings.Cut(hint, "@"); ok && name != "" && strings.Contains(host, ".") && !strings.Contains(host, "@") {
		return hint
	}
	return ""
}
