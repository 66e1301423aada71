package web

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"nestbox/account"
	"nestbox/device"
	"nestbox/session"
)

// refKind is what the value of the field "end" begins with: what is to end.
type refKind string

// The kinds; behind a space comes which one: a number, or a text in base64url, since forms
// change line ends, and a name is that name alone with each of its blanks.
const (
	refSession     refKind = "session"      // its number
	refBrowser     refKind = "browser"      // its number
	refApp         refKind = "app"          // its client_id: all sessions, and what is remembered
	refAppPassword refKind = "app-password" // its name: it is revoked
	refOthers      refKind = "others"       // all but this browser
	refAll         refKind = "all"
)

// of returns the value for a number, named that for a text.
func (k refKind) of(id int64) string { return string(k) + " " + strconv.FormatInt(id, 10) }

func (k refKind) named(which string) string {
	return string(k) + " " + base64.RawURLEncoding.EncodeToString([]byte(which))
}

// ref is what a form wants to end.
type ref struct {
	kind refKind
	// text is the value, which and id what it names: one of them, by the kind.
	text, which string
	id          int64
}

// readRef reads a value. What names nothing is of no kind.
func readRef(text string) ref {
	kind, which, _ := strings.Cut(text, " ")
	r := ref{kind: refKind(kind), text: text}
	switch r.kind {
	case refApp, refAppPassword:
		name, err := base64.RawURLEncoding.DecodeString(which)
		if err != nil || len(name) == 0 {
			return ref{}
		}
		r.which = string(name)
	case refSession, refBrowser:
		r.id, _ = strconv.ParseInt(which, 10, 64) // 0 is nobody's
	case refOthers, refAll:
	}
	return r
}

// endSessions is the form of the lists: what is to end is shown once more, and then ended.
// Nothing of it asks for a proof.
func (p *AccountPages) endSessions(q *query) error {
	switch what := q.typed("end"); {
	case q.typed("untrust") != "":
		return p.stopTrust(q, readRef(q.typed("untrust")))
	case what == "":
		return q.to(q.r.URL.Path)
	case q.typed("decision") == "confirm":
		return p.end(q, readRef(what))
	default:
		return p.confirmEnd(q, readRef(what))
	}
}

// stopTrust makes a browser ask for the second step again.
func (p *AccountPages) stopTrust(q *query, r ref) error {
	if err := p.Browsers.Devices.StopTrust(q.r.Context(), q.account.ID, r.id); err != nil && !errors.Is(err, device.ErrUnknown) {
		return err
	}
	return q.done(q.r.URL.Path, "trust-ended")
}

