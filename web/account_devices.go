package web

import (
	"cmp"
	"net/http"
	"slices"

	"nestbox/request"
)

// devicesShown is how many browsers a page shows.
const devicesShown = 40

// showDevices is GET …/devices: the browsers, this one first.
func (p *AccountPages) showDevices(q *query) error {
	list, err := p.Browsers.Devices.List(q.r.Context(), q.account.ID)
	if err != nil {
		return err
	}
	rows := make([]DeviceRow, 0, len(list))
	for i := range list {
		b := &list[i]
		in, _ := b.SignIn(q.account.ID)
		row := DeviceRow{
			Ref: refBrowser.of(b.ID), Name: request.ClientName(b.UserAgent), This: b.ID == q.visit.ID,
			SignedIn: in.Live(q.visit.At), Since: in.At, Seen: in.UsedAt, Network: b.Network,
		}
		if in.Trusted(q.visit.At) {
			row.TrustedUntil = in.TrustedUntil
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b DeviceRow) int {
		return cmp.Or(compareBool(b.This, a.This), compareBool(b.SignedIn, a.SignedIn), b.Seen.Compare(a.Seen))
	})
	page := &Devices{}
	page.Rows, page.Pager = paged(q, rows, devicesShown)
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}
