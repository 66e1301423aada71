package web

import (
	"net/http"
	"slices"
	"strconv"

	"nestbox/account"
	"nestbox/request"
	"nestbox/session"
)

// eventsShown is how many entries a page shows.
const eventsShown = 40

// showEvents is GET …/events: the account's trail in words. ?about= is the filter; ?at= leads
// to the part with an entry of that time.
func (p *AccountPages) showEvents(q *query) error {
	trail, err := p.Accounts.Trail(q.r.Context(), q.account.ID, account.TrailLimit)
	if err != nil {
		return err
	}
	all, err := p.living(q)
	if err != nil {
		return err
	}
	page := &Events{About: q.r.URL.Query().Get("about")}
	if !slices.Contains(page.Abouts(), page.About) {
		page.About = ""
	}
	list := eventList{who: shownAccount(q.account), trail: trail, alive: all.alive(), browser: q.visit.ID}
	shown := make([]int, 0, len(trail))
	for i := range trail {
		if page.About == "" || about(trail[i].Kind) == page.About {
			shown = append(shown, i)
		}
	}
	if at := q.r.URL.Query().Get("at"); at != "" {
		i := slices.IndexFunc(shown, func(i int) bool { return moment(trail[i]) == at })
		query := q.r.URL.Query()
		query.Set("page", strconv.Itoa(max(i, 0)/eventsShown+1))
		q.r.URL.RawQuery = query.Encode()
	}
	shown, page.Pager = paged(q, shown, eventsShown)
	for _, i := range shown {
		page.Rows = append(page.Rows, list.row(i))
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// eventList makes rows of a trail.
type eventList struct {
	who   *Account
	trail []account.Entry // the newest first
	alive session.Alive
	// browser is the number of the browser that asks.
	browser int64
}

// moment names the time of an entry in an address.
func moment(e account.Entry) string { return strconv.FormatInt(e.At.UnixMilli(), 10) }

// eventLink returns the address of an entry on the page.
func eventLink(who *Account, e account.Entry) string {
	return who.Path("events") + "?at=" + moment(e) + "#e" + moment(e)
}

// row returns the row of entry i.
func (l *eventList) row(i int) EventRow {
	e := l.trail[i]
	row := EventRow{
		Anchor: l.anchor(i), At: e.At, What: eventWords(e), By: byWhom(e), Network: e.Network, OtherNetwork: e.OtherNetwork,
		Warning: about(e.Kind) == aboutWarnings, Advice: advice(e.Kind), Subject: l.subject(i),
	}
	if e.UserAgent != "" {
		row.Program = request.ClientName(e.UserAgent)
	}
	if e.OtherUserAgent != "" {
		row.OtherProgram = request.ClientName(e.OtherUserAgent)
	}
	if c := session.CauseOf(l.trail, i, l.alive); c >= 0 {
		cause := l.trail[c]
		row.Cause, row.CauseText, row.CauseAt = eventLink(l.who, cause), why(cause), cause.At
		if cause.Kind == account.EntrySuspectedReuse {
			row.CauseText = eventWords(cause)
		}
	}
	if e.Kind == account.EntrySignIn || e.Kind == account.EntryAppAuthorized {
		row.This = e.Session == 0 && e.Browser != 0 && e.Browser == l.browser && row.Cause == ""
		if !row.This {
			row.NotMe = refOf(e)
		}
	}
	return row
}

// refOf names the session, or the browser, of an entry in forms.
func refOf(e account.Entry) string {
	if e.Session != 0 {
		return refSession.of(e.Session)
	}
	return refBrowser.of(e.Browser)
}

// anchor returns the id of entry i; only the newest entry of a moment has the bare one.
func (l *eventList) anchor(i int) string {
	id, n := "e"+moment(l.trail[i]), 0
	for j := i - 1; j >= 0 && l.trail[j].At.Equal(l.trail[i].At); j-- {
		n++
	}
	if n > 0 {
		id += "-" + strconv.Itoa(n)
	}
	return id
}

// subject returns which session entry i is about, as far as the trail knows its sign-in.
func (l *eventList) subject(i int) *Subject {
	e := l.trail[i]
	if e.Kind == account.EntrySignIn || e.Kind == account.EntryAppAuthorized || e.Session == 0 {
		return nil // its own words name it, or there is none
	}
	for _, opened := range l.trail[i+1:] {
		if opened.Session == e.Session && (opened.Kind == account.EntrySignIn || opened.Kind == account.EntryAppAuthorized) {
			s := subjectOf(opened)
			return &s
		}
	}
	return nil
}
