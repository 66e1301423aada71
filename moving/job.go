package moving

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Kind is what a job does.
type Kind string

// The kinds.
const (
	FetchRepo  Kind = "repository"
	FetchBlobs Kind = "blobs"
)

// State is that of a job.
type State string

// The states. All but Open are final.
const (
	Open      State = "open"
	Done      State = "done"
	Broken    State = "failed"
	Cancelled State = "cancelled"
)

// Job is work in the background for an account that moves in.
type Job struct {
	ID        int64
	AccountID int64
	// DID is that of the account; AddJob does not ask for it.
	DID  syntax.DID
	Kind Kind
	// Source is the URL of the server that it fetches from.
	Source string
	State  State
	Progress
	// Error is why it failed: one of a closed set of words, or what package safehttp says.
	Error             string
	MadeAt, ChangedAt time.Time
}

// Progress is how far a job is.
type Progress struct {
	// Over is the CID of the commit that the repository may replace: its owner has seen that.
	Over string `json:"over,omitempty"`
	// Bytes have come; of the blobs, Got of Total. Records are those of the repository that
	// was brought in.
	Bytes   int64 `json:"bytes,omitempty"`
	Got     int   `json:"got,omitempty"`
	Total   int   `json:"total,omitempty"`
	Records int64 `json:"records,omitempty"`
	// Lacking are the first blobs that could not be had, LackingAll how many there are.
	Lacking    []Lacking `json:"lacking,omitempty"`
	LackingAll int       `json:"lackingAll,omitempty"`
}

// Lacking is a blob that could not be had, and the record that refers to it.
type Lacking struct {
	CID    string `json:"cid"`
	Record string `json:"record"`
	Why    Reason `json:"why"`
}

// Gone: the other server does not have the blob. Unreadable: it answered with a fault each
// time.
const (
	Gone       Reason = "gone"
	Unreadable Reason = "unreadable"
)

// ErrJob: the account has a job that is open.
var ErrJob = errors.New("account has a job that is open")

// Store keeps jobs. They are deleted with their account. Every method is one transaction,
// durable when it returns nil.
type Store interface {
	// AddJob keeps a job that is Open, and returns its number. ErrJob; account.ErrNotFound.
	AddJob(ctx context.Context, j Job) (int64, error)
	// SaveJob saves state, progress, error and ChangedAt of a job that is Open, and reports
	// whether it still was.
	SaveJob(ctx context.Context, j Job) (bool, error)
	// OpenJobs returns the jobs that are Open, the oldest first.
	OpenJobs(ctx context.Context) ([]Job, error)
	// Jobs returns up to limit jobs of an account, the newest first.
	Jobs(ctx context.Context, accountID int64, limit int) ([]Job, error)
	// CollectJobs deletes the jobs that ended before a time, and returns how many.
	CollectJobs(ctx context.Context, before time.Time) (int, error)
}
