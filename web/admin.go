package web

import (
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/seal"
	"nestbox/load"
	"nestbox/request"
	"nestbox/signin"
)

// AdminPages answers the pages below /admin, by the commands of the operator. Its fields are
// set once.
type AdminPages struct {
	*Site

	Entrance *admin.Entrance
	Admin    *admin.Service
	Accounts account.Store
	SignIns  *signin.Service
	// Box seals what the sign-in carries from one step to the next.
	Box *seal.Box
	// Version is the server's, Started when it began to serve.
	Version string
	Started time.Time
	// Load has the figures of /admin/load.
	Load *load.Recorder
	// Settings are those of the server, Warnings those without effect.
	Settings []DeskSetting
	Warnings []string
}

// DeskPath is where the admin page begins.
const DeskPath = "/admin/"

// deskPart is a page in the navigation.
type deskPart struct {
	group, name string
	// role is the least that sees it.
	role admin.Role
	show func(*AdminPages, *deskQuery) error
}

func (d deskPart) path() string {
	if d.name == partStart {
		return DeskPath
	}
	return DeskPath + d.name
}

// partStart is the name of the first page.
const partStart = "start"

// deskParts are the pages, in the order of the navigation.
func deskParts() []deskPart {
	return []deskPart{
		{"people", partStart, admin.RoleModerator, (*AdminPages).showStart},
		{"people", "accounts", admin.RoleModerator, (*AdminPages).showAccounts},
		{"people", "content", admin.RoleModerator, (*AdminPages).showContent},
		{"people", "invites", admin.RoleModerator, (*AdminPages).showInvites},
		{"people", "sessions", admin.RoleAdmin, (*AdminPages).showSignIns},
		{"people", "clients", admin.RoleAdmin, (*AdminPages).showClients},
		{"server", "load", admin.RoleAdmin, (*AdminPages).showLoad},
		{"server", "storage", admin.RoleAdmin, (*AdminPages).showStorage},
		{"server", "doctor", admin.RoleAdmin, (*AdminPages).showDoctor},
		{"server", "relays", admin.RoleAdmin, (*AdminPages).showRelays},
		{"server", "firehose", admin.RoleAdmin, (*AdminPages).showFirehose},
		{"server", "mail", admin.RoleAdmin, (*AdminPages).showMail},
		{"server", "settings", admin.RoleAdmin, (*AdminPages).showSettings},
		{"server", "audit", admin.RoleAdmin, (*AdminPages).showAudit},
	}
}

// PageRoutes returns the routes of the pages.
func (p *AdminPages) PageRoutes() []Route {
	routes := []Route{
		{"/admin", redirect(http.StatusFound, DeskPath), nil},
		{DeskPath + "sign-in", p.outside(p.showSignIn), p.outside(p.signIn)},
		{picturePath, p.inside("content", admin.RoleModerator, p.showPicture), nil},
		{DeskPath + "sign-out", nil, p.inside("", admin.RoleModerator, p.signOut)},
	}
	for _, part := range deskParts() {
		if part.name != partStart {
			routes = append(routes, p.route(part.path(), part.name, part.role, part.show))
		}
	}
	routes = append(routes, p.route(accountPath("{did}"), "accounts", admin.RoleModerator, (*AdminPages).showAccount))
	start := deskParts()[0]
	// The last, since all other paths lie below it.
	return append(routes, p.route(DeskPath, start.name, start.role, start.show))
}

// route returns the route of a page: GET shows it, or asks before an action; POST acts.
func (p *AdminPages) route(path, part string, role admin.Role, show func(*AdminPages, *deskQuery) error) Route {
	serve := p.inside(part, role, func(q *deskQuery) error { return show(p, q) })
	post := serve
	if !slices.ContainsFunc(acts(), func(a act) bool { return a.part == part || a.part == partAccount && strings.Contains(path, "{did}") }) {
		post = nil
	}
	return Route{path, serve, post}
}

// deskQuery is one request for a page below /admin.
type deskQuery struct {
	w http.ResponseWriter
	r *http.Request
	// who: the zero Visitor before the sign-in.
	who  admin.Visitor
	part string
	flow string
}

func (q *deskQuery) typed(name string) string { return q.r.PostForm.Get(name) }
func (q *deskQuery) asked(name string) string { return q.r.URL.Query().Get(name) }

func (q *deskQuery) to(path string) error {
	http.Redirect(q.w, q.r, path, http.StatusSeeOther)
	return nil
}

// deskCookie is the name of the cookie of the admin page.
func (p *AdminPages) deskCookie() string {
	if p.Browsers.Dev {
		return "nestbox-admin"
	}
	return "__Host-nestbox-admin"
}

