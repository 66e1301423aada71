package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"nestbox/account"
	"nestbox/admin"
)

// showDoctor is /admin/doctor: the last look at the server.
func (p *AdminPages) showDoctor(q *deskQuery) error { return p.acting(q, noInput, p.viewDoctor) }

func (p *AdminPages) viewDoctor(q *deskQuery, _ input) error {
	last := p.Admin.Examiner.Last()
	s := Section{Acts: q.links("doctor", q.r.URL.Path, "look"), Table: &DeskTable{
		Columns: []Text{Msg("desk.attention-what"), Msg("desk.doctor-state"), Msg("desk.doctor-says")},
	}}
	for _, f := range last.Found {
		state := Badge{Success, Msg("desk.doctor-fine")}
		if !f.OK {
			state = Badge{Failure, Msg("desk.attention-fault")}
		}
		s.Table.Rows = append(s.Table.Rows, DeskRow{Cells: []Cell{
			{Lines: []any{Name(f.What)}},
			{Lines: []any{state}},
			{Lines: []any{English(f.Says)}},
		}})
	}
	page := &Desk{Title: Msg("desk.part-doctor"), Lead: Msg("desk.looking")}
	if !last.At.IsZero() && !last.Looking {
		page.Lead = Msg("desk.looked", "time", last.At)
	}
	if len(last.Found) == 0 {
		s.Empty = Msg("desk.doctor-none")
	}
	page.Sections = []Section{s}
	return p.render(q, http.StatusOK, page)
}

// showInvites is /admin/invites: all invite codes, the newest first.
func (p *AdminPages) showInvites(q *deskQuery) error { return p.acting(q, noInput, p.viewInvites) }

func (p *AdminPages) viewInvites(q *deskQuery, _ input) error {
	args := admin.InviteListArgs{ByUsage: q.asked("order") == "usage", Cursor: q.asked("cursor"), Limit: invitesShown}
	list, err := admin.Do(q.r.Context(), p.Admin, admin.CmdInviteList, args)
	if err != nil && args.Cursor != "" {
		return p.missing(q) // an address that somebody typed
	}
	if err != nil {
		return err
	}
	path := q.r.URL.Path
	page := &Desk{Title: Msg("desk.part-invites"), Filter: &DeskFilter{Ways: []NavItem{
		{Href: path, Text: Msg("desk.invites-newest"), Current: !args.ByUsage},
		{Href: path + "?order=usage", Text: Msg("desk.invites-used"), Current: args.ByUsage},
	}}}
	disable, _ := findAct("invites", "invite-disable")
	t := &DeskTable{Columns: []Text{Msg("desk.invite-code"), Msg("desk.invite-used"), Msg("desk.invite-whose"), Msg("desk.made")}}
	for _, c := range list.Codes {
		row := DeskRow{Cells: []Cell{{Lines: []any{Name(c.Code)}}, {Lines: []any{Msg("desk.invite-of", "used", Count(len(c.Uses)), "available",
			Count(c.Available))}}}}
		if c.Disabled {
			row.Cells[0].Lines = append(row.Cells[0].Lines, Badge{Warning, Msg("desk.invite-off")})
		} else {
			link := disable.link(path, "code", c.Code)
			link.Of = Name(c.Code)
			row.Acts = []DeskLink{link}
		}
		for _, u := range c.Uses[:min(len(c.Uses), usesShown)] {
			row.Cells[1].Lines = append(row.Cells[1].Lines, Name(u.UsedBy))
		}
		whose := Cell{Lines: []any{Msg("desk.who-admin")}}
		if c.ForAccount != account.InvitesByAdmin {
			whose = Cell{Href: accountPath(c.ForAccount), Lines: []any{Name(c.ForAccount)}}
		}
		row.Cells = append(row.Cells, whose, Cell{Lines: []any{timeOf(c.CreatedAt)}})
		t.Rows = append(t.Rows, row)
	}
	s := Section{Table: t, Acts: q.links("invites", path, "invite-create")}
	if len(list.Codes) == 0 {
		s.Empty = Msg("desk.invites-none")
	} else if list.Cursor != "" && len(list.Codes) == invitesShown {
		v := q.r.URL.Query()
		v.Set("cursor", list.Cursor)
		v.Del("done")
		s.More = &Link{URL: path + "?" + v.Encode(), Text: Msg("desk.more")}
	}
	page.Sections = []Section{s}
	return p.render(q, http.StatusOK, page)
}

// invitesShown is how many codes a page lists, usesShown how many uses of a code its row
// names.
const (
	invitesShown = 40
	usesShown    = 3
)

// signInViews are the filters of /admin/sessions, each with the entries that it shows.
var signInViews = []struct {
	name  string
	kinds []account.EntryKind
}{
	{"new", []account.EntryKind{account.EntrySignIn, account.EntryAppAuthorized}},
	{"suspected", []account.EntryKind{
		account.EntrySuspectedReuse, account.EntrySuspectedSharing, account.EntrySuspectedTheft,
		account.EntryCodeReplayed,
	}},
	{"refused", []account.EntryKind{account.EntryRefreshRefused, account.EntryCodeRefused}},
}

