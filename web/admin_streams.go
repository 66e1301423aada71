package web

import (
	"net/http"
	"strconv"
	"time"

	"nestbox/admin"
	"nestbox/load"
	"nestbox/mail"
)

// showFirehose is /admin/firehose: the event log and its subscribers.
func (p *AdminPages) showFirehose(q *deskQuery) error { return p.acting(q, noInput, p.viewFirehose) }

func (p *AdminPages) viewFirehose(q *deskQuery, _ input) error {
	st, err := admin.Do(q.r.Context(), p.Admin, admin.CmdFirehoseStatus, admin.Done{})
	if err != nil {
		return err
	}
	log := Section{Facts: []Fact{
		{Msg("desk.events-last"), []any{Count(st.Last)}},
		{Msg("desk.events-oldest"), []any{Count(st.Oldest), timeOf(st.OldestAt)}},
		{Msg("desk.events-size"), []any{Bytes(st.Bytes)}},
		{Msg("desk.events-hour"), []any{p.eventsOfHour()}},
		{Msg("desk.wal-size"), []any{Bytes(st.LogBytes)}},
	}}
	if st.Announcing {
		log.Body = []Text{Msg("desk.announcing")}
	}
	end, _ := findAct("firehose", "disconnect")
	t := &DeskTable{
		Columns: []Text{Msg("desk.subscriber"), Msg("desk.subscriber-since"), Msg("desk.subscriber-sent"), Msg("desk.subscriber-behind")},
		Numbers: []int{2, 3},
	}
	for _, m := range st.Subscribers {
		link := end.link(q.r.URL.Path, "subscriber", strconv.FormatInt(m.ID, 10))
		link.Of = Name(m.Client)
		t.Rows = append(t.Rows, DeskRow{
			Cells: []Cell{
				{Lines: []any{Name(m.Client), Stranger(m.UserAgent)}},
				{Lines: []any{timeOf(m.Since)}},
				{Lines: []any{Count(m.Sent)}},
				{Lines: behind(m, st.Last, q.who.At)},
			},
			Acts: []DeskLink{link},
		})
	}
	who := Section{Title: Msg("desk.subscribers"), Table: t}
	if len(t.Rows) == 0 {
		who.Empty = Msg("desk.subscribers-none")
	}
	gone := Section{Title: Msg("desk.ended"), Table: &DeskTable{Columns: []Text{
		Msg("desk.subscriber"), Msg("desk.ended-why"),
		Msg("desk.when"),
	}}}
	for _, e := range st.Ended {
		gone.Table.Rows = append(gone.Table.Rows, DeskRow{Cells: []Cell{
			{Lines: []any{Name(e.Client), Stranger(e.UserAgent)}}, {Lines: []any{Name(e.Why)}}, {Lines: []any{timeOf(e.At)}},
		}})
	}
	if len(st.Ended) == 0 {
		gone.Empty = Msg("desk.ended-none")
	}
	return p.render(q, http.StatusOK, &Desk{
		Title: Msg("desk.part-firehose"), Lead: Msg("desk.firehose-lead"), Sections: []Section{log, who, gone},
	})
}

// eventsOfHour returns how many events the last hour had, as far as it was counted.
func (p *AdminPages) eventsOfHour() any {
	_, slots := p.Load.Minutes(60, 1) //nolint:mnd // an hour
	n, known := 0, false
	for i := range slots {
		n += int(slots[i].Counts[load.Event])
		known = known || slots[i].Known()
	}
	if !known {
		return Msg("desk.not-yet")
	}
	return Count(n)
}

// behind returns by how many events a subscriber is behind the last, and by what time.
func behind(m admin.SubscriberLine, last int64, now time.Time) []any {
	events := max(last-m.Sent, 0)
	out := []any{Count(events)}
	at, err := time.Parse(time.RFC3339, m.SentAt)
	if events > 0 && err == nil {
		out = append(out, max(now.Sub(at), 0).Truncate(time.Second))
	}
	return out
}

// showMail is /admin/mail: what waits to be sent.
func (p *AdminPages) showMail(q *deskQuery) error { return p.acting(q, noInput, p.viewMail) }

func (p *AdminPages) viewMail(q *deskQuery, _ input) error {
	w, err := p.Admin.Views.Waiting(q.r.Context())
	if err != nil {
		return err
	}
	s := Section{Facts: []Fact{
		{Msg("desk.mail-waiting"), []any{Count(w.Messages)}},
		{Msg("desk.mail-oldest"), []any{timeOr(w.OldestAt, "desk.none")}},
		{Msg("desk.mail-failed"), []any{Count(w.Failed)}},
	}}
	acts := []string{"mail-test"}
	if w.Messages > 0 {
		acts = append(acts, "mail-retry")
	}
	s.Acts = q.links("mail", q.r.URL.Path, acts...)
	failed := Section{Title: Msg("desk.mail-failures"), Body: []Text{Msg("desk.mail-failures-body")}, Table: mailTable(
		p.pastMails(func(m mail.Past) bool { return m.Fate != mail.Sent }), true,
	)}
	if len(failed.Table.Rows) == 0 {
		failed.Body, failed.Empty = nil, Msg("desk.mail-failures-none")
	}
	return p.render(q, http.StatusOK, &Desk{Title: Msg("desk.part-mail"), Lead: Msg("desk.mail-lead"), Sections: []Section{s, failed}})
}

// mailsShown is how many attempts to send a mail are listed.
const mailsShown = 25

func (p *AdminPages) pastMails(wanted func(mail.Past) bool) []mail.Past {
	if p.Admin.Outbox == nil {
		return nil
	}
	return p.Admin.Outbox.Past(mailsShown, wanted)
}

// mailTable lists what became of mails, with their addresses if to is set.
func mailTable(past []mail.Past, to bool) *DeskTable {
	t := &DeskTable{Columns: []Text{Msg("desk.mail-subject"), Msg("desk.mail-fate"), Msg("desk.when")}}
	for _, m := range past {
		about := []any{Stranger(m.Subject)}
		if to {
			about = append(about, Name(m.To))
		}
		kind := map[mail.Fate]Kind{mail.Sent: Success, mail.Refused: Warning, mail.GivenUp: Failure}[m.Fate]
		fate := []any{Badge{kind, Msg("desk.mail-" + string(m.Fate))}}
		if m.Why != "" {
			fate = append(fate, English(m.Why))
		}
		t.Rows = append(t.Rows, DeskRow{Cells: []Cell{{Lines: about}, {Lines: fate}, {Lines: []any{m.At}}}})
	}
	return t
}
