package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/hosting"
	"nestbox/mail"
)

// accountPath returns the path of an account's page.
func accountPath(did string) string { return DeskPath + "accounts/" + did }

// noInput is that of pages whose actions are about no account.
func noInput(*deskQuery) (input, error) { return input{}, nil }

// showAccounts is /admin/accounts: the list.
func (p *AdminPages) showAccounts(q *deskQuery) error { return p.acting(q, noInput, p.listAccounts) }

func (p *AdminPages) listAccounts(q *deskQuery, _ input) error {
	text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(q.asked("q")), "@"))
	browse := admin.BrowseQuery{
		Text: text, Network: strings.TrimSpace(q.asked("network")), State: admin.State(q.asked("state")),
		Before: number(q.asked("before")),
	}
	if !slices.Contains(admin.States(), browse.State) {
		browse.State = ""
	}
	all := q.who.Role.Holds(admin.RoleAdmin)
	if !all { // networks are for admins alone
		browse.Network = ""
	}
	if did, err := syntax.ParseDID(text); err == nil {
		if a, err := p.Accounts.ByDID(q.r.Context(), did); err == nil {
			return q.to(accountPath(a.DID.String()))
		} else if !errors.Is(err, account.ErrNotFound) {
			return err
		}
	}
	found, next, err := p.Admin.Browse(q.r.Context(), browse)
	if err != nil {
		return err
	}
	page := &Desk{Title: Msg("desk.part-accounts"), Filter: accountsFilter(browse, all)}
	table := &DeskTable{Columns: []Text{Msg("desk.account"), Msg("desk.address"), Msg("desk.state"), Msg("desk.made")}}
	for _, a := range found {
		table.Rows = append(table.Rows, DeskRow{Cells: []Cell{
			{Href: accountPath(a.DID.String()), Lines: []any{Name("@" + a.Handle.String()), Name(a.DID.String())}},
			{Lines: emailLines(a)},
			{Lines: stateLines(a)},
			{Lines: []any{a.CreatedAt}},
		}})
	}
	s := Section{Table: table}
	if len(found) == 0 {
		s.Empty = Msg("desk.accounts-none")
	}
	if next > 0 {
		v := q.r.URL.Query()
		v.Set("before", strconv.FormatInt(next, 10))
		v.Del("done")
		s.More = &Link{URL: q.r.URL.Path + "?" + v.Encode(), Text: Msg("desk.older")}
	}
	if q.who.Role.Holds(admin.RoleAdmin) {
		page.Filter.Ways = append(page.Filter.Ways, NavItem{Href: DeskPath + "storage#biggest", Text: Msg("desk.states-big")})
	}
	page.Sections = append(page.Sections, s)
	if acts := q.links("accounts", q.r.URL.Path, "account-create"); len(acts) > 0 {
		page.Sections = append(page.Sections, Section{
			Title: Msg("desk.account-create-title"), Body: []Text{Msg("desk.account-create-body")},
			Acts: acts,
		})
	}
	return p.render(q, http.StatusOK, page)
}

func accountsFilter(browse admin.BrowseQuery, networks bool) *DeskFilter {
	f := &DeskFilter{Fields: []ActField{{Name: "q", Label: "desk.search-text", Value: browse.Text, Kind: CodeField}}}
	if networks {
		f.Fields = append(f.Fields, ActField{Name: "network", Label: "desk.search-network", Value: browse.Network, Kind: CodeField})
	}
	for _, state := range append([]admin.State{""}, admin.States()...) {
		v := url.Values{}
		for name, value := range map[string]string{"q": browse.Text, "network": browse.Network, "state": string(state)} {
			if value != "" {
				v.Set(name, value)
			}
		}
		way := NavItem{Href: DeskPath + "accounts", Text: Msg("desk.states-" + stateName(string(state))), Current: state == browse.State}
		if len(v) > 0 {
			way.Href += "?" + v.Encode()
		}
		f.Ways = append(f.Ways, way)
	}
	return f
}

func stateName(state string) string {
	if state == "" {
		return "all"
	}
	return state
}

func emailLines(a *account.Account) []any {
	switch {
	case a.Email == "":
		return []any{Msg("desk.no-address")}
	case a.EmailConfirmedAt.IsZero():
		return []any{Name(a.Email), Msg("desk.unconfirmed")}
	default:
		return []any{Name(a.Email)}
	}
}

