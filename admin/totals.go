package admin

import (
	"context"

	"nestbox/account"
)

// Totals are numbers of the whole server.
type Totals struct {
	// Accounts are those that exist, by status.
	Accounts map[account.Status]int64
	// Blobs and BlobBytes are of all blobs, Garbage is the number of files that are to be removed.
	Blobs, BlobBytes, Garbage int64
}

// TotalsStore counts all that there is. It looks at every account and every blob, so it is for
// the background.
type TotalsStore interface {
	// Totals counts. A status that no account has may be left out.
	Totals(ctx context.Context) (Totals, error)
}
