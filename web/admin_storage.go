package web

import (
	"net/http"

	"nestbox/admin"
)

// showStorage is /admin/storage: what is on the disks, as the last look found it.
func (p *AdminPages) showStorage(q *deskQuery) error {
	last := p.Admin.Disks.Last()
	page := &Desk{Title: Msg("desk.part-storage"), Lead: Msg("storage.looking")}
	if !last.At.IsZero() {
		page.Lead = Msg("storage.looked", "time", last.At)
		page.Sections = storageSections(&last.Found)
	}
	return p.render(q, http.StatusOK, page)
}

func storageSections(s *admin.Storage) []Section {
	held := Section{Facts: []Fact{
		{Msg("storage.database"), []any{Bytes(s.Database), Msg("storage.event-log", "size", Bytes(s.EventLog))}},
		{Msg("desk.wal-size"), []any{Bytes(s.WriteAheadLog)}},
		{Msg("storage.blobs"), []any{Bytes(s.BlobBytes), Msg("storage.blob-count", "count", int(s.Blobs), "n", Count(s.Blobs))}},
		{Msg("storage.transfers"), []any{Bytes(s.Transfers)}},
		{Msg("storage.unused"), []any{
			Bytes(s.UnusedBytes), Msg("storage.blob-count", "count", int(s.Unused), "n", Count(s.Unused)),
			Msg("storage.unused-hint"),
		}},
		{Msg("storage.backup"), backupLines(s)},
	}}
	if s.Error != "" {
		held.Body = []Text{Msg("desk.failed", "why", English(s.Error))}
	}
	disks := Section{Title: Msg("storage.disks"), Table: &DeskTable{Columns: []Text{
		Msg("storage.disk"), Msg("storage.free"), Msg("storage.growth"), Msg("storage.days-left"),
	}, Numbers: []int{1}}}
	for _, d := range s.Disks {
		growth, left := []any{Msg("storage.growth-unknown")}, []any{Msg("storage.growth-unknown")}
		if !d.Since.IsZero() {
			growth = []any{Msg("storage.a-day", "size", Bytes(max(d.Growth, 0))), Msg("storage.since", "time", d.Since)}
			left = []any{Msg("storage.does-not-grow")}
		}
		if days, ends := d.DaysLeft(); ends {
			left = []any{daysLeft(days)}
		}
		disks.Table.Rows = append(disks.Table.Rows, DeskRow{Cells: []Cell{
			{Lines: []any{Name(d.Path)}}, {Lines: []any{Bytes(d.Free)}}, {Lines: growth}, {Lines: left},
		}})
	}
	big := Section{ID: "biggest", Title: Msg("storage.biggest"), Table: &DeskTable{Columns: []Text{
		Msg("desk.account"), Msg("storage.blobs"), Msg("storage.records"),
	}, Numbers: []int{1, 2}}}
	for i := range s.Biggest {
		b := &s.Biggest[i]
		big.Table.Rows = append(big.Table.Rows, DeskRow{Cells: []Cell{
			{Href: accountPath(b.DID.String()), Lines: []any{Name("@" + b.Handle.String())}},
			{Lines: []any{Bytes(b.BlobBytes), Msg("storage.blob-count", "count", int(b.Blobs), "n", Count(b.Blobs))}},
			{Lines: []any{Count(b.Records)}},
		}})
	}
	if len(s.Biggest) == 0 {
		big.Empty = Msg("storage.biggest-none")
	}
	return []Section{held, disks, big}
}

// backupLines returns when the last backup was made, when one was verified, and what is not sent since.
func backupLines(s *admin.Storage) []any {
	lines := []any{Msg("storage.backup-unknown")}
	if !s.BackedUp.IsZero() {
		lines = []any{s.BackedUp, Msg("storage.backup-unverified")}
	}
	if !s.Verified.IsZero() && !s.BackedUp.IsZero() {
		lines[1] = Msg("storage.backup-verified", "time", s.Verified)
	}
	if s.Unsent != "" {
		lines = append(lines, Badge{Failure, Msg("storage.backup-unsent")}, English(s.Unsent))
	}
	return lines
}

// The days from which on "days left" is a warning, an error, or more than anybody plans for.
const (
	daysFew  = 30
	daysNone = 7
	daysMany = 3650
)

func daysLeft(days int64) any {
	text := Msg("storage.days", "count", int(days), "n", Count(days))
	switch {
	case days < daysNone:
		return Badge{Failure, text}
	case days < daysFew:
		return Badge{Warning, text}
	case days > daysMany:
		return Msg("storage.years")
	default:
		return text
	}
}
