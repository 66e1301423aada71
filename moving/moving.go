package moving

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/ratelimit"
	"nestbox/repo"
)

// Errors of this package, beside those of archives.
var (
	// ErrStanding: the account is taken down or suspended.
	ErrStanding = errors.New("account's status allows no import")
	// ErrNotEmpty: the account is active and has records.
	ErrNotEmpty = errors.New("account is active and its repository is not empty")
	// ErrClosed: this server accepts no imports.
	ErrClosed = errors.New("server accepts no imports")
	// ErrNothing: no file of the account waits.
	ErrNothing = errors.New("no file waits")
	// ErrWorking: work on the account's file is under way.
	ErrWorking = errors.New("work on the file is under way")
	// ErrChanged: the account, or its file, is not what its owner has seen.
	ErrChanged = errors.New("what would be replaced has changed")
	// ErrGaveWay: the file was dropped, since others needed its place or its room.
	ErrGaveWay = errors.New("file gave way to another one")
	// ErrFull: as many files wait as may.
	ErrFull = errors.New("as many files wait as may")
)

// Blobs are the accounts' blobs: Bring is that of blob.Service, the others are those of
// blob.Store.
type Blobs interface {
	Bring(ctx context.Context, did syntax.DID, id cid.Cid, body io.Reader, length int64, declared string) error
	Get(ctx context.Context, accountID int64, id cid.Cid) (blob.Blob, error)
	Kept(ctx context.Context, accountID int64, cursor string, limit int) ([]blob.Kept, error)
	Missing(ctx context.Context, accountID int64, cursor string, limit int, pay blob.Pay) ([]blob.Missing, error)
	Count(ctx context.Context, accountID int64) (expected, there int64, err error)
}

// Preferences are what apps keep for accounts: see prefs.Service and prefs.Store.
type Preferences interface {
	Fit(ctx context.Context, did syntax.DID, list []jsontext.Value) (kept int, odd []string, err error)
	Bring(ctx context.Context, did syntax.DID, list []jsontext.Value) (kept int, err error)
	Preferences(ctx context.Context, did syntax.DID) ([]jsontext.Value, error)
}

// Service is the domain. Its fields are set once.
type Service struct {
	Store    Store
	Accounts account.Store
	Repos    *repo.Service
	Blobs    Blobs
	Prefs    Preferences
	// UploadLimit is the size of the largest blob that is accepted, in bytes.
	UploadLimit int64
	// Notices tell owners that a file is brought in.
	Notices *account.Notices
	// URL is this server's. PLCLog returns the log of a did:plc as the directory writes it,
	// PDS the server that the document of another DID names.
	URL    string
	PLCLog func(context.Context, syntax.DID) ([]byte, error)
	PDS    func(context.Context, syntax.DID) (string, error)
	// HTTP reaches the servers that people name: see package safehttp. Pauses are those
	// between two tries.
	HTTP   *http.Client
	Pauses []time.Duration
	Limits *ratelimit.Limiter
	Now    func() time.Time
	Log    *slog.Logger

	mu    sync.Mutex
	held  map[int64]*held // by account
	gone  map[int64]File  // files that gave way, by account
	last  int64           // the number of the last file
	queue chan *held
	jobs  jobs
}

// Holdings is what an account has here.
type Holdings struct {
	Records int64
	// Blobs are those that records refer to, There those of them that are here.
	Blobs, There int64
	Preferences  int
	// Head is the CID of the repository's commit, empty if there is none.
	Head string
}

// Holdings returns what an account has here, which a file would replace.
func (s *Service) Holdings(ctx context.Context, a *account.Account) (h Holdings, err error) {
	sum, err := s.Repos.Summary(ctx, a.ID)
	if err != nil && !errors.Is(err, repo.ErrNoRepo) {
		return h, err
	}
	h.Records, h.Head = sum.Head.Records, headOf(sum)
	if h.Blobs, h.There, err = s.Blobs.Count(ctx, a.ID); err != nil {
		return h, err
	}
	list, err := s.Prefs.Preferences(ctx, a.DID)
	h.Preferences = len(list)
	return h, err
}

// head returns the CID of the commit of an account's repository, empty if it has none.
func (s *Service) head(ctx context.Context, a *account.Account) (string, error) {
	sum, err := s.Repos.Summary(ctx, a.ID)
	if errors.Is(err, repo.ErrNoRepo) {
		return "", nil
	}
	return headOf(sum), err
}

func headOf(sum repo.Summary) string {
	if !sum.Head.CID.Defined() {
		return ""
	}
	return sum.Head.CID.String()
}

// May returns nil if an account's owner may bring in a file now: ErrClosed, ErrStanding,
// ErrNotEmpty.
func (s *Service) May(ctx context.Context, a *account.Account) error {
	switch {
	case s.Repos.NoImports:
		return ErrClosed
	case a.Status() == account.Deactivated:
		return nil
	case a.Status() != account.Active:
		return ErrStanding
	}
	sum, err := s.Repos.Summary(ctx, a.ID)
	if err != nil && !errors.Is(err, repo.ErrNoRepo) {
		return err
	}
	if sum.Head.Records > 0 {
		return ErrNotEmpty
	}
	return nil
}

// again returns an account as it is now, if May still holds.
func (s *Service) again(ctx context.Context, a *account.Account) (*account.Account, error) {
	now, err := s.Accounts.ByDID(ctx, a.DID)
	if err != nil {
		return nil, err
	}
	if now.ID != a.ID {
		return nil, account.ErrNotFound // deleted, and made again
	}
	return now, s.May(ctx, now)
}
