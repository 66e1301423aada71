package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/device"
	"nestbox/oauth/scope"
	"nestbox/request"
	"nestbox/session"
)

// endedFor is how long a session that ended is listed.
const endedFor = 30 * 24 * time.Hour

// showSessions is GET …/sessions, and …/devices: every session of all kinds, the browsers
// alone there.
func (p *AccountPages) showSessions(q *query) error {
	page := &Sessions{Kind: SessionKind(q.r.URL.Query().Get("kind"))}
	if strings.HasSuffix(q.r.URL.Path, "/devices") {
		page.Kind = BrowserSession
	}
	if !slices.Contains(page.Kinds(), page.Kind) {
		page.Kind = ""
	}
	rows, alive, err := p.rows(q)
	if err != nil {
		return err
	}
	if page.Ended, err = p.ended(q.r.Context(), q.account, alive); err != nil {
		return err
	}
	if page.Kind != "" {
		rows = slices.DeleteFunc(rows, func(r SessionRow) bool { return r.Kind != page.Kind })
		page.Ended = slices.DeleteFunc(page.Ended, func(e EndedSession) bool { return e.Kind != page.Kind })
	}
	page.Rows = rows
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// rows returns the sessions that live, the latest used first, and the numbers of those
// that are no browser's.
func (p *AccountPages) rows(q *query) (rows []SessionRow, alive map[int64]bool, err error) {
	states, err := p.Sessions.List(q.r.Context(), q.account.DID)
	if err != nil {
		return nil, nil, err
	}
	browsers, err := p.Browsers.Devices.List(q.r.Context(), q.account.ID)
	if err != nil {
		return nil, nil, err
	}
	alive = map[int64]bool{}
	for i := range states {
		alive[states[i].ID] = true
		if states[i].Expires.After(q.visit.At) {
			rows = append(rows, sessionRow(&states[i], shownAccount(q.account)))
		}
	}
	for i := range browsers {
		rows = append(rows, browserRow(&browsers[i], q.account.ID, q.visit.ID))
	}
	slices.SortStableFunc(rows, func(a, b SessionRow) int {
		return cmp.Or(compareBool(b.This, a.This), latest(b.Used, b.Made).Compare(latest(a.Used, a.Made)))
	})
	return rows, alive, nil
}

func compareBool(a, b bool) int {
	n := map[bool]int{true: 1}
	return n[a] - n[b]
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sessionRow returns the row of a session: of an app with the password, with an app
// password, or by OAuth.
func sessionRow(st *session.State, who *Account) SessionRow {
	row := SessionRow{
		Kind: PasswordSession, Session: strconv.FormatInt(st.ID, 10), Name: request.ClientName(st.UserAgent),
		May: []Text{Msg("may.everything")}, Network: st.Network, Made: st.CreatedAt, EndsAt: st.Expires,
	}
	if st.Head > 0 {
		row.Used = st.RotatedAt
	}
	switch g := st.Grant; {
	case g != nil:
		row.Kind, row.ClientID, row.Name, row.Confidential = OAuthSession, g.ClientID, clientHost(g.ClientID), g.AuthMethod != session.AuthNone
		row.Loopback = clientOf(g.ClientID).Loopback
		row.Used = latest(row.Used, g.LastCallAt)
		if g.EndsAt.Before(row.EndsAt) {
			row.EndsAt = g.EndsAt
		}
		row.May = nil
		for _, line := range granted(g.Granted, who) {
			row.May = append(row.May, line.Line)
		}
	case st.AppPasswordID != 0:
		row.Kind, row.Name, row.Detail = AppPasswordSession, st.AppPassword, row.Name
		row.May = []Text{Msg("may.app-password")}
		if st.Scope == auth.ScopeAppPassPrivileged {
			row.May = []Text{Msg("may.app-password-privileged")}
		}
	}
	return row
}

// granted returns the lines of a scope that was granted.
func granted(text string, who *Account) []Permission {
	return Permissions(scope.Parse(text).Permissions(nil), who)
}

// clientHost returns the host of a client_id, which names the app.
func clientHost(id string) string {
	u, err := url.Parse(id)
	if err != nil || u.Host == "" {
		return id
	}
	return u.Host
}

// clientOf returns an app as pages show it without its document.
func clientOf(id string) Client {
	host := clientHost(id)
	return Client{ID: id, Host: host, Loopback: host == "localhost" && strings.HasPrefix(id, "http:")}
}

// browserRow returns the row of a sign-in on a browser.
func browserRow(b *device.Browser, accountID, this int64) SessionRow {
	in, _ := b.SignIn(accountID)
	life := device.TabLife
	if in.Remember {
		life = device.RememberLife
	}
	return SessionRow{
		Kind: BrowserSession, Device: strconv.FormatInt(b.ID, 10), Name: request.ClientName(b.UserAgent), This: b.ID == this,
		May: []Text{Msg("may.pages")}, Network: b.Network, Made: in.At, Used: in.UsedAt, EndsAt: in.UsedAt.Add(life),
		TrustedUntil: in.TrustedUntil,
	}
}

// ended returns the sessions that ended lately, with why.
func (p *AccountPages) ended(ctx context.Context, a *account.Account, alive map[int64]bool) (out []EndedSession, err error) {
	trail, err := p.Accounts.Trail(ctx, a.ID, account.TrailLimit)
	if err != nil {
		return nil, err
	}
	for _, e := range session.EndedSessions(trail, func(id int64) bool { return alive[id] }, p.Now().Add(-endedFor)) {
		row := EndedSession{
			Kind: PasswordSession, Name: request.ClientName(e.Opened.UserAgent), Network: e.Opened.Network, At: e.Cause.At,
			Why: why(e.Cause),
		}
		switch name, app := strings.CutPrefix(e.Opened.Reason, "app password "); {
		case e.Opened.Kind == "":
			row.Kind, row.Name, row.Network = BrowserSession, strings.TrimPrefix(e.Cause.Reason, "browser: "), e.Cause.Network
		case e.Opened.Kind == account.EntryAppAuthorized:
			row.Kind, row.Name, row.Loopback = OAuthSession, clientHost(e.Opened.Reason), clientOf(e.Opened.Reason).Loopback
		case app:
			row.Kind = AppPasswordSession
			if text, err := strconv.Unquote(name); err == nil {
				row.Name = text
			}
		}
		out = append(out, row)
	}
	return out, nil
}

// why says why a session ended, and by whom.
func why(e account.Entry) Text {
	switch e.Kind { //nolint:exhaustive // the others end nothing
	case account.EntrySignOut:
		return Msg("why.sign-out")
	case account.EntrySessionRevoked:
		return Msg("why.revoked-" + string(e.By))
	case account.EntryAllSignedOut:
		return Msg("why.all-" + string(e.By))
	case account.EntryPasswordChanged:
		return Msg("why.password-" + string(e.By))
	case account.EntryAppPasswordRevoked:
		return Msg("why.app-password")
	case account.EntryCodeReplayed:
		return Msg("why.code-replayed")
	case account.EntryClientKeyRemoved:
		return Msg("why.client-key")
	default:
		return Msg("why.takedown")
	}
}

// ending is what a form of the list of sessions, or of apps, wants to end.
type ending struct{ session, device, clientID, appPassword, all string }

func endingOf(q *query) ending {
	return ending{q.typed("session"), q.typed("device"), q.typed("client_id"), q.typed("app_password"), q.typed("all")}
}

// The values of the hidden field all.
const (
	allOthers     = "others"
	allEverywhere = "everywhere"
)

// endSessions is the form of the list: what is to end is shown once more, and then ended.
func (p *AccountPages) endSessions(q *query) error {
	e := endingOf(q)
	switch q.typed("decision") {
	case "end-others":
		e.all = allOthers
		return p.confirmEnd(q, e)
	case "end-all":
		e.all = allEverywhere
		return p.confirmEnd(q, e)
	case "end":
		return p.confirmEnd(q, e)
	case "confirm":
		return p.end(q, e)
	default:
		return q.to(q.r.URL.Path)
	}
}

// confirmEnd shows what a form will end. What is not there has ended already, as the form
// wants.
func (p *AccountPages) confirmEnd(q *query, e ending) error {
	page := &Confirm{Danger: true, Back: q.r.URL.Path}
	say := func(what string, name any) {
		page.Title, page.Body, page.Button = Msg("confirm."+what), []Text{Msg("confirm." + what + "-body")}, Msg("confirm."+what+"-button")
		if name != nil {
			page.Title = Msg("confirm."+what, "name", name)
		}
	}
	field := func(name, value string) { page.Fields = append(page.Fields, Field{name, value}) }
	rows, _, err := p.rows(q)
	if err != nil {
		return err
	}
	is := func(r SessionRow) bool {
		return e.session != "" && r.Session == e.session || e.device != "" && r.Device == e.device
	}
	row := slices.IndexFunc(rows, is)
	switch {
	case e.all == allOthers:
		say("others", nil)
		field("all", e.all)
	case e.all == allEverywhere:
		say("all", nil)
		field("all", e.all)
	case row >= 0:
		name := any(Stranger(rows[row].Name))
		if rows[row].Kind == OAuthSession {
			name = appName(rows[row].ClientID)
		}
		say("session", name)
		if e.session != "" {
			field("session", e.session)
		} else {
			field("device", e.device)
		}
	case e.session == "" && e.clientID != "":
		say("app", appName(e.clientID))
		field("client_id", e.clientID)
	case e.session == "" && e.appPassword != "":
		say("app-password", Stranger(e.appPassword))
		field("app_password", e.appPassword)
	default:
		return q.done(q.r.URL.Path, "ended")
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
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
func (p *AccountPages) end(q *query, e ending) error {
	ctx, path := q.r.Context(), q.r.URL.Path
	switch {
	case e.all == allOthers:
		v, err := p.Browsers.Devices.EndOthers(ctx, q.visit, q.account.ID, account.ActorOwner)
		if err != nil && !errors.Is(err, device.ErrUnknown) {
			return err
		}
		p.Browsers.Keep(q.w, v)
		return q.done(path, "ended-all")
	case e.all == allEverywhere:
		if _, _, err := p.Browsers.Devices.EndAll(ctx, q.account.ID, account.ActorOwner); err != nil {
			return err
		}
		return q.done("/account", "signed-out")
	case e.session != "":
		id, _ := strconv.ParseInt(e.session, 10, 64) // 0 is no session's
		if err := p.Sessions.Revoke(ctx, q.account.DID, id, account.ActorOwner); err != nil && !errors.Is(err, session.ErrUnknown) {
			return err
		}
	case e.device != "":
		id, _ := strconv.ParseInt(e.device, 10, 64) // the same
		if err := p.Browsers.Devices.End(ctx, q.account.ID, id, account.ActorOwner); err != nil && !errors.Is(err, device.ErrUnknown) {
			return err
		}
		if id == q.visit.ID {
			return q.done("/account", "signed-out")
		}
	case e.clientID != "":
		return p.forgetApp(q, e.clientID)
	case e.appPassword != "":
		if err := p.endWhich(q, func(st *session.State) bool { return st.AppPasswordID != 0 && st.AppPassword == e.appPassword }); err != nil {
			return err
		}
	}
	return q.done(path, "ended")
}

// endWhich ends the sessions that a predicate selects.
func (p *AccountPages) endWhich(q *query, which func(*session.State) bool) error {
	states, err := p.Sessions.List(q.r.Context(), q.account.DID)
	if err != nil {
		return err
	}
	for i := range states {
		if !which(&states[i]) {
			continue
		}
		if err := p.Sessions.Revoke(q.r.Context(), q.account.DID, states[i].ID, account.ActorOwner); err != nil && !errors.Is(err,
			session.ErrUnknown) {
			return err
		}
	}
	return nil
}

// forgetApp ends every session of an app, and forgets what it was allowed.
func (p *AccountPages) forgetApp(q *query, clientID string) error {
	// First, so that a sign-on in between asks again.
	if err := p.Consents.Forget(q.r.Context(), q.account.ID, clientID); err != nil {
		return err
	}
	if err := p.endWhich(q, func(st *session.State) bool { return st.Grant != nil && st.Grant.ClientID == clientID }); err != nil {
		return err
	}
	return q.done(q.r.URL.Path, "app-ended")
}

// showApps is GET …/apps.
func (p *AccountPages) showApps(q *query) error {
	states, err := p.Sessions.List(q.r.Context(), q.account.DID)
	if err != nil {
		return err
	}
	consents, err := p.Consents.Consents(q.r.Context(), q.account.ID)
	if err != nil {
		return err
	}
	page := &Apps{}
	find := func(id string) *App {
		i := slices.IndexFunc(page.Apps, func(a App) bool { return a.Client.ID == id })
		if i < 0 {
			i = len(page.Apps)
			page.Apps = append(page.Apps, App{Client: clientOf(id)})
		}
		return &page.Apps[i]
	}
	who := shownAccount(q.account)
	for i := range states { // the latest used first
		g := states[i].Grant
		if g == nil {
			continue
		}
		app, row := find(g.ClientID), sessionRow(&states[i], who)
		app.Sessions++
		app.Used = latest(app.Used, row.Used)
		if app.Since.IsZero() || row.Made.Before(app.Since) {
			app.Since = row.Made
		}
		if app.Scope == "" {
			app.Scope, app.Permissions = g.Granted, granted(g.Granted, who)
		}
	}
	for _, c := range consents { // remembered without a session that lives
		if c.Scopes == "" {
			continue
		}
		if app := find(c.ClientID); app.Scope == "" {
			app.Since, app.Used, app.Scope, app.Permissions = c.At, c.UsedAt, c.Scopes, granted(c.Scopes, who)
		}
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// endApp is the form of that page.
func (p *AccountPages) endApp(q *query) error {
	id := q.typed("client_id")
	switch {
	case id == "":
		return q.to(q.r.URL.Path)
	case q.typed("decision") == "end":
		return p.confirmEnd(q, ending{clientID: id})
	case q.typed("decision") == "confirm":
		return p.forgetApp(q, id)
	default:
		return q.to(q.r.URL.Path)
	}
}
