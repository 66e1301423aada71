package web

import (
	"cmp"
	"context"
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

// showSessions is GET …/sessions: every session of all kinds.
func (p *AccountPages) showSessions(q *query) error {
	page := &Sessions{Kind: SessionKind(q.r.URL.Query().Get("kind")), Counts: map[SessionKind]int{}}
	if !slices.Contains(page.Kinds(), page.Kind) {
		page.Kind = ""
	}
	all, err := p.living(q)
	if err != nil {
		return err
	}
	rows := all.rows(q)
	for i := range rows {
		page.Counts[rows[i].Kind]++
	}
	if page.Ended, err = p.ended(q.r.Context(), q.account, all.alive()); err != nil {
		return err
	}
	if page.Kind != "" {
		rows = slices.DeleteFunc(rows, func(r SessionRow) bool { return r.Kind != page.Kind })
		page.Ended = slices.DeleteFunc(page.Ended, func(e EndedSession) bool { return e.Kind != page.Kind })
	}
	page.MoreEnded = len(page.Ended) > endedShown
	page.Ended = page.Ended[:min(len(page.Ended), endedShown)]
	page.Rows, page.Pager = paged(q, rows, sessionsShown)
	who := shownAccount(q.account)
	for i := range page.Rows {
		row := &page.Rows[i]
		row.describe(who)
		if row.Kind != OAuthSession {
			continue
		}
		app, err := p.appOf(q.r.Context(), row.ClientID)
		if err != nil {
			return err
		}
		row.Detail = app.Name // that of a trusted one
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// How many rows a page shows: it has its limit in bytes.
const (
	sessionsShown = 30
	endedShown    = 12
)

// living is what can use an account: its sessions, and the browsers on which it is signed
// in, or that skip its second step.
type living struct {
	sessions []session.State
	browsers []device.Browser
}

func (p *AccountPages) living(q *query) (l living, err error) {
	if l.sessions, err = p.Sessions.List(q.r.Context(), q.account.DID); err != nil {
		return l, err
	}
	l.browsers, err = p.Browsers.Devices.List(q.r.Context(), q.account.ID)
	return l, err
}

// alive returns the numbers of what lives.
func (l *living) alive() session.Alive {
	a := session.Alive{Sessions: map[int64]bool{}, Browsers: map[int64]bool{}}
	for i := range l.sessions {
		a.Sessions[l.sessions[i].ID] = true
	}
	for i := range l.browsers {
		a.Browsers[l.browsers[i].ID] = true
	}
	return a
}

// rows returns a row for each, this browser first and then the latest used first. What a
// session may do is not there yet: see describe.
func (l *living) rows(q *query) (rows []SessionRow) {
	for i := range l.sessions {
		if l.sessions[i].Expires.After(q.visit.At) {
			rows = append(rows, sessionRow(&l.sessions[i]))
		}
	}
	for i := range l.browsers {
		if in, _ := l.browsers[i].SignIn(q.account.ID); in.Live(q.visit.At) { // others are trusted, no more
			rows = append(rows, browserRow(&l.browsers[i], in, q.visit.ID))
		}
	}
	slices.SortStableFunc(rows, func(a, b SessionRow) int {
		return cmp.Or(compareBool(b.This, a.This), latest(b.Used, b.Made).Compare(latest(a.Used, a.Made)))
	})
	return rows
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
func sessionRow(st *session.State) SessionRow {
	row := SessionRow{
		Kind: PasswordSession, Ref: refSession.of(st.ID), Name: request.ClientName(st.UserAgent),
		Network: st.Network, Made: st.CreatedAt, EndsAt: st.Expires, scope: st.Scope,
	}
	if st.Head > 0 {
		row.Used = st.RotatedAt
	}
	switch g := st.Grant; {
	case g != nil:
		row.Kind, row.ClientID, row.Name, row.Confidential = OAuthSession, g.ClientID, clientHost(g.ClientID), g.AuthMethod != session.AuthNone
		row.Loopback, row.granted = clientOf(g.ClientID).Loopback, g.Granted
		row.Used = latest(row.Used, g.LastCallAt)
		if g.EndsAt.Before(row.EndsAt) {
			row.EndsAt = g.EndsAt
		}
	case st.AppPasswordID != 0:
		row.Kind, row.Name, row.Detail = AppPasswordSession, st.AppPassword, row.Name
	}
	return row
}

// mayShown is how many permissions a row of the list names; the apps page has all.
const mayShown = 3

// describe adds what the session may do.
func (r *SessionRow) describe(who *Account) {
	switch {
	case r.Kind == BrowserSession:
		r.May = []Text{Msg("may.pages")}
	case r.Kind == OAuthSession:
		lines := granted(r.granted, who)
		for _, line := range lines[:min(len(lines), mayShown)] {
			r.May = append(r.May, line.Line)
		}
		r.MayMore = len(lines) - len(r.May)
	case r.scope == auth.ScopeAppPass:
		r.May = []Text{Msg("may.app-password")}
	case r.scope == auth.ScopeAppPassPrivileged:
		r.May = []Text{Msg("may.app-password-privileged")}
	default:
		r.May = []Text{Msg("may.everything")}
	}
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
func browserRow(b *device.Browser, in *device.SignIn, this int64) SessionRow {
	life := device.TabLife
	if in.Remember {
		life = device.RememberLife
	}
	return SessionRow{
		Kind: BrowserSession, Ref: refBrowser.of(b.ID), Name: request.ClientName(b.UserAgent), This: b.ID == this,
		Network: b.Network, Made: in.At, Used: in.UsedAt, EndsAt: in.UsedAt.Add(life), TrustedUntil: in.TrustedUntil,
	}
}

// ended returns the sessions that ended lately, with why.
func (p *AccountPages) ended(ctx context.Context, a *account.Account, alive session.Alive) (out []EndedSession, err error) {
	trail, err := p.Accounts.Trail(ctx, a.ID, account.TrailLimit)
	if err != nil {
		return nil, err
	}
	for _, e := range session.EndedSessions(trail, alive, p.Now().Add(-endedFor)) {
		row := EndedSession{At: e.Cause.At, Why: why(e.Cause), Event: eventLink(shownAccount(a), e.Cause)}
		row.Subject = subjectOf(e.Opened)
		if e.Opened.Kind == "" {
			row.Subject = Subject{Kind: BrowserSession, Name: strings.TrimPrefix(e.Cause.Reason, "browser: ")}
		}
		row.Network = e.Opened.Network
		out = append(out, row)
	}
	return out, nil
}

// subjectOf returns what the entry of a sign-in let in.
func subjectOf(opened account.Entry) Subject {
	s := Subject{Kind: PasswordSession, Name: request.ClientName(opened.UserAgent)}
	switch name, app := strings.CutPrefix(opened.Reason, "app password "); {
	case opened.Kind == account.EntryAppAuthorized:
		s.Kind, s.Name, s.Loopback = OAuthSession, clientHost(opened.Reason), clientOf(opened.Reason).Loopback
	case app:
		s.Kind = AppPasswordSession
		if text, err := strconv.Unquote(name); err == nil {
			s.Name = text
		}
	case opened.Session == 0:
		s.Kind = BrowserSession
	}
	return s
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
	case account.EntrySessionsCapped:
		return Msg("why.limit")
	default:
		return Msg("why.takedown")
	}
}
