package web

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"nestbox/oauth/client"
	"nestbox/oauth/scope"
)

// appsShown is how many apps a page shows.
const appsShown = 10

// showApps is GET …/apps: the apps that are connected, or the one of ?app=.
func (p *AccountPages) showApps(q *query) error {
	all, err := p.connected(q)
	if err != nil {
		return err
	}
	page := &Apps{}
	if id := q.r.URL.Query().Get("app"); id != "" {
		page.One = true
		all = slices.DeleteFunc(all, func(a App) bool { return a.Client.ID != id })
	}
	page.Apps, page.Pager = paged(q, all, appsShown)
	who := shownAccount(q.account)
	for i := range page.Apps {
		page.Apps[i].describe(who)
		if page.Apps[i].Client, err = p.appOf(q.r.Context(), page.Apps[i].Client.ID); err != nil {
			return err
		}
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// appOf returns an app as lists show it: with the name in its document, as far as that is
// known without asking anybody.
func (p *AccountPages) appOf(ctx context.Context, id string) (Client, error) {
	shown := clientOf(id)
	c, err := p.OAuth.Clients.Known(ctx, id)
	if _, refused := client.IsRefusal(err); refused { // the rules were others when it was allowed
		return shown, nil
	}
	if err != nil || c == nil || c.Loopback {
		return shown, err
	}
	if c.Trusted {
		shown.Name, shown.URI = c.Name, c.URI
	} else {
		shown.Claimed = c.Name
	}
	return shown, nil
}

// connected returns the apps that have a session, or are remembered, the latest used first.
func (p *AccountPages) connected(q *query) (apps []App, err error) {
	all, err := p.living(q)
	if err != nil {
		return nil, err
	}
	consents, err := p.OAuth.Store.Consents(q.r.Context(), q.account.ID)
	if err != nil {
		return nil, err
	}
	find := func(id string) *App {
		i := slices.IndexFunc(apps, func(a App) bool { return a.Client.ID == id })
		if i < 0 {
			i = len(apps)
			apps = append(apps, App{Client: clientOf(id)})
		}
		return &apps[i]
	}
	for i := range all.sessions {
		st := &all.sessions[i]
		if st.Grant == nil || !st.Expires.After(q.visit.At) {
			continue
		}
		app, row := find(st.Grant.ClientID), sessionRow(st)
		app.Sessions++
		app.Used = latest(app.Used, row.Used)
		if app.Since.IsZero() || row.Made.Before(app.Since) {
			app.Since = row.Made
		}
		app.granted = append(app.granted, st.Grant.Granted)
		app.requested = append(app.requested, st.Grant.Requested)
	}
	for _, c := range consents {
		if app := find(c.ClientID); app.Sessions == 0 {
			app.granted, app.Since, app.Used = []string{c.Scopes}, c.At, c.UsedAt
		}
	}
	slices.SortStableFunc(apps, func(a, b App) int { return latest(b.Used, b.Since).Compare(latest(a.Used, a.Since)) })
	return apps, nil
}

// describe adds what the app may do, and what it was denied.
func (a *App) describe(who *Account) {
	may := scope.Parse(strings.Join(a.granted, " "))
	a.Scope = may.String()
	a.Permissions = Permissions(may.Permissions(nil), who)
	denied := may.Missing(scope.Parse(strings.Join(a.requested, " ")))
	a.Denied = Permissions(scope.Parse(strings.Join(denied, " ")).Permissions(nil), who)
}

// changeApps is the form of that page: an app ends and is forgotten, or one of its
// permissions is taken back. Neither asks for a proof.
func (p *AccountPages) changeApps(q *query) error {
	app, permission, _ := strings.Cut(q.typed("take"), " ")
	switch {
	case permission == "":
		return p.endSessions(q)
	case q.typed("decision") == "confirm":
		if err := p.OAuth.Take(q.r.Context(), q.account, app, permission); err != nil {
			return err
		}
		return q.done(q.r.URL.Path, "permission-taken")
	default:
		return p.confirmTake(q, app, permission)
	}
}

// confirmTake shows which permission a form takes from which app. One that the app does not
// have is gone already.
func (p *AccountPages) confirmTake(q *query, app, permission string) error {
	all, err := p.connected(q)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(a App) bool { return a.Client.ID == app })
	if i < 0 || len(scope.Parse(strings.Join(all[i].granted, " ")).Missing(scope.Parse(permission))) > 0 {
		return q.done(q.r.URL.Path, "permission-taken")
	}
	lines := granted(permission, shownAccount(q.account))
	if len(lines) == 0 || lines[0].Fixed {
		return q.to(q.r.URL.Path)
	}
	page := &Confirm{
		Title: Msg("confirm.take", "name", appName(app)), Body: []Text{
			Msg("confirm.take-what", "what", lines[0].Line),
			Msg("confirm.take-body"),
		},
		Button: Msg("confirm.take-button"), Danger: true, Back: q.r.URL.Path, Fields: []Field{{"take", app + " " + permission}},
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}
