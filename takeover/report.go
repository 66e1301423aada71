package takeover

import (
	"fmt"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Report is what a take-over has found and done. Sizes are in bytes.
type Report struct {
	Source string `json:"source"`
	Target string `json:"target"`
	// Pass is what was asked for: dry run, prepare, take over.
	Pass string `json:"pass"`
	// Done: the take-over has ended, and servers may start on the target.
	Done     bool     `json:"done"`
	Refusals Refusals `json:"refusals,omitempty"`
	Faults   []Fault  `json:"faults,omitempty"`
	// Skipped are accounts that were left out because that was asked for.
	Skipped []syntax.DID `json:"skipped,omitempty"`

	Accounts struct {
		// Found is how many the source has; Read is how many actors this pass has read.
		Found int `json:"found"`
		Read  int `json:"read"`
	} `json:"accounts"`
	// Records and Blobs are those that this pass has read.
	Records     int64 `json:"records"`
	RecordBytes int64 `json:"recordBytes"`
	// OddRecords are kept as they are, though they could not be written here. Lagging are
	// accounts whose table of records was not what their repository has.
	OddRecords int64        `json:"oddRecords,omitempty"`
	Lagging    []syntax.DID `json:"lagging,omitempty"`
	// FromRelay are accounts whose own database was damaged.
	FromRelay []syntax.DID `json:"fromRelay,omitempty"`
	Blobs     Blobs        `json:"blobs"`
	Sessions  *Arrived     `json:"sessions,omitempty"`
	Events    Events       `json:"events"`
	Stored    *Counts      `json:"stored,omitempty"`

	DeleteAfter struct {
		Dropped []syntax.DID `json:"dropped,omitempty"`
		Kept    []syntax.DID `json:"kept,omitempty"`
		// Mailed counts the mails to owners of those that are kept.
		Mailed int `json:"mailed,omitempty"`
	} `json:"deleteAfter"`
	Dropped struct {
		AppPasswords int `json:"appPasswords"`
		EmailCodes   int `json:"emailCodes"`
	} `json:"dropped"`
	// Settings are those of the source that have no effect here, and what to change.
	Settings []string `json:"settings,omitempty"`
	Remarks  []string `json:"remarks,omitempty"`
	// Unread are parts of newer databases that were not read.
	Unread []string `json:"unread,omitempty"`

	Sizes Sizes `json:"sizes"`
	// Took is how long this pass took, FirstPass and FinalPass how long they will, about, in
	// milliseconds; the final one if one account of a hundred changes between them.
	Took      int64 `json:"tookMs"`
	FirstPass int64 `json:"estimatedFirstPassMs,omitempty"`
	FinalPass int64 `json:"estimatedFinalPassMs,omitempty"`

	mu   sync.Mutex
	more map[string]int
	// letters are those of DeleteAfter.Kept.
	letters []Letter
}

// Blobs counts blobs that a pass has brought.
type Blobs struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
	// By counts them by manner.
	By map[Manner]int64 `json:"by,omitempty"`
	// Bad are those whose file is missing or damaged: their records miss them.
	Bad []BadBlob `json:"bad,omitempty"`
}

// BadBlob is a blob that is left out.
type BadBlob struct {
	DID syntax.DID `json:"did"`
	CID string     `json:"cid"`
	Why string     `json:"why"`
}

func (b BadBlob) String() string { return b.CID + " of " + b.DID.String() + ": " + b.Why }

// Events counts what was done with the event log.
type Events struct {
	// Kept are events, Removed numbers without one. Last is the last number of the source.
	Kept    int64 `json:"kept"`
	Removed int64 `json:"removed"`
	Last    int64 `json:"last"`
	// Syncs and Statuses are events that the source's log lacked.
	Syncs    int `json:"syncs"`
	Statuses int `json:"statuses"`
}

// Sizes are those of the source's files, and what the target needs and has.
type Sizes struct {
	Databases int64 `json:"databases"`
	Actors    int64 `json:"actors"`
	Blobs     int64 `json:"blobs"`
	BlobFiles int64 `json:"blobFiles"`
	Needed    int64 `json:"needed"`
	Free      int64 `json:"free"`
	// Manner is how blobs can be brought.
	Manner Manner `json:"manner"`
}

// maxRemarks is how many remarks of one form a report has; the rest are counted.
const maxRemarks = 20

// remark adds what is worth knowing without being a fault.
func (r *Report) remark(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.more == nil {
		r.more = map[string]int{}
	}
	if r.more[format]++; r.more[format] <= maxRemarks {
		r.Remarks = append(r.Remarks, fmt.Sprintf(format, args...))
	}
}

// Remark adds what a caller found.
func (r *Report) Remark(text string) { r.remark("%s", text) }

func (r *Report) rescued(did syntax.DID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.FromRelay = append(r.FromRelay, did)
}

func (r *Report) fault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Faults = append(r.Faults, f)
}

// close counts what was not named, and the time.
func (r *Report) close(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Took = took.Milliseconds()
	for _, n := range r.more {
		if n > maxRemarks {
			r.Remarks = append(r.Remarks, fmt.Sprintf("%d more remarks like one of these", n-maxRemarks))
		}
	}
	r.more = nil
}

// work is what one worker needs to read actors, and what it counts of the actor that it
// reads.
type work struct {
	derive derive
	report *Report

	records, bytes int64
	blobs, size    int64
	by             map[Manner]int64
	bad            []BadBlob
	remarks        []func()
}

// begin forgets what an earlier reading of an actor counted.
func (w *work) begin() {
	w.records, w.bytes, w.blobs, w.size, w.bad, w.remarks = 0, 0, 0, 0, nil, nil
	w.by = map[Manner]int64{}
}

func (w *work) count(c Chunk) {
	w.records += int64(len(c.Records))
	for _, rec := range c.Records {
		w.bytes += int64(len(rec.Block))
	}
}

func (w *work) blob(size int64, how Manner) {
	w.blobs++
	w.size += size
	w.by[how]++
}

func (w *work) badBlob(did syntax.DID, id, why string) {
	w.bad = append(w.bad, BadBlob{did, id, why})
}

func (w *work) remark(format string, args ...any) {
	w.remarks = append(w.remarks, func() { w.report.remark(format, args...) })
}

// end adds the actor that was read to the report.
func (w *work) end(p *proof) {
	for _, say := range w.remarks {
		say()
	}
	r := w.report
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Accounts.Read++
	r.Records += w.records
	r.RecordBytes += w.bytes
	r.OddRecords += p.odd
	if p.lagged {
		r.Lagging = append(r.Lagging, p.row.DID)
	}
	r.Blobs.Count += w.blobs
	r.Blobs.Bytes += w.size
	r.Blobs.Bad = append(r.Blobs.Bad, w.bad...)
	for how, n := range w.by {
		if r.Blobs.By == nil {
			r.Blobs.By = map[Manner]int64{}
		}
		r.Blobs.By[how] += n
	}
}
