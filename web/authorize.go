package web

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"

	"nestbox/account"
	"nestbox/oauth"
	"nestbox/oauth/client"
	"nestbox/request"
)

// FlowPages answers /oauth/authorize: it shows the steps that package oauth decides on, and does
// what their forms ask for. Its fields are set once.
type FlowPages struct {
	*AccountPages
}

// FlowRoutes returns the route of the flow.
func (p *FlowPages) FlowRoutes() []Route {
	return []Route{{oauth.PathAuthorize, p.open, p.answer}}
}

// flow is one request for a page of the flow.
type flow struct {
	query

	request *oauth.Request
	client  *client.Client
	// state is what the form brought, and what the next one brings.
	state oauth.Flow
	// problems and notices are shown on the next page, status is its status.
	problems []Problem
	notices  []Notice
	status   int
	// signUp is the page of that step, if its form came.
	signUp *SignUp
	// left is for the page that asks again.
	left int
}

// open answers GET: it changes nothing but that the request was opened.
func (p *FlowPages) open(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead || isPrefetch(r) {
		request.SetRefusal(r.Context())
		w.Header().Set("Retry-After", "1")
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	if !isNavigation(r) {
		p.message(w, r, http.StatusBadRequest, &Message{Kind: Failure, Title: Msg("error.frame-title"), Body: []Text{Msg("error.frame-body")}})
		return
	}
	asked := r.URL.Query()
	if !asked.Has("request_uri") && (asked.Has("response_type") || asked.Has("redirect_uri") || asked.Has("scope") || asked.Has("request")) {
		p.message(w, r, http.StatusBadRequest, &Message{
			Kind: Failure, Title: Msg("error.push-title"), Body: []Text{Msg("error.push-body")}, Detail: "PAR is required (RFC 9126): POST " +
				oauth.PathPush,
		})
		return
	}
	q, err := p.OAuth.Find(r.Context(), asked.Get("client_id"), asked.Get("request_uri"))
	if errors.Is(err, oauth.ErrUnknown) {
		p.message(w, r, http.StatusBadRequest, &Message{Kind: Failure, Title: Msg("error.link-title"), Body: []Text{Msg("error.link-body")}})
		return
	}
	if err != nil {
		p.broken(w, r, err)
		return
	}
	x := &flow{query: query{w: w, r: r}, request: q, status: http.StatusOK}
	if err := p.begin(x); err != nil { //nolint:contextcheck // the request's is used
		request.Fail(r.Context(), http.StatusServiceUnavailable, "Unavailable", err)
		p.send(x, p.OAuth.FaultAnswer(q))
	}
}

// isPrefetch reports whether a browser only prepares for a click (https://fetch.spec.whatwg.org/#sec-purpose-header).
func isPrefetch(r *http.Request) bool {
	return r.Header.Get("Sec-Purpose") != "" || r.Header.Get("Purpose") == "prefetch" || r.Header.Get("X-Moz") == "prefetch"
}

// isNavigation reports whether the page is going to be seen as a page, as far as the browser
// says: old ones say nothing.
func isNavigation(r *http.Request) bool {
	dest, mode := r.Header.Get("Sec-Fetch-Dest"), r.Header.Get("Sec-Fetch-Mode")
	return (dest == "" || dest == "document") && (mode == "" || mode == "navigate")
}

// broken answers a fault of ours where nothing tells the way to the client.
func (p *FlowPages) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	request.Fail(r.Context(), http.StatusInternalServerError, "InternalServerError", err)
	p.message(w, r, http.StatusInternalServerError, &Message{
		Kind: Failure, Title: Msg("error.ours-title"),
		Body: []Text{Msg("error.ours-body")},
	})
}

// begin shows the first page of a request, or answers it at once.
func (p *FlowPages) begin(x *flow) (err error) {
	ctx := x.r.Context()
	if x.visit, err = p.Browsers.Visit(x.r, 0); err != nil {
		return err
	}
	p.Browsers.Keep(x.w, x.visit)
	if x.client, err = p.OAuth.Client(ctx, x.request); err != nil {
		return err
	}
	if p.OAuth.Expired(x.request) {
		p.send(x, p.OAuth.ExpiredAnswer(x.request))
		return nil
	}
	x.state = oauth.Flow{Request: x.request.ID, Device: x.visit.ID}
	ask, err := p.OAuth.Look(ctx, x.request, x.client, x.state, &x.visit)
	if err != nil {
		return err
	}
	next := ask.Decide()
	if x.request.Decision != "" {
		if next.Allowed && p.answeredHere(x) && x.request.DID == next.Who.DID {
			p.send(x, p.OAuth.Answer(x.request)) // silent before, so silent again
			return nil
		}
		p.answered(x)
		return nil
	}
	if x.request, err = p.OAuth.Open(ctx, x.request); err != nil {
		return err
	}
	return p.show(x, next)
}

