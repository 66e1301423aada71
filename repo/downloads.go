package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
	"nestbox/request"
)

const (
	// maxDownloads is how many files are sent at once, each of which holds up to
	// spoolMemory of memory, or a part of the disk; maxOfNetwork is how many of
	// them one client network takes. The last keptDownloads places are for networks
	// that were here before.
	maxDownloads  = 128
	maxOfNetwork  = 16
	keptDownloads = 16
	// downloadIdle is how long a client may read nothing before another client can take
	// over its place.
	downloadIdle = 10 * time.Second
	// DefaultMaxSpool is what the files being sent may take on disk together, in bytes:
	// room for some of the largest repositories.
	DefaultMaxSpool = 8 << 30

	// A download must go on at downloadPace, in bytes a second, and may be
	// downloadPatience behind it: slower downloads are cut off, since they hold a place
	// others need. So 1 GiB takes at most 4 h 33 min, and a line of half a megabit a
	// second.
	downloadPace     = 64 << 10
	downloadPatience = 2 * time.Minute

	// busyFor is how long a client that found no place should wait before it asks
	// again.
	busyFor = 30 * time.Second
)

// ErrBusy: the server has no room for the transfer now. The client may ask again after
// busyFor.
var ErrBusy = errors.New("no room for another transfer")

var (
	errManyDownloads = fmt.Errorf("%w: too many downloads of repositories at once", ErrBusy)
	errNoRoom        = fmt.Errorf("%w: the downloads of repositories take as much of the disk as they may", ErrBusy)
)

// exports are the calls of getRepo of one client network: many, as relays make them,
// and therefore counted apart from its other requests.
var exports = ratelimit.Limit{Name: "exports", Points: 6000, Window: 5 * time.Minute}

// CountExport counts a call of getRepo against a limit of its own, instead of the one
// over everything.
func (s *Service) CountExport(ctx context.Context, _ *http.Request) error {
	return request.AdmitNetwork(ctx, s.Limits, 1, exports)
}

// scans limits what the server reads for one client network: a point for each
// recordsAPoint records of the repository, and for each bytesAPoint of the file made
// from it; a smaller repository is free.
var scans = ratelimit.Limit{Name: "scans", Points: 10_000, Window: 5 * time.Minute}

const recordsAPoint = 1000

// charge counts what an export or a search of a repository costs.
func (s *Service) charge(ctx context.Context, h Head) error {
	points := min(h.Records/recordsAPoint, int64(scans.Points)) // a repository of any size can be had
	if points == 0 {
		return nil
	}
	return request.AdmitNetwork(ctx, s.Limits, int(points), scans)
}

// errUnpaid: the client that an export is made for has no points left.
var errUnpaid = errors.New("export is not paid for")

// paidSpool returns a limited spool whose bytes are counted as charge counts records.
func (s *Service) paidSpool(ctx context.Context) *spool {
	out := s.newSpool(true)
	out.pay = func(points int) error {
		if err := request.ChargeNetwork(ctx, s.Limits, points, scans); err != nil {
			return errors.Join(errUnpaid, err)
		}
		return nil
	}
	return out
}

// download takes a place for a client: if none is free, the place of a download that
// nobody reads. Errors: request.ErrTooMany, ErrBusy.
func (s *Service) download(c request.Client) (*gate.Place[string], error) {
	room := gate.Room{All: c.Open(maxDownloads, keptDownloads), IdleSince: s.Now().Add(-downloadIdle)}
	place, err := s.places.Try(room, c.Shares(gate.Share[string]{Most: maxOfNetwork}, maxDownloads)...)
	switch {
	case errors.Is(err, gate.ErrShare):
		return nil, request.ErrTooMany{Wait: busyFor}
	case err != nil:
		return nil, errManyDownloads
	default:
		return place, nil
	}
}

// reserve takes n more bytes of the disk: in all at most MaxSpool, and at most half
// of what would be free without these files. If there is no room: errNoRoom.
func (t *Transfers) reserve(n int64) error {
	ok, err := t.room.TakeOfDisk(n, cmp.Or(t.MaxSpool, DefaultMaxSpool), t.Free)
	if err == nil && !ok {
		err = errNoRoom
	}
	return err
}