// showSignIns is /admin/sessions: the newest sign-ins of all accounts, suspicions, refusals.
func (p *AdminPages) showSignIns(q *deskQuery) error {
	view := signInViews[0]
	page := &Desk{Title: Msg("desk.part-sessions"), Lead: Msg("desk.signins-lead", "count", admin.NewestOf), Filter: &DeskFilter{}}
	for _, v := range signInViews {
		if v.name == q.asked("show") {
			view = v
		}
	}
	for _, v := range signInViews {
		page.Filter.Ways = append(page.Filter.Ways, NavItem{
			Href: q.r.URL.Path + "?show=" + v.name, Text: Msg("desk.signins-" + v.name), Current: v.name == view.name,
		})
	}
	found, err := p.Admin.Views.Newest(q.r.Context(), view.kinds, signInsShown)
	if err != nil {
		return err
	}
	t := &DeskTable{Columns: []Text{Msg("desk.account"), Msg("desk.what"), Msg("desk.from"), Msg("desk.when")}}
	for _, h := range found {
		what := []any{Name(h.Kind)}
		if h.Reason != "" {
			what = append(what, Stranger(h.Reason))
		}
		from := []any{Name(h.Network), Stranger(h.UserAgent)}
		if h.OtherNetwork != "" {
			from = append(from, Msg("desk.other-network", "network", Name(h.OtherNetwork)))
		}
		t.Rows = append(t.Rows, DeskRow{Cells: []Cell{
			{Href: accountPath(h.DID.String()), Lines: []any{Name("@" + h.Handle.String())}}, {Lines: what}, {Lines: from}, {Lines: []any{h.At}},
		}, Acts: endLink(h)})
	}
	s := Section{Table: t}
	if len(found) == 0 {
		s.Empty = Msg("desk.signins-none")
	}
	page.Sections = []Section{s}
	return p.render(q, http.StatusOK, page)
}

// endLink leads to the end of the session that an entry of a trail is about, if there is one.
// One that has ended meanwhile stays so.
func endLink(h admin.Happening) []DeskLink {
	if h.Session == 0 {
		return nil
	}
	end, _ := findAct(partAccount, "session-end")
	link := end.link(accountPath(h.DID.String()), "session", strconv.FormatInt(h.Session, 10))
	link.Of = Name("@" + h.Handle.String())
	return []DeskLink{link}
}

// signInsShown is how many entries /admin/sessions lists.
const signInsShown = 40

// showContent is /admin/content: one record or blob, as text.
func (p *AdminPages) showContent(q *deskQuery) error { return p.acting(q, noInput, p.viewContent) }

func (p *AdminPages) viewContent(q *deskQuery, _ input) error {
	args := admin.ContentArgs{
		URI: strings.TrimSpace(q.asked("uri")), Account: strings.TrimSpace(q.asked("account")),
		Blob: strings.TrimSpace(q.asked("blob")),
	}
	page := &Desk{Title: Msg("desk.part-content"), Lead: Msg("desk.content-lead"), Filter: &DeskFilter{Fields: []ActField{
		{Name: "uri", Label: "desk.content-uri", Value: args.URI, Kind: CodeField, Max: 8192},
		{Name: "account", Label: "desk.content-account", Value: args.Account, Kind: CodeField},
		{Name: "blob", Label: "desk.content-blob", Value: args.Blob, Kind: CodeField},
	}}}
	if args.URI == "" && args.Blob == "" {
		return p.render(q, http.StatusOK, page)
	}
	c, err := p.Admin.ShowContent(q.r.Context(), args)
	if err != nil {
		field := "uri"
		if args.Blob != "" {
			field = "blob"
		}
		page.Problems = []Problem{{field, Msg("desk.failed", "why", English(err.Error()))}}
		return p.render(q, http.StatusUnprocessableEntity, page)
	}
	s := Section{ID: "found", Facts: []Fact{
		{Msg("desk.account"), []any{Name(c.DID.String())}},
		{Msg("desk.content-cid"), []any{Name(c.CID)}},
	}}
	if c.MimeType != "" {
		s.Facts = append(s.Facts, Fact{Msg("desk.content-type"), []any{Stranger(c.MimeType), Bytes(c.Size)}})
	}
	state := []any{Badge{Success, Msg("desk.content-shown")}}
	act := "content-takedown"
	if t := c.Takedown; t != nil {
		act, state = "content-lift", []any{Badge{Failure, Msg("desk.state-takendown")}, t.At}
		if t.Ref != "" {
			state = append(state, Msg("desk.case", "ref", Stranger(t.Ref)))
		}
	}
	s.Facts = append(s.Facts, Fact{Msg("desk.state"), state})
	if c.CID == "" {
		s.Body = []Text{Msg("desk.content-gone")}
		s.Facts = append(s.Facts[:1], s.Facts[2:]...)
	}
	if c.Text != "" {
		s.Code = strings.Split(cut(c.Text, contentShown), "\n")
	}
	if c.IsPicture() && q.asked("picture") != "" {
		s.Image = pictureOf(args)
	}
	link, _ := findAct("content", act)
	v := url.Values{}
	for name, value := range map[string]string{"uri": args.URI, "account": args.Account, "blob": args.Blob} {
		if value != "" {
			v.Set(name, value)
		}
	}
	v.Set("act", act)
	one := link.link(q.r.URL.Path)
	one.Href = q.r.URL.Path + "?" + v.Encode()
	s.Acts = []DeskLink{one}
	if c.IsPicture() && s.Image == "" {
		v.Del("act")
		v.Set("picture", "1")
		s.Acts = append([]DeskLink{{Href: q.r.URL.Path + "?" + v.Encode() + "#found", Text: Msg("desk.picture-show")}}, s.Acts...)
	}
	page.Sections = []Section{s}
	return p.render(q, http.StatusOK, page)
}

// contentShown is how many characters of a record are shown.
const contentShown = 20_000
