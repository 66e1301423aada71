package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/signin"
)

// showHandle is GET …/handle.
func (p *AccountPages) showHandle(q *query) error { return p.askHandle(q, http.StatusOK, nil) }

// askHandle shows the page with what was typed, and with what was found, if look is set.
func (p *AccountPages) askHandle(q *query, status int, look *hosting.HandleLook, problems ...Problem) error {
	page := &ChangeHandle{
		Domains: p.SignUp.Domains, Name: strings.TrimSpace(q.typed("name")), Domain: q.typed("domain"), Own: ownDomain(q),
		Web: q.account.DID.Method() == "web",
	}
	if look != nil {
		page.Look = p.found(look, q.account)
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// ownDomain returns the domain of one's own that was typed, as people type it: with an "@"
// or as a link.
func ownDomain(q *query) string {
	text := strings.ToLower(account.CleanIdentifier(q.typed("own")))
	for _, scheme := range []string{"https://", "http://"} {
		text = strings.TrimPrefix(text, scheme)
	}
	return strings.TrimSuffix(text, "/")
}

// changeHandle is POST …/handle. Looking needs no proof.
func (p *AccountPages) changeHandle(q *query) error {
	switch q.typed("decision") {
	case "own", "check-own":
		if err := p.checkOwn(ownDomain(q)); err != nil {
			return p.handleFailed(q, err)
		}
		if q.typed("decision") == "own" {
			return p.askHandle(q, http.StatusOK, nil)
		}
		return p.lookAtHandle(q, http.StatusOK)
	case "check":
		return p.lookAtHandle(q, http.StatusOK)
	case "here":
		if strings.TrimSpace(q.typed("name")) == "" {
			return p.askHandle(q, http.StatusUnprocessableEntity, nil, Problem{"name", Msg("signup.handle-missing")})
		}
	case "change":
		if err := p.checkOwn(ownDomain(q)); err != nil {
			return p.handleFailed(q, err)
		}
	}
	return p.steppedUp(signin.ChangeHandle, Msg("act.handle"), p.setHandle)(q)
}

// errHandleHere: the name of this server was typed as a domain of one's own.
var errHandleHere = errors.New("the handle is of this server's domains")

// checkOwn checks the form of a domain of one's own.
func (p *AccountPages) checkOwn(domain string) error {
	h, err := account.NormalizeHandle(domain)
	if err == nil && account.IsServiceHandle(h, p.SignUp.Domains) {
		err = errHandleHere
	}
	return err
}

// lookAtHandle shows what the network says of the domain that was typed, or of the present
// handle.
func (p *AccountPages) lookAtHandle(q *query, status int, problems ...Problem) error {
	handle := ownDomain(q)
	if handle == "" {
		handle = q.account.Handle.String()
	}
	look, err := p.Hosting.LookAtHandle(q.r.Context(), q.account, handle)
	if err != nil {
		return p.handleFailed(q, err)
	}
	return p.askHandle(q, status, &look, problems...)
}

// setHandle changes the handle, after the step-up.
func (p *AccountPages) setHandle(q *query) error {
	handle := ownDomain(q)
	if q.typed("decision") == "here" {
		handle = strings.ToLower(strings.TrimSpace(q.typed("name"))) + q.typed("domain")
	}
	err := p.Hosting.ChangeHandle(q.r.Context(), q.account, handle)
	switch {
	case err == nil:
		return q.done(shownAccount(q.account).Path("manage"), "handle")
	case errors.Is(err, hosting.ErrHandleProof):
		return p.lookAtHandle(q, http.StatusUnprocessableEntity, Problem{"own", Msg("handle.not-proven")})
	default:
		return p.handleFailed(q, err)
	}
}

// handleFailed shows the page again with what kept the handle from being changed.
func (p *AccountPages) handleFailed(q *query, err error) error {
	if errors.Is(err, account.ErrStatusConflict) {
		p.Changed(q.w, q.r)
		return nil
	}
	field, invalid := "own", "handle.own-invalid"
	if q.typed("decision") == "here" {
		field, invalid = "name", "signup.handle-invalid"
	}
	problem, ok := problemOf(err, []fault{
		{errHandleHere, field, "handle.own-here"},
		{account.ErrHandleTaken, field, "handle.taken"},
		{account.ErrHandleReserved, field, "signup.handle-reserved"},
		{account.ErrHandleTooShort, field, "signup.handle-short"},
		{account.ErrHandleTooLong, field, "signup.handle-long"},
		{account.ErrUnsupportedDomain, field, invalid},
		{account.ErrHandleForm, field, invalid},
		{account.ErrHandleTLD, field, invalid},
		{account.ErrHandleCharacters, field, invalid},
		{identity.ErrHandleNotFound, field, invalid},
		{hosting.ErrNotNamed, field, "handle.not-named"},
		{hosting.ErrMovedOut, "", "handle.moved-out"},
		{identity.ErrNotRegistered, "", "handle.refused"},
		{identity.ErrRefused, "", "handle.refused"},
	})
	if !ok {
		return err
	}
	return p.askHandle(q, http.StatusUnprocessableEntity, nil, problem)
}

// found returns what was found, in words.
func (p *AccountPages) found(l *hosting.HandleLook, a *account.Account) *HandleFound {
	out := &HandleFound{Handle: l.Handle.String(), Holds: l.Holds(), At: l.At}
	add := func(source Text, kind Kind, says Text) { out.Lines = append(out.Lines, FoundLine{kind, source, says}) }
	if l.Ours {
		if l.Leads {
			add(Msg("found.here"), Success, Msg("found.here-yes"))
		} else {
			add(Msg("found.here"), Failure, Msg("found.here-no"))
		}
	} else {
		for _, one := range []struct {
			source Text
			said   identity.Said
			none   Text
		}{
			{Msg("found.dns"), l.DNS, Msg("found.dns-none")},
			{Msg("found.https"), l.HTTPS, Msg("found.https-none")},
		} {
			kind, says := foundBy(one.said, a.DID, one.none, l.Leads)
			add(one.source, kind, says)
		}
	}
	if l.Handle != a.Handle {
		out.Holds = l.Leads // the document names it once it is changed
		return out
	}
	switch {
	case l.Err != nil:
		add(Msg("found.document"), Warning, Msg("found.silent"))
	case l.Named == l.Handle:
		add(Msg("found.document"), Success, Msg("found.document-yes"))
	case l.Named == "":
		add(Msg("found.document"), Failure, Msg("found.document-none"))
	default:
		add(Msg("found.document"), Failure, Msg("found.document-other", "handle", Host(l.Named)))
	}
	return out
}

// foundBy returns what one way of looking up a handle came to. If there is nothing, that
// is not a fault while the other way leads to the account.
func foundBy(said identity.Said, did syntax.DID, none Text, leads bool) (Kind, Text) {
	switch {
	case errors.Is(said.Err, identity.ErrHandleConflict):
		return Failure, Msg("found.several")
	case said.Err != nil:
		return Warning, Msg("found.silent")
	case said.DID == did:
		return Success, Msg("found.yes")
	case said.DID != "":
		return Failure, Msg("found.other", "did", Codes{said.DID.String()})
	case leads:
		return Info, none
	default:
		return Failure, none
	}
}

// IsOnly reports whether there is one ending of names here.
func (p *ChangeHandle) IsOnly() bool { return len(p.Domains) == 1 }

// Chosen reports whether an ending is the one that was chosen.
func (p *ChangeHandle) Chosen(domain string) bool {
	return domain == p.Domain || p.Domain == "" && slices.Index(p.Domains, domain) == 0
}