// keep sends the cookie of a sign-in, or with "" removes it.
func (p *AdminPages) keep(w http.ResponseWriter, value string) {
	c := &http.Cookie{ //nolint:gosec // Secure but under --dev, which has no https
		Name: p.deskCookie(), Value: value, Path: "/", MaxAge: int(admin.PresenceLife / time.Second),
		Secure: !p.Browsers.Dev, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// bound returns the page that the token of a form is bound to: path and session.
func (q *deskQuery) bound(path string) string { return path + " " + hex.EncodeToString(q.who.Hash[:]) }

// outside serves a page that needs no sign-in.
func (p *AdminPages) outside(fn func(*deskQuery) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { p.run(&deskQuery{w: w, r: r}, fn) }
}

// inside serves a page to people of at least a role; others are asked to sign in.
func (p *AdminPages) inside(part string, role admin.Role, fn func(*deskQuery) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value := ""
		if c, err := r.Cookie(p.deskCookie()); err == nil {
			value = c.Value
		}
		who, err := p.Entrance.Visit(r.Context(), value)
		q := &deskQuery{w: w, r: r, who: who, part: part}
		switch {
		case errors.Is(err, admin.ErrSignedOut):
			_ = q.to(p.signInAt(r))
		case err != nil:
			p.Fail(w, r, err)
		case !who.Role.Holds(role):
			p.forbidden(q)
		default:
			if who.Account != nil {
				request.SetAccount(r.Context(), who.Who)
			}
			p.run(q, fn)
		}
	}
}

// signInAt returns the way to the sign-in, which leads back to a page that was asked for.
func (p *AdminPages) signInAt(r *http.Request) string {
	to := DeskPath + "sign-in"
	if r.URL.Path == DeskPath || strings.HasPrefix(r.URL.Path, DeskPath+"sign-") {
		return to
	}
	next := r.URL.Path
	if r.Method == http.MethodGet {
		next = r.URL.RequestURI()
	}
	return to + "?" + url.Values{"next": {next}}.Encode()
}

// run checks the token of a form and answers.
func (p *AdminPages) run(q *deskQuery, fn func(*deskQuery) error) {
	if q.r.Method == http.MethodPost {
		var ok bool
		if q.flow, ok = p.Browsers.Shown(0, q.bound(q.r.URL.Path), q.typed("csrf")); !ok {
			p.Foreign(q.w, q.r)
			return
		}
	}
	if err := fn(q); err != nil {
		p.Fail(q.w, q.r, err)
	}
}

// frame returns what the page has in common with others.
func (p *AdminPages) frame(q *deskQuery, problems ...Problem) (f Frame, flow string) {
	f = Frame{Form: Form{Action: q.r.URL.Path}, Problems: problems, Self: q.r.URL.RequestURI()}
	if q.r.Method == http.MethodPost {
		f.Self = q.r.URL.Path
	}
	f.Form.CSRF, flow = p.Browsers.Token(0, q.bound(q.r.URL.Path))
	if q.who.Role == "" {
		return f, flow
	}
	d := &DeskFrame{Who: Msg("desk.who-admin"), Role: Msg("desk.role-" + string(q.who.Role))}
	if q.who.Account != nil {
		d.Who = Name("@" + q.who.Account.Handle.String())
	}
	d.SignOut, _ = p.Browsers.Token(0, q.bound(DeskPath+"sign-out"))
	for _, part := range deskParts() {
		if !q.who.Role.Holds(part.role) {
			continue
		}
		if n := len(d.Groups); n == 0 || d.Groups[n-1].Title.ID != "desk.group-"+part.group {
			d.Groups = append(d.Groups, NavGroup{Title: Msg("desk.group-" + part.group)})
		}
		g := &d.Groups[len(d.Groups)-1]
		g.Items = append(g.Items, NavItem{Href: part.path(), Text: Msg("desk.part-" + part.name), Current: part.name == q.part})
	}
	f.Desk = d
	return f, flow
}

// render shows a page.
func (p *AdminPages) render(q *deskQuery, status int, page *Desk) error {
	page.Frame, _ = p.frame(q, page.Problems...)
	for _, a := range acts() {
		if q.r.Method == http.MethodGet && q.asked("done") == a.name {
			page.Notices = []Notice{{Kind: Success, Text: Msg("desk." + a.name + "-done")}}
			if a.urgent && p.Admin.Held() != nil {
				page.Notices = append(page.Notices, Notice{Kind: Warning, Text: Msg("desk.announcement-waits")})
			}
		}
	}
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// forbidden answers a moderator who asks for what only admins may.
func (p *AdminPages) forbidden(q *deskQuery) {
	p.message(q.w, q.r, http.StatusForbidden, &Message{
		Kind: Failure, Title: Msg("desk.forbidden-title"), Body: []Text{Msg("desk.forbidden-body")},
		Links: []Link{{URL: DeskPath, Text: Msg("error.back")}},
	})
}

// missing answers what is not there.
func (p *AdminPages) missing(q *deskQuery) error {
	p.message(q.w, q.r, http.StatusNotFound, &Message{
		Kind: Failure, Title: Msg("error.missing-title"), Body: []Text{Msg("error.missing-body")},
		Links: []Link{{URL: DeskPath, Text: Msg("error.back")}},
	})
	return nil
}

// signOut is POST /admin/sign-out.
func (p *AdminPages) signOut(q *deskQuery) error {
	if err := p.Entrance.Leave(q.r.Context(), q.who); err != nil {
		return err
	}
	p.keep(q.w, "")
	return q.to(DeskPath + "sign-in?done=signed-out")
}