// answer answers POST: the form of a step.
func (p *FlowPages) answer(w http.ResponseWriter, r *http.Request) {
	x := &flow{query: query{w: w, r: r}, status: http.StatusOK}
	if err := p.step(x); err != nil { //nolint:contextcheck // the request's is used
		p.Fail(w, r, err)
	}
}

func (p *FlowPages) step(x *flow) (err error) {
	ctx := x.r.Context()
	if x.visit, err = p.Browsers.Visit(x.r, 0); err != nil {
		return err
	}
	p.Browsers.Keep(x.w, x.visit)
	x.state, err = p.OAuth.OpenFlow(x.typed("flow"), x.visit.ID)
	if errors.Is(err, oauth.ErrFlow) {
		p.Foreign(x.w, x.r)
		return nil
	}
	x.request, err = p.OAuth.Request(ctx, x.state)
	if errors.Is(err, oauth.ErrUnknown) {
		p.message(x.w, x.r, http.StatusBadRequest, &Message{
			Kind: Failure, Title: Msg("error.expired-title"),
			Body: []Text{Msg("error.expired-body")},
		})
		return nil
	}
	if err != nil {
		return err
	}
	if x.client, err = p.OAuth.Client(ctx, x.request); err != nil {
		return err
	}
	if p.OAuth.Expired(x.request) {
		p.send(x, p.OAuth.ExpiredAnswer(x.request))
		return nil
	}
	ask, err := p.OAuth.Look(ctx, x.request, x.client, x.state, &x.visit)
	if err != nil {
		return err
	}
	now := ask.Decide()
	if x.typed("decision") == "deny" {
		who := now.Who
		if now.Step == oauth.StepSignIn {
			who = nil // a hint names the account, and nobody has proven to own it
		}
		return p.decide(x, oauth.Deny, who, "")
	}
	if x.request.Decision != "" {
		return p.again(x, now)
	}
	if now.Error != "" {
		return p.show(x, now)
	}
	if x.state.At.IsZero() { // it was open for too long, or is another browser's
		x.problems, x.status = []Problem{{Text: Msg("signin.expired")}}, http.StatusUnprocessableEntity
		return p.show(x, now)
	}
	x.flow = x.state.Page
	shown, err := p.act(x, ask, now)
	if shown || err != nil {
		return err
	}
	if ask, err = p.OAuth.Look(ctx, x.request, x.client, x.state, &x.visit); err != nil {
		return err
	}
	return p.show(x, ask.Decide())
}

// again answers a form of a request that was decided before: the same decision, on the same page
// and by the same person, has the same answer; any other changes nothing.
func (p *FlowPages) again(x *flow, now oauth.Next) error {
	if x.state.Step == oauth.StepConsent && x.typed("decision") == "allow" && now.Who != nil && now.Who.DID == x.state.DID {
		return p.decide(x, oauth.Allow, now.Who, x.request.Ticked(x.r.PostForm["permission"]))
	}
	p.answered(x)
	return nil
}

// act does what the form of a step asks for. It reports whether the request was answered; if not, what
// comes next is shown.
func (p *FlowPages) act(x *flow, ask oauth.Ask, now oauth.Next) (answered bool, err error) {
	switch x.state.Step {
	case oauth.StepAccount:
		return false, p.choose(x, ask)
	case oauth.StepSignIn:
		return p.signInStep(x, now)
	case oauth.StepFactor:
		return p.factorStep(x)
	case oauth.StepSignUp:
		return p.signUpStep(x, now)
	case oauth.StepDeactivated:
		return false, p.reactivateStep(x, now)
	case oauth.StepConsent:
		return p.consentStep(x, now)
	default:
		return false, nil
	}
}