// Spooled returns how much exports and imports under way have on the disk, in bytes.
func (t *Transfers) Spooled() int64 { return t.room.Taken() }

// edition is what an export holds. Every client that asks for it gets the same.
type edition struct {
	number int64
	head   cid.Cid
	since  syntax.TID
}

// shelf holds the exports being made or sent: a client that asks for one of them
// shares it. Relays that follow a server ask for the same one at the same time.
type shelf struct {
	mu sync.Mutex
	of map[edition]*shared
}

// shared is an export on the shelf.
type shared struct {
	refs int           // guarded by the shelf
	made chan struct{} // closed once file and err are set
	file *spool
	err  error
}

// errUnmade: the call that made the export did not complete it.
var errUnmade = errors.New("export was given up")

// shared returns an export of the account's repository, and the function that
// releases it.
func (s *Service) shared(ctx context.Context, a Account, since syntax.TID) (*spool, func(), error) {
	head, err := s.head(ctx, a.ID)
	if err == nil {
		err = s.charge(ctx, head)
	}
	if err != nil {
		return nil, nil, err
	}
	of := edition{head.Number, head.CID, since}
	for {
		e, first := s.shelf.join(of)
		leave := func() { s.shelf.leave(of, e) }
		if first {
			s.fill(ctx, e, a, since)
		}
		select {
		case <-e.made:
		case <-ctx.Done():
			leave()
			return nil, nil, ctx.Err()
		}
		if e.err == nil {
			return e.file, leave, nil
		}
		leave()
		gaveUp := errors.Is(e.err, context.Canceled) || errors.Is(e.err, context.DeadlineExceeded) ||
			errors.Is(e.err, errUnmade) || errors.Is(e.err, errUnpaid)
		if first || !gaveUp {
			return nil, nil, e.err
		}
	}
}

// fill makes the export. It may hold a newer commit than the one that it was asked
// for.
func (s *Service) fill(ctx context.Context, e *shared, a Account, since syntax.TID) {
	e.err = errUnmade
	defer close(e.made)
	e.file, e.err = s.export(ctx, a, since, true)
}

func (s *shelf) join(of edition) (e *shared, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e = s.of[of]; e == nil || e.failed() {
		if s.of == nil {
			s.of = map[edition]*shared{}
		}
		e, first = &shared{made: make(chan struct{})}, true
		s.of[of] = e
	}
	e.refs++
	return e, first
}

// failed reports whether making the export ended in an error.
func (e *shared) failed() bool {
	select {
	case <-e.made:
		return e.err != nil
	default:
		return false
	}
}

func (s *shelf) leave(of edition, e *shared) {
	s.mu.Lock()
	e.refs--
	last := e.refs == 0
	if last && s.of[of] == e {
		delete(s.of, of)
	}
	s.mu.Unlock()
	if last && e.file != nil {
		e.file.close()
	}
}

// send sends a CAR file. It holds a place, if place is not nil, and may lose it.
func (s *Service) send(ctx context.Context, w http.ResponseWriter, file *spool, place *gate.Place[string]) error {
	header := w.Header()
	header.Set("Content-Type", typeCAR)
	header.Set("Content-Length", strconv.FormatInt(file.size, 10))
	began := s.Now()
	if place != nil {
		place.Watch(began, func() {
			// The current write ends, and the connection with it. A writer without
			// deadlines is not a connection.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
		})
	}
	err := file.send(w, func(sent int64) error {
		now := s.Now()
		switch {
		case now.Sub(began) > downloadPatience+time.Duration(sent/downloadPace)*time.Second:
			return errTooSlow
		case place != nil && !place.Move(now):
			return errPlaceLost
		default:
			return ctx.Err()
		}
	})
	if err == nil && place != nil {
		request.Remember(ctx)
	}
	return err
}

// errPlaceLost: a client read nothing while others waited. Its connection is cut.
var errPlaceLost = errors.New("download was given up for another one, since nobody read it")

// errTooSlow: a client took its download too slowly. Its connection is cut.
var errTooSlow = errors.New("download is too slow")
