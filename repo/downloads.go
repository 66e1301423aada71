package repo

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

const (
	// maxDownloads is how many files are sent at once, each of which holds up to
	// spoolMemory of memory, or a part of the disk; maxOfNetwork is how many of
	// them one client network takes. The last keptDownloads places are for networks
	// that were here before.
	maxDownloads  = 128
	maxOfNetwork  = 16
	keptDownloads = 16
	// downloadIdle is for how long nothing of a file may be read before another
	// client can take over its place.
	downloadIdle = 10 * time.Second
	// DefaultMaxSpool is what the files that are being sent may take on disk
	// together, in bytes: some of the largest repositories there are.
	DefaultMaxSpool = 8 << 30

	// A download must go on at downloadPace, in bytes a second, and may be
	// downloadPatience behind it: whoever is slower is in the way of others. So
	// 1 GiB takes at most 4 h 33 min, and a line of half a megabit a second.
	downloadPace     = 64 << 10
	downloadPatience = 2 * time.Minute

	// busyFor is when a client should ask again that found no place.
	busyFor = 30 * time.Second
)

// exports are the calls of getRepo of one client network: many, as relays make them,
// and therefore counted apart from its other requests.
var exports = ratelimit.Limit{Name: "exports", Points: 6000, Window: 5 * time.Minute}

// CountExport is the limit of getRepo, in the place of the one over everything.
func (s *Service) CountExport(ctx context.Context, _ *http.Request) error {
	return request.AdmitNetwork(ctx, s.Limits, 1, exports)
}

// scans is what one client network has gone through for it: a point for each
// recordsAPoint records of the repository, and for each bytesAPoint of the file that
// is made of it; a repository of fewer is free.
var scans = ratelimit.Limit{Name: "scans", Points: 10_000, Window: 5 * time.Minute}

const recordsAPoint = 1000

// charge counts what an export or a search of a repository costs.
func (s *Service) charge(ctx context.Context, h Head) error {
	points := min(h.Records/recordsAPoint, int64(scans.Points)) // one of any size can be had
	if points == 0 {
		return nil
	}
	return request.AdmitNetwork(ctx, s.Limits, int(points), scans)
}

// errUnpaid: whoever an export is made for has no points left for it.
var errUnpaid = errors.New("export is not paid for")

// paidSpool is a limited spool whose bytes are counted as charge counts records.
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

// download takes a place for a client: if there is none, that of a download which
// nobody reads. The error is one for the client.
func (s *Service) download(c request.Client) (*gate.Place[string], error) {
	room := gate.Room{All: c.Open(maxDownloads, keptDownloads), IdleSince: s.Now().Add(-downloadIdle)}
	place, err := s.places.Try(room, c.Shares(gate.Share[string]{Most: maxOfNetwork}, maxDownloads)...)
	switch {
	case errors.Is(err, gate.ErrShare):
		return nil, xrpc.TooManyRequests(busyFor)
	case err != nil:
		return nil, busy(errors.New("too many downloads of repositories at once"))
	default:
		return place, nil
	}
}

func busy(cause error) *xrpc.Error {
	e := xrpc.Unavailable(cause)
	e.RetryAfter = busyFor
	return e
}

var errNoRoom = errors.New("the downloads of repositories take as much of the disk as they may")

// reserve takes n bytes more of the disk: never more than MaxSpool in all, nor
// than half of what would be free without. The error is one for the client.
func (t *Transfers) reserve(n int64) error {
	ok, err := t.room.TakeOfDisk(n, cmp.Or(t.MaxSpool, DefaultMaxSpool), t.Free)
	if err == nil && !ok {
		err = busy(errNoRoom)
	}
	return err
}

// edition is what an export holds, whoever asks for it.
type edition struct {
	number int64
	head   cid.Cid
	since  syntax.TID
}

// shelf has the exports that are being made or sent: whoever asks for one of
// them takes part in it. Relays that follow a server ask for the same at once.
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

// errUnmade: whoever made the export did not get to its end.
var errUnmade = errors.New("export was given up")

// shared returns an export of the account's repository, and the function that
// tells that it is not needed any more.
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
		gaveUp := errors.Is(e.err, context.Canceled) || errors.Is(e.err, context.DeadlineExceeded) || errors.Is(e.err, errUnmade) || errors.Is(e.err, errUnpaid)
		if first || !gaveUp {
			return nil, nil, e.err
		}
	}
}

// fill makes the export. It may hold a commit newer than the one it was asked
// for by.
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

// failed: it was made, and in vain.
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

// send sends a CAR file from a place, if it has one, which it may lose.
func (s *Service) send(ctx context.Context, w http.ResponseWriter, file *spool, place *gate.Place[string]) error {
	header := w.Header()
	header.Set("Content-Type", typeCAR)
	header.Set("Content-Length", strconv.FormatInt(file.size, 10))
	began := s.Now()
	if place != nil {
		place.Watch(began, func() {
			// What is being written ends, and the connection with it. A writer
			// without deadlines is none of the network.
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