// stateLines returns an account's state, and the case of a takedown.
func stateLines(a *account.Account) (out []any) {
	switch a.Status() { //nolint:exhaustive // the others are not of an account here
	case account.TakenDown:
		out = append(out, Badge{Failure, Msg("desk.state-takendown")})
		if a.TakedownRef != "" {
			out = append(out, Msg("desk.case", "ref", Stranger(a.TakedownRef)))
		}
	case account.Suspended:
		out = append(out, Badge{Warning, Msg("desk.state-suspended")})
	case account.Deactivated:
		out = append(out, Badge{Info, Msg("desk.state-deactivated")})
	default:
		out = append(out, Badge{Success, Msg("desk.state-active")})
	}
	return out
}

// showAccount is /admin/accounts/DID.
func (p *AdminPages) showAccount(q *deskQuery) error {
	return p.acting(q, func(q *deskQuery) (input, error) {
		did, err := syntax.ParseDID(strings.TrimPrefix(q.r.URL.Path, DeskPath+"accounts/"))
		if err != nil {
			return input{}, account.ErrNotFound
		}
		a, err := p.Accounts.ByDID(q.r.Context(), did)
		if err != nil {
			return input{}, err
		}
		return input{did: a.DID.String(), handle: a.Handle.String()}, nil
	}, p.viewAccount)
}

// viewAccount shows all of an account but its secrets; moderators see what getAccountInfo
// and getSubjectStatus show them.
func (p *AdminPages) viewAccount(q *deskQuery, in input) error {
	ctx := q.r.Context()
	a, err := p.Accounts.ByDID(ctx, syntax.DID(in.did))
	if err != nil {
		return err
	}
	path, all := accountPath(in.did), q.who.Role.Holds(admin.RoleAdmin)
	page := &Desk{Title: Msg("desk.account-title", "account", Name("@"+in.handle)), Up: &Link{
		URL:  DeskPath + "accounts",
		Text: Msg("desk.part-accounts"),
	}}
	standing, err := p.standing(q, a, path)
	if err != nil {
		return err
	}
	page.Sections = append(page.Sections, standing)
	if all {
		more, err := p.accountDetails(q, a, path)
		if err != nil {
			return err
		}
		page.Sections = append(page.Sections, more...)
	}
	invites, err := p.accountInvites(q, a, path)
	if err != nil {
		return err
	}
	page.Sections = append(page.Sections, invites)
	if all {
		page.Sections = append(page.Sections, Section{
			ID: "delete", Title: Msg("desk.end-title"), Body: []Text{Msg("desk.end-body")}, Acts: q.links(partAccount, path, "delete"),
		})
	}
	return p.render(q, http.StatusOK, page)
}

// standing is the first part of an account's page.
func (p *AdminPages) standing(q *deskQuery, a *account.Account, path string) (Section, error) {
	s := Section{Facts: []Fact{
		{Msg("desk.state"), stateLines(a)},
		{Msg("desk.address"), emailLines(a)},
		{Msg("desk.did"), []any{Name(a.DID.String())}},
		{Msg("desk.made"), []any{a.CreatedAt}},
	}}
	if !a.DeleteAfter.IsZero() {
		s.Facts = append(s.Facts, Fact{Msg("desk.delete-after"), []any{a.DeleteAfter}})
	}
	stored, err := p.Admin.Views.Stored(q.r.Context(), a.ID)
	if err != nil {
		return s, err
	}
	s.Facts = append(s.Facts, Fact{Msg("desk.stored"), []any{
		Msg("desk.records", "count", int(stored.Records), "n", Count(stored.Records)),
		Msg("desk.blobs", "count", int(stored.Blobs), "n", Count(stored.Blobs), "size", Bytes(stored.BlobBytes)),
	}})
	names := []string{"takedown", "suspend"}
	if !a.TakenDownAt.IsZero() {
		names[0] = "untakedown"
	}
	if !a.SuspendedAt.IsZero() {
		names[1] = "unsuspend"
	}
	if a.Email != "" {
		names = append(names, "mail")
	}
	s.Acts = q.links(partAccount, path, names...)
	return s, nil
}

