package admin

import (
	"cmp"
	"context"

	"nestbox/account"
)

// Totals are numbers of the whole server.
type Totals struct {
	// Accounts are those that exist, by status.
	Accounts map[account.Status]int64
	// Records are those of all repositories.
	Records int64
	// Blobs and BlobBytes are of all blobs, Garbage is the number of files that are to be removed.
	Blobs, BlobBytes, Garbage int64
}

// CollectionLine is a collection, and what there is of it in all repositories.
type CollectionLine struct {
	// Name is its NSID, empty for records that an import brought and no client can name.
	Name     string `json:"collection"`
	Records  int64  `json:"records"`
	Accounts int64  `json:"accounts"`
}

// TotalsStore counts all that there is. It looks at every account and every blob, so it is for
// the background.
type TotalsStore interface {
	// Totals counts. A status that no account has may be left out.
	Totals(ctx context.Context) (Totals, error)
	// Collections returns up to limit collections, those with the most records first, and how
	// many there are in all. It reads every record.
	Collections(ctx context.Context, limit int) (lines []CollectionLine, all int64, err error)
}

// StatsArgs are what Stats counts besides totals.
type StatsArgs struct {
	Collections bool `json:"collections"`
}

// Stats are numbers of the whole server, for its operator.
type Stats struct {
	// Accounts are those that exist, by status.
	Accounts  map[string]int64 `json:"accounts"`
	Records   int64            `json:"records"`
	Blobs     int64            `json:"blobs"`
	BlobBytes int64            `json:"blobBytes"`
	// LastEvent is the number of the newest event.
	LastEvent int64 `json:"lastEvent"`
	// Collections are the largest, if they were asked for, of CollectionsInAll.
	Collections      []CollectionLine `json:"collections,omitempty"`
	CollectionsInAll int64            `json:"collectionsInAll,omitzero"`
}

// collectionsShown bounds how many collections a command prints: strangers choose their names.
const collectionsShown = 1000

// stats answers CmdStats.
func (s *Service) stats(ctx context.Context, a StatsArgs) (out Stats, err error) {
	t, err := s.Views.Totals(ctx)
	if err != nil {
		return out, err
	}
	st, err := s.Firehose.Status(ctx)
	if err != nil {
		return out, err
	}
	out = Stats{Accounts: map[string]int64{}, Records: t.Records, Blobs: t.Blobs, BlobBytes: t.BlobBytes, LastEvent: st.Last}
	for status, n := range t.Accounts {
		out.Accounts[cmp.Or(string(status), "active")] += n
	}
	if a.Collections {
		out.Collections, out.CollectionsInAll, err = s.Views.Collections(ctx, collectionsShown)
	}
	return out, err
}
