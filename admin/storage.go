package admin

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Storage is what the server has on its disks.
type Storage struct {
	// Database is the size of its file, WriteAheadLog of what is not yet in it; EventLog is
	// the part of the database that the event stream keeps, in bytes.
	Database, WriteAheadLog, EventLog int64
	// Transfers is what exports and imports under way have on the disk.
	Transfers int64
	Usage
	// BackedUp is when a backup was last made, Verified when one was last verified; zero if this
	// server knows of none.
	BackedUp, Verified time.Time
	// Unsent is why what is written does not arrive at the backups; empty if it does, or is not sent.
	Unsent string
	// Disks are those of the data directory and, if they lie elsewhere, of the blobs.
	Disks []Disk
	// Error is why a part is missing; empty if none is.
	Error string
}

// Usage is what accounts have stored.
type Usage struct {
	Blobs, BlobBytes int64
	// Unused are uploads that no record refers to.
	Unused, UnusedBytes int64
	// Biggest are the accounts with the most bytes of blobs, the biggest first.
	Biggest []BigAccount
}

// BigAccount is an account and what it has stored.
type BigAccount struct {
	Stored

	DID    syntax.DID
	Handle syntax.Handle
}

// UsageStore is what the admin page reads of all that is stored. It looks at every blob, so
// it is for the background.
type UsageStore interface {
	// Usage returns what accounts have stored, with up to limit of Biggest.
	Usage(ctx context.Context, limit int) (Usage, error)
}

// Disk is a disk that the server writes to.
type Disk struct {
	Path string
	Free int64
	// Growth is how much the server took of it a day, in bytes, since Since; Since is zero
	// while less than a day is known.
	Growth int64
	Since  time.Time
}

// DaysLeft returns how many days the free space lasts at this growth, and whether it ends at
// all.
func (d Disk) DaysLeft() (days int64, ends bool) {
	if d.Since.IsZero() || d.Growth <= 0 {
		return 0, false
	}
	return d.Free / d.Growth, true
}

// Size is what the server had on a day.
type Size struct {
	At time.Time
	// Database is that of its file, Blobs of all blobs, in bytes.
	Database, Blobs int64
}

// keptSizes is how many days are remembered: growth is that of a month.
const keptSizes = 30

// WithSize adds a day's size to those of past days, unless the last is less than a day old.
// Sizes of the future are dropped: the clock was wrong.
func WithSize(past []Size, now Size) []Size {
	var out []Size
	for _, s := range past {
		if !s.At.After(now.At) {
			out = append(out, s)
		}
	}
	if len(out) == 0 || now.At.Sub(out[len(out)-1].At) >= 24*time.Hour {
		out = append(out, now)
	}
	return out[max(len(out)-keptSizes, 0):]
}

// Growth returns how many bytes a day a size took since the first of past sizes; since is
// zero if that is less than a day ago.
func Growth(past []Size, now Size, of func(Size) int64) (perDay int64, since time.Time) {
	if len(past) == 0 {
		return 0, since
	}
	passed := now.At.Sub(past[0].At)
	if passed < 24*time.Hour {
		return 0, since
	}
	return int64(float64(of(now)-of(past[0])) / (passed.Hours() / 24)), past[0].At
}

// FormatSizes writes sizes as lines, ParseSizes reads them; it leaves out lines that it does
// not understand.
func FormatSizes(sizes []Size) []byte {
	var b bytes.Buffer
	for _, s := range sizes {
		fmt.Fprintf(&b, "%d %d %d\n", s.At.Unix(), s.Database, s.Blobs)
	}
	return b.Bytes()
}

// ParseSizes reads what FormatSizes wrote.
func ParseSizes(lines []byte) (sizes []Size) {
	for line := range bytes.Lines(lines) {
		var at int64
		var s Size
		if n, _ := fmt.Sscanf(string(line), "%d %d %d\n", &at, &s.Database, &s.Blobs); n == 3 { //nolint:mnd // all of them
			s.At = time.Unix(at, 0).UTC()
			sizes = append(sizes, s)
		}
	}
	return sizes
}