// accountDetails are the parts of an account's page that only admins see.
func (p *AdminPages) accountDetails(q *deskQuery, a *account.Account, path string) ([]Section, error) {
	ctx := q.r.Context()
	info, err := admin.Do(ctx, p.Admin, admin.CmdAccountInfo, admin.AccountArgs{Account: a.DID.String()})
	if err != nil {
		return nil, err
	}
	f, err := admin.Do(ctx, p.Admin, admin.CmdAccountFactors, admin.FactorsArgs{Account: a.DID.String()})
	if err != nil {
		return nil, err
	}
	ways := Section{ID: "ways", Title: Msg("desk.ways-title"), Facts: []Fact{
		{Msg("desk.factor-totp"), []any{onOff(f.Authenticator != "")}},
		{Msg("desk.factor-passkeys"), []any{Count(len(f.Passkeys))}},
		{Msg("desk.factor-recovery"), []any{Count(f.RecoveryCodes)}},
		{Msg("desk.factor-mail"), []any{onOff(f.EmailFactor)}},
		{Msg("desk.app-passwords"), []any{Count(len(info.AppPasswords))}},
	}}
	names := []string{"password", "email", "handle"}
	if a.Email != "" {
		names = append([]string{"reset"}, names...)
	}
	if f.EmailFactor {
		names = append(names, "codes-off")
	}
	if f.Authenticator != "" || len(f.Passkeys) > 0 || f.RecoveryCodes > 0 {
		names = append(names, "factors-off")
	}
	ways.Acts = q.links(partAccount, path, names...)
	return []Section{
		ways, p.accountIdentity(q, a, path), accountSessions(q, info, path), accountBrowsers(info), accountTrail(info), p.accountMails(a),
	}, nil
}

// accountMails are the mails to an account's address that this server has sent, or tried to,
// since its start.
func (p *AdminPages) accountMails(a *account.Account) Section {
	s := Section{ID: "mails", Title: Msg("desk.mails-title"), Table: mailTable(p.pastMails(func(m mail.Past) bool {
		return account.EmailKey(m.To) == account.EmailKey(a.Email)
	}), false)}
	if len(s.Table.Rows) == 0 {
		s.Empty = Msg("desk.mails-none")
	}
	return s
}

func onOff(on bool) any {
	if on {
		return Badge{Success, Msg("desk.on")}
	}
	return Msg("desk.off")
}

// accountIdentity compares what the network says of an account with what is known here.
func (p *AdminPages) accountIdentity(q *deskQuery, a *account.Account, path string) Section {
	s := Section{ID: "identity", Title: Msg("desk.identity-title"), Acts: q.links(partAccount, path, "repair", "rotate")}
	if q.asked("identity") == "" { // it asks others: only when somebody wants to know
		s.Body = []Text{Msg("desk.identity-body")}
		s.Facts = []Fact{{Msg("desk.identity-checked"), []any{timeOr(a.IdentityCheckedAt, "desk.never")}}, {
			Msg("desk.identity-handle"),
			[]any{holds(!a.HandleInvalid)},
		}}
		s.Acts = append([]DeskLink{{Href: path + "?identity=1#identity", Text: Msg("desk.identity-ask")}}, s.Acts...)
		return s
	}
	r, err := admin.Do(q.r.Context(), p.Admin, admin.CmdIdentityShow, admin.AccountArgs{Account: a.DID.String()})
	if err != nil {
		s.Body = []Text{Msg("desk.failed", "why", English(err.Error()))}
		return s
	}
	t := &DeskTable{Columns: []Text{
		Msg("desk.identity-what"), Msg("desk.identity-here"), Msg("desk.identity-network"),
		Msg("desk.identity-same"),
	}}
	for _, f := range r.Facts {
		t.Rows = append(t.Rows, identityRow(f))
	}
	s.Facts = []Fact{{Msg("desk.identity-proven"), []any{holds(r.Proven)}}}
	if len(r.RotationKeys) > 0 {
		s.Facts = append(s.Facts, Fact{Msg("desk.identity-control"), []any{holds(r.Control)}})
	}
	s.Table = t
	return s
}

func identityRow(f hosting.IdentityFact) DeskRow {
	return DeskRow{Cells: []Cell{
		{Lines: []any{Name(f.What)}},
		{Lines: []any{Name(f.Here)}},
		{Lines: []any{Name(f.Network)}},
		{Lines: []any{holds(!f.Differs())}},
	}}
}

func holds(yes bool) any {
	if yes {
		return Badge{Success, Msg("desk.yes")}
	}
	return Badge{Failure, Msg("desk.no")}
}

func timeOr(t time.Time, id string) any {
	if t.IsZero() {
		return Msg(id)
	}
	return t
}

// timeOf reads a time of a command's result.
func timeOf(text string) any {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return Msg("desk.never")
	}
	return t
}