// confirmEnd shows what a form will end. What is not there has ended already, as the form
// wants.
func (p *AccountPages) confirmEnd(q *query, r ref) error {
	page := &Confirm{Danger: true, Back: q.r.URL.Path, Fields: []Field{{"end", r.text}}}
	say := func(what string, args ...any) {
		page.Title, page.Body, page.Button = Msg("confirm."+what, args...), []Text{Msg("confirm." + what + "-body")},
			Msg("confirm."+what+"-button")
	}
	switch r.kind {
	case refOthers, refAll:
		say(string(r.kind))
	case refApp:
		say("app", "name", appName(r.which))
	case refAppPassword:
		say("app-password", "name", Stranger(exact(r.which)))
	case refSession, refBrowser:
		all, err := p.living(q)
		if err != nil {
			return err
		}
		rows := all.rows(q)
		i := slices.IndexFunc(rows, func(row SessionRow) bool { return row.Ref == r.text })
		if i < 0 {
			return p.afterEnd(q)
		}
		say("session", "name", rows[i].label())
		if q.typed("not_me") != "" {
			say("not-me", "name", rows[i].label())
			page.Fields = append(page.Fields, Field{"not_me", "on"})
		}
		page.Ticks = alsoEnd(rows, &rows[i])
	default:
		return q.to(q.r.URL.Path)
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// label returns the session's name for a sentence.
func (r *SessionRow) label() any {
	if r.Kind == OAuthSession {
		return appName(r.ClientID)
	}
	if r.Kind == AppPasswordSession {
		return Stranger(r.Name)
	}
	return program(r.Name)
}

// same reports whether another row is of the same app, or the same app password.
func (r *SessionRow) same(other *SessionRow) bool {
	return r.Kind == other.Kind &&
		(r.Kind == OAuthSession && r.ClientID == other.ClientID || r.Kind == AppPasswordSession && r.Name == other.Name)
}

// alsoEnd returns what can end with a session.
func alsoEnd(rows []SessionRow, of *SessionRow) (ticks []Tick) {
	n := 0
	for i := range rows {
		if of.same(&rows[i]) {
			n++
		}
	}
	if n > 1 {
		ticks = append(ticks, Tick{"all_of", Msg("confirm.all-of-"+string(of.Kind), "count", n)})
	}
	if of.Kind == OAuthSession {
		ticks = append(ticks, Tick{"forget", Msg("confirm.forget")})
	}
	return ticks
}

// appName returns an app's name for a sentence.
func appName(clientID string) any {
	c := clientOf(clientID)
	if c.Loopback {
		return Msg("client.loopback")
	}
	return Host(c.Host)
}

// end ends what a form that was confirmed wants. What is not there has ended already.
func (p *AccountPages) end(q *query, r ref) error {
	ctx, path := q.r.Context(), q.r.URL.Path
	switch r.kind {
	case refOthers:
		v, err := p.Browsers.Devices.EndOthers(ctx, q.visit, q.account.ID, account.ActorOwner)
		if err != nil && !errors.Is(err, device.ErrUnknown) {
			return err
		}
		p.Browsers.Keep(q.w, v)
		return q.done(path, "ended-all")
	case refAll:
		if _, _, err := p.Browsers.Devices.EndAll(ctx, q.account.ID, account.ActorOwner); err != nil {
			return err
		}
		return q.done("/account", "signed-out")
	case refSession:
		if err := p.endSession(q, r.id); err != nil {
			return err
		}
	case refBrowser:
		if err := p.Browsers.Devices.End(ctx, q.account.ID, r.id, account.ActorOwner); err != nil && !errors.Is(err, device.ErrUnknown) {
			return err
		}
		if r.id == q.visit.ID {
			return q.done("/account", "signed-out")
		}
	case refApp:
		if err := p.forgetApp(q, r.which); err != nil {
			return err
		}
		return q.done(path, "app-ended")
	case refAppPassword:
		if err := p.AppPasswords.End(ctx, q.account, r.which); err != nil {
			return err
		}
		return q.done(path, "app-password-ended")
	default:
		return q.to(path)
	}
	return p.afterEnd(q)
}

// afterEnd leads on from what has ended: an owner that did not sign in there looks further.
func (p *AccountPages) afterEnd(q *query) error {
	if q.typed("not_me") != "" {
		return q.done(shownAccount(q.account).Path("secure"), "ended")
	}
	return q.done(q.r.URL.Path, "ended")
}

// endSession ends a session, and what was ticked beside it.
func (p *AccountPages) endSession(q *query, id int64) error {
	all, err := p.living(q)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all.sessions, func(st session.State) bool { return st.ID == id })
	if i < 0 {
		return nil
	}
	row := sessionRow(&all.sessions[i])
	if q.typed("forget") != "" && row.Kind == OAuthSession {
		// First, so that a sign-on in between asks again.
		if err := p.OAuth.Store.Forget(q.r.Context(), q.account.ID, row.ClientID); err != nil {
			return err
		}
	}
	return p.endWhich(q, &all, func(st *session.State) bool {
		other := sessionRow(st)
		return st.ID == id || q.typed("all_of") != "" && row.same(&other)
	})
}

// endWhich ends the sessions that a predicate selects.
func (p *AccountPages) endWhich(q *query, all *living, which func(*session.State) bool) error {
	for i := range all.sessions {
		st := &all.sessions[i]
		if !which(st) {
			continue
		}
		if err := p.Sessions.Revoke(q.r.Context(), q.account.DID, st.ID, account.ActorOwner); err != nil && !errors.Is(err, session.ErrUnknown) {
			return err
		}
	}
	return nil
}

// forgetApp ends every session of an app, and forgets what it was allowed.
func (p *AccountPages) forgetApp(q *query, clientID string) error {
	// First, so that a sign-on in between asks again.
	if err := p.OAuth.Store.Forget(q.r.Context(), q.account.ID, clientID); err != nil {
		return err
	}
	all, err := p.living(q)
	if err != nil {
		return err
	}
	return p.endWhich(q, &all, func(st *session.State) bool { return st.Grant != nil && st.Grant.ClientID == clientID })
}
