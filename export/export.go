// Package export owns the archives in which people take along all that an account has on
// this server: one ZIP, made while it is sent.
//
// Invariants: the repository's files are of one revision; what cannot be read is named in
// missing.json and ends nothing; memory is bounded whatever the account holds; no secret
// and no key is in an archive.
package export

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/device"
	"nestbox/internal/gate"
	"nestbox/mail"
	"nestbox/oauth"
	"nestbox/prefs"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/request"
	"nestbox/session"
)

const (
	// splitFrom is the size of an account's files from which they come in parts, and
	// partSize that of a part, in bytes; partFiles bounds the files of a part, since an
	// archive remembers each until its end.
	splitFrom = 2 << 30
	partSize  = 1 << 30
	partFiles = 20_000
	// maxAtOnce is how many archives are made at once, one for an account. One that nobody
	// has read from for idle gives its place to another account's.
	maxAtOnce = 4
	idle      = 10 * time.Second
	// pageOfBlobs is how many blobs are asked for at once.
	pageOfBlobs = 500
)

// daily is how often an account's owner gets one archive, or one part, in a day.
var daily = ratelimit.Limit{Name: "account-export", Points: 5, Window: 24 * time.Hour}

// partMails is how often a day the owner is mailed about parts: they come many at a time,
// and the archive itself is mailed each time.
var partMails = ratelimit.Limit{Name: "account-export-part-mails", Points: 1, Window: 24 * time.Hour}

// Errors of Begin.
var (
	// ErrPart: there is no such part.
	ErrPart = errors.New("no such part of the files")
	// ErrRunning: another download of the account is under way.
	ErrRunning = errors.New("another archive of the account is being sent")
	// ErrBusy: as many downloads of other accounts are under way as may.
	ErrBusy = errors.New("as many archives as may are being sent")
)

// Files are the accounts' files, as package blob keeps them: Kept and Missing are those of
// blob.Store, Open is that of blob.Service.
type Files interface {
	Kept(ctx context.Context, accountID int64, cursor string, limit int) ([]blob.Kept, error)
	Missing(ctx context.Context, accountID int64, cursor string, limit int, pay blob.Pay) ([]blob.Missing, error)
	Open(ctx context.Context, accountID int64, id cid.Cid) (blob.Blob, blob.File, error)
}

// Service makes archives. Its fields are set once.
type Service struct {
	Accounts account.Store
	Sessions session.Store
	Devices  device.Store
	Consents oauth.Store
	Prefs    prefs.Store
	Files    Files
	// Snapshot makes the files of a repository: see repo.Service.Snapshot.
	Snapshot func(context.Context, *account.Account) (*repo.Snapshot, error)
	// Document returns an account's DID document as it was last seen, Log the log of its DID
	// at the PLC directory, nil for a DID that has none.
	Document func(*account.Account) []byte
	Log      func(context.Context, syntax.DID) ([]byte, error)
	// Hostname names the server in the archive.
	Hostname string
	// Limits counts archives; nil counts nothing.
	Limits *ratelimit.Limiter
	// Notices tell owners of downloads.
	Notices *account.Notices
	Now     func() time.Time

	places gate.Places[syntax.DID]
}

// Part is a part of an account's files: those behind After, up to Through, in the order of
// their CIDs' text. An empty Through has no end. Files that come later are in a part too.
type Part struct {
	After, Through string
	// Files and Bytes are what it holds now.
	Files int
	Bytes int64
}

// Plan is how an account's files are given out.
type Plan struct {
	Files int
	Bytes int64
	// Parts are the downloads beside the archive; none if that holds the files itself.
	Parts []Part
}

// Plan looks at an account's files.
func (s *Service) Plan(ctx context.Context, a *account.Account) (Plan, error) {
	var p Plan
	var part Part
	err := s.eachBlob(ctx, a.ID, Part{}, func(u *blob.Kept) error {
		if part.Files > 0 && (part.Bytes+u.Size > partSize || part.Files == partFiles) {
			p.Parts = append(p.Parts, part)
			part = Part{After: part.Through}
		}
		part.Files, part.Bytes, part.Through = part.Files+1, part.Bytes+u.Size, u.CID.String()
		p.Files, p.Bytes = p.Files+1, p.Bytes+u.Size
		return nil
	})
	if p.Bytes < splitFrom && p.Files <= partFiles {
		p.Parts = nil
		return p, err
	}
	part.Through = ""
	p.Parts = append(p.Parts, part)
	return p, err
}