func accountSessions(q *deskQuery, info admin.AccountInfo, path string) Section {
	s := Section{ID: "sessions", Title: Msg("desk.sessions-title", "count", len(info.Sessions))}
	if len(info.Sessions) == 0 {
		s.Empty = Msg("desk.sessions-none")
		return s
	}
	end, _ := findAct(partAccount, "session-end")
	t := &DeskTable{Columns: []Text{Msg("sessions.what"), Msg("sessions.used"), Msg("desk.made")}}
	for _, one := range info.Sessions[:min(len(info.Sessions), deskSessions)] {
		what := []any{Stranger(one.Client)}
		switch {
		case one.ClientID != "":
			what = []any{Name(one.ClientID), Stranger(one.Client)}
		case one.AppPassword != "":
			what = append(what, Msg("desk.app-password", "name", Stranger(one.AppPassword)))
		}
		link := end.link(path, "session", strconv.FormatInt(one.ID, 10))
		link.Of = Stranger(one.Client)
		t.Rows = append(t.Rows, DeskRow{
			Cells: []Cell{{Lines: what}, {Lines: []any{timeOf(one.LastUsedAt), Name(one.Network)}}, {Lines: []any{timeOf(one.CreatedAt)}}},
			Acts:  []DeskLink{link},
		})
	}
	s.Table = t
	s.Acts = q.links(partAccount, path, "signout")
	if len(info.Sessions) > deskSessions {
		s.Body = []Text{Msg("desk.latest-only", "shown", Count(deskSessions), "command", Codes{"nestbox session list " + info.DID})}
	}
	return s
}

// accountBrowsers shows the browsers on which somebody is signed in to the account's pages.
func accountBrowsers(info admin.AccountInfo) Section {
	s := Section{ID: "browsers", Title: Msg("desk.browsers-title", "count", len(info.Browsers))}
	if len(info.Browsers) == 0 {
		s.Empty = Msg("desk.browsers-none")
		return s
	}
	t := &DeskTable{Columns: []Text{Msg("devices.browser"), Msg("sessions.used"), Msg("desk.made")}}
	for _, one := range info.Browsers[:min(len(info.Browsers), deskSessions)] {
		what := []any{Stranger(one.Client)}
		if one.TrustedUntil != "" {
			what = append(what, Msg("desk.browser-trusted", "until", timeOf(one.TrustedUntil)))
		}
		t.Rows = append(t.Rows, DeskRow{Cells: []Cell{
			{Lines: what}, {Lines: []any{timeOf(one.LastUsedAt), Name(one.Network)}}, {Lines: []any{timeOf(one.CreatedAt)}},
		}})
	}
	s.Table, s.Body = t, []Text{Msg("desk.browsers-body")}
	return s
}

// deskSessions and deskTrail keep the page of an account readable, and below its size.
const (
	deskSessions = 15
	deskTrail    = 25
)

func accountTrail(info admin.AccountInfo) Section {
	s := Section{ID: "trail", Title: Msg("desk.trail-title")}
	if len(info.Trail) == 0 {
		s.Empty = Msg("desk.trail-none")
		return s
	}
	t := &DeskTable{Columns: []Text{Msg("desk.what"), Msg("desk.when"), Msg("desk.from")}}
	for _, e := range info.Trail[:min(len(info.Trail), deskTrail)] {
		what := []any{Name(e.Kind), Msg("desk.by", "actor", Name(e.By))}
		if e.Reason != "" {
			what = append(what, Stranger(e.Reason))
		}
		t.Rows = append(t.Rows, DeskRow{Cells: []Cell{{Lines: what}, {Lines: []any{timeOf(e.At)}}, {Lines: []any{
			Name(e.Network),
			Stranger(e.UserAgent),
		}}}})
	}
	s.Table = t
	if len(info.Trail) > deskTrail {
		s.Body = []Text{Msg("desk.latest-only", "shown", Count(deskTrail), "command", Codes{"nestbox account info " + info.DID})}
	}
	return s
}

func (p *AdminPages) accountInvites(q *deskQuery, a *account.Account, path string) (Section, error) {
	s := Section{ID: "invites", Title: Msg("desk.own-invites-title")}
	codes, err := p.Accounts.InviteCodesFor(q.r.Context(), a.DID)
	if err != nil {
		return s, err
	}
	if a.InvitedWith != "" {
		s.Facts = append(s.Facts, Fact{Msg("desk.invited-with"), []any{Name(a.InvitedWith)}})
	}
	s.Facts = append(s.Facts, Fact{Msg("desk.own-codes"), []any{Count(len(codes))}}, Fact{
		Msg("desk.may-invite"),
		[]any{holds(!a.InvitesDisabled)},
	})
	name := "invites-off"
	if a.InvitesDisabled {
		name = "invites-on"
	}
	s.Acts = q.links(partAccount, path, name)
	return s, nil
}