// decide notes the person's decision, and answers the client.
func (p *FlowPages) decide(x *flow, decision oauth.Decision, who *oauth.Here, granted string) error {
	q, err := p.OAuth.Decide(x.r.Context(), x.request, oauth.Choice{
		Client: x.client, Decision: decision, Who: who, InFlow: x.state.InFlow, Epoch: x.state.Epoch, Granted: granted, Device: x.visit.ID,
	})
	switch {
	case errors.Is(err, oauth.ErrAnswered):
		x.request = q
		p.answered(x)
		return nil
	case errors.Is(err, oauth.ErrExpired):
		p.send(x, p.OAuth.ExpiredAnswer(x.request))
		return nil
	case errors.Is(err, account.ErrTakenDown):
		p.send(x, p.OAuth.TakenDownAnswer(x.request))
		return nil
	case errors.Is(err, oauth.ErrUnknown):
		p.Changed(x.w, x.r)
		return nil
	case err != nil:
		return err
	}
	if who != nil {
		request.SetAccount(x.r.Context(), who.DID.String())
	}
	p.send(x, p.OAuth.Answer(q))
	return nil
}

// send sends an answer to the client: by a redirect, or by a page with a form.
func (p *FlowPages) send(x *flow, a oauth.Answer) {
	if a.Fields == nil {
		x.w.Header().Set("Location", a.URL)
		x.w.WriteHeader(http.StatusSeeOther)
		return
	}
	page := &FormPost{Frame: p.flowFrame(x), To: a.URL, Refused: a.Refused}
	if u, err := url.Parse(a.URL); err == nil {
		page.Host = u.Host
	}
	page.Fields = hiddenFields(a)
	p.Pages.Render(x.w, x.r, http.StatusOK, page)
}

func hiddenFields(a oauth.Answer) (fields []Field) {
	for _, f := range a.Fields {
		fields = append(fields, Field{f[0], f[1]})
	}
	return fields
}

// answeredHere reports whether it was this browser that allowed the request, and the code can still be
// used: nobody who merely has the link gets it.
func (p *FlowPages) answeredHere(x *flow) bool {
	return x.visit.Known() && x.visit.ID == x.request.DeviceID && p.OAuth.CodeLives(x.request)
}

// answered shows that a request was decided before.
func (p *FlowPages) answered(x *flow) {
	page := &Message{Frame: p.flowFrame(x), Kind: Info, Title: Msg("error.answered-title"), Body: []Text{Msg("error.answered-other")}}
	link := Msg("error.answered-link", "app", page.Client.label())
	if a := p.OAuth.Answer(x.request); a.Fields != nil && p.answeredHere(x) {
		page.Body, page.Post = []Text{Msg("error.answered-body")}, &Post{a.URL, hiddenFields(a), link}
		p.Pages.Render(x.w, x.r, http.StatusOK, page)
		return
	}
	to := Link{URL: x.client.URI, Text: link, Away: true, External: true}
	if a := p.OAuth.Answer(x.request); p.answeredHere(x) && a.Fields == nil {
		to.URL, to.Redirect, page.Body = a.URL, true, []Text{Msg("error.answered-body")}
	}
	if to.URL != "" {
		page.Links = []Link{to}
	}
	p.Pages.Render(x.w, x.r, http.StatusOK, page)
}

// flowFrame returns what the pages of a flow have in common, without a form.
func (p *FlowPages) flowFrame(x *flow) Frame {
	f := Frame{
		Form: Form{Action: oauth.PathAuthorize}, Locales: x.request.Parameters.UILocales, Client: shownClient(x.client),
		Problems: x.problems, Notices: x.notices,
	}
	f.Self = oauth.PathAuthorize + "?" + url.Values{"client_id": {x.request.ClientID}, "request_uri": {x.request.URI()}}.Encode()
	return f
}

// formFrame is flowFrame of a page with a form, which brings the state back.
func (p *FlowPages) formFrame(x *flow, step oauth.Step, who *account.Account) Frame {
	x.state.Step, x.state.Page, x.state.Device = step, rand.Text(), x.visit.ID
	f := p.flowFrame(x)
	f.Form.Flow = p.OAuth.SealFlow(x.state)
	if who != nil {
		f.Account = shownAccount(who)
	}
	return f
}

// shownClient returns a client as pages show it: what only it says of itself, if it is trusted.
func shownClient(c *client.Client) *Client {
	if c.Loopback {
		return &Client{ID: c.ID, Loopback: true}
	}
	out := &Client{ID: c.ID, Host: c.URL.Hostname(), TermsURL: c.Terms, PolicyURL: c.Policy}
	if c.Trusted {
		out.Name, out.URI = c.Name, c.URI
		if c.Logo != "" {
			out.LogoURL = oauth.LogoURL(c.ID)
		}
	}
	return out
}