// eachBlob calls yield for each of an account's files that records refer to, within a part.
func (s *Service) eachBlob(ctx context.Context, accountID int64, of Part, yield func(*blob.Kept) error) error {
	for cursor := of.After; ; {
		page, err := s.Files.Kept(ctx, accountID, cursor, pageOfBlobs)
		if err != nil {
			return err
		}
		for i := range page {
			cursor = page[i].CID.String()
			if of.Through != "" && cursor > of.Through {
				return nil
			}
			if err := yield(&page[i]); err != nil {
				return err
			}
		}
		if len(page) < pageOfBlobs {
			return nil
		}
	}
}

// Archive is one that is about to be written. It must be closed.
type Archive struct {
	// Name is that of the file.
	Name string

	s        *Service
	account  *account.Account
	snapshot *repo.Snapshot // nil for a part, and for an account without a repository
	plan     Plan
	part     *Part // nil for the archive itself
	place    *gate.Place[syntax.DID]
	alone    bool // the repository alone
}

// Begin makes room for an archive of an account: of everything, or of one part of its Plan,
// counted from 1. It is on the trail, and the owner is notified: of each archive, and of the
// first part in a day. An operator, whom ctx names (account.ActingAs), may make any number.
// Errors: ErrPart, ErrRunning, ErrBusy, request.ErrTooMany, repo.ErrBusy.
func (s *Service) Begin(ctx context.Context, a *account.Account, part int) (_ *Archive, err error) {
	out := &Archive{s: s, account: a}
	if out.plan, err = s.Plan(ctx, a); err != nil {
		return nil, err
	}
	if part < 0 || part > len(out.plan.Parts) {
		return nil, ErrPart
	}
	out.Name = fileName(a, s.Now(), part, "zip")
	if out.place, err = s.enter(a.DID); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	key := a.DID.String()
	if part > 0 {
		out.part = &out.plan.Parts[part-1]
		key += " " + out.part.After
	}
	if _, operator := account.ActorIn(ctx); !operator {
		if err := request.Charge(ctx, s.Limits, key, 1, daily); err != nil {
			return nil, err
		}
	}
	if part == 0 {
		if out.snapshot, err = s.Snapshot(ctx, a); err != nil && !errors.Is(err, repo.ErrNoRepo) {
			return nil, err
		}
	}
	what := ""
	if part > 0 {
		what = strconv.Itoa(part)
	}
	if err := s.note(ctx, a, what); err != nil {
		return nil, err
	}
	return out, nil
}

// Preferences is the reason in the trail of a download of the preferences alone; that of a
// part is its number, that of everything empty.
const Preferences = "preferences"

// note writes a download on the trail, and mails the owner about it.
func (s *Service) note(ctx context.Context, a *account.Account, what string) error {
	by := account.ActorOwner
	if _, operator := account.ActorIn(ctx); operator {
		by = account.ActorAdmin
	}
	e := account.NewEntry(ctx, s.Now().UTC(), account.EntryExported, by)
	e.Reason = what
	var mails []mail.Message
	if what == "" || s.Limits.Take(a.DID.String(), partMails).Allowed {
		mails = s.Notices.Of(a, mail.NoticeExported, e, "")
	}
	return s.Accounts.AddEntry(ctx, a.ID, e, mails...)
}

// enter takes a place for an account's archive: if none is free, that of one that nobody
// reads. ErrRunning, ErrBusy.
func (s *Service) enter(did syntax.DID) (*gate.Place[syntax.DID], error) {
	room := gate.Room{All: maxAtOnce, IdleSince: s.Now().Add(-idle)}
	place, err := s.places.Try(room, gate.Share[syntax.DID]{Key: did, Most: 1})
	switch {
	case errors.Is(err, gate.ErrShare):
		return nil, ErrRunning
	case err != nil:
		return nil, ErrBusy
	default:
		return place, nil
	}
}

// Close gives the archive's place back.
func (x *Archive) Close() {
	if x.snapshot != nil {
		x.snapshot.Close()
	}
	x.place.Leave()
}

// Watch lets another archive take over the place from now on, whenever nothing has Moved
// for a while. Then revoke is called, once; it must end the writing.
func (x *Archive) Watch(revoke func()) { x.place.Watch(x.s.Now(), revoke) }

// Moved notes that somebody reads, and reports whether the archive still has its place.
func (x *Archive) Moved() bool { return x.place.Move(x.s.Now()) }

// Write writes the archive. An error is the writer's, or that of a dependency: what was
// written is not a whole archive then.
func (x *Archive) Write(ctx context.Context, w io.Writer) error {
	if x.alone {
		return x.snapshot.WriteCAR(w)
	}
	z := newZip(w, x.s.Now())
	for _, step := range []func(context.Context, *zipper) error{x.writeRepo, x.writeAccount, x.writeBlobs, x.writeMissing} {
		if err := step(ctx, z); err != nil {
			return err
		}
	}
	return x.writeManifest(z)
}
