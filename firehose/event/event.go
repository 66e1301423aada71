// Package event makes the messages of the event stream
// (https://atproto.com/specs/event-stream, com.atproto.sync.subscribeRepos), as
// bytes. An Event is made with its change, stored in the transaction of the change,
// and gets its number there; its frame is those bytes with the number put in. The
// package is pure.
package event

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo/car"
)

// Kind is the t of a frame's header.
type Kind string

// The kinds of message. Info has no number and is not stored.
const (
	KindCommit   Kind = "#commit"
	KindSync     Kind = "#sync"
	KindIdentity Kind = "#identity"
	KindAccount  Kind = "#account"
	KindInfo     Kind = "#info"
)

// Limits of a commit event (com.atproto.sync.subscribeRepos#commit and
// https://atproto.com/specs/sync): a commit beyond them is announced by a sync
// event.
const (
	MaxOps    = 200
	MaxBlocks = 2_000_000
)

// Event is a message that has no number yet.
type Event struct {
	Kind Kind
	DID  syntax.DID
	// Body is the message's map in canonical DAG-CBOR without its seq, which belongs at
	// offset Split.
	Body  []byte
	Split int
}

// Frame returns the event as it is sent, with its number.
func (e Event) Frame(seq int64) []byte {
	dst := appendHeader(make([]byte, 0, len(e.Body)+48), 1, e.Kind)
	// All maps here have fewer than 23 keys, so their head is one byte.
	dst = append(dst, e.Body[0]+1)
	dst = append(dst, e.Body[1:e.Split]...)
	dst = dagcbor.AppendText(dst, "seq")
	dst = dagcbor.AppendInt(dst, seq)
	return append(dst, e.Body[e.Split:]...)
}

func appendHeader(dst []byte, op int64, t Kind) []byte {
	if t == "" {
		dst = dagcbor.AppendMapHead(dst, 1)
	} else {
		dst = dagcbor.AppendMapHead(dst, 2)
		dst = dagcbor.AppendText(dst, "t")
		dst = dagcbor.AppendText(dst, string(t))
	}
	dst = dagcbor.AppendText(dst, "op")
	return dagcbor.AppendInt(dst, op)
}

// Info returns the frame of an #info message.
func Info(name, message string) []byte {
	dst := appendHeader(nil, 1, KindInfo)
	dst = dagcbor.AppendMapHead(dst, 2)
	dst = dagcbor.AppendText(dst, "name")
	dst = dagcbor.AppendText(dst, name)
	dst = dagcbor.AppendText(dst, "message")
	return dagcbor.AppendText(dst, message)
}

// Error returns the frame that ends a stream.
func Error(name, message string) []byte {
	dst := appendHeader(nil, -1, "")
	dst = dagcbor.AppendMapHead(dst, 2)
	dst = dagcbor.AppendText(dst, "error")
	dst = dagcbor.AppendText(dst, name)
	dst = dagcbor.AppendText(dst, "message")
	return dagcbor.AppendText(dst, message)
}

// Op is one change of a record within a commit. An undefined CID is null: CID for a
// delete, Prev (the old record) for a create.
type Op struct {
	Action Action
	Path   string
	CID    cid.Cid
	Prev   cid.Cid
}

// Action is what an Op does.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionUpdate Action = "update"
	ActionDelete Action = "delete"
)

// Commit is a new commit of a repository.
type Commit struct {
	DID    syntax.DID
	Rev    syntax.TID
	Commit car.Block
	// Since is the previous revision, empty for the first commit; PrevData is the root
	// of the previous tree, undefined for the first.
	Since    syntax.TID
	PrevData cid.Cid
	// Blocks are the covering proof: the nodes that prove the operations' keys and that
	// inverting them needs, and the records that were written. The commit's own block
	// is put before them.
	Blocks []car.Block
	Ops    []Op
	Time   time.Time
}

// Event returns the event: a sync event if the commit is over the limits.
func (c Commit) Event() Event {
	size := len(c.Commit.Data)
	for _, b := range c.Blocks {
		size += len(b.Data)
	}
	// Counted without the CAR's own bytes first: a commit of 200 operations has few of
	// them, and AppendBlock then needs no second pass.
	if len(c.Ops) > MaxOps || size > MaxBlocks {
		return c.Sync()
	}
	blocks := car.AppendHeader(make([]byte, 0, size+(len(c.Blocks)+2)*48), c.Commit.CID)
	blocks = car.AppendBlock(blocks, c.Commit.CID, c.Commit.Data)
	for _, b := range c.Blocks {
		blocks = car.AppendBlock(blocks, b.CID, b.Data)
	}
	if len(blocks) > MaxBlocks {
		return c.Sync()
	}
	fields := 10
	if c.PrevData.Defined() {
		fields++
	}
	dst := dagcbor.AppendMapHead(make([]byte, 0, len(blocks)+256+128*len(c.Ops)), fields)
	dst = dagcbor.AppendText(dst, "ops")
	dst = appendOps(dst, c.Ops)
	dst = dagcbor.AppendText(dst, "rev")
	dst = dagcbor.AppendText(dst, c.Rev.String())
	split := len(dst)
	dst = dagcbor.AppendText(dst, "repo")
	dst = dagcbor.AppendText(dst, c.DID.String())
	dst = appendTime(dst, c.Time)
	dst = dagcbor.AppendText(dst, "blobs") // deprecated, and always empty
	dst = dagcbor.AppendArrayHead(dst, 0)
	dst = dagcbor.AppendText(dst, "since")
	if c.Since == "" {
		dst = dagcbor.AppendNull(dst)
	} else {
		dst = dagcbor.AppendText(dst, c.Since.String())
	}
	dst = dagcbor.AppendText(dst, "blocks")
	dst = dagcbor.AppendBytes(dst, blocks)
	dst = dagcbor.AppendText(dst, "commit")
	dst = dagcbor.AppendLink(dst, c.Commit.CID)
	dst = dagcbor.AppendText(dst, "rebase")
	dst = dagcbor.AppendBool(dst, false)
	dst = dagcbor.AppendText(dst, "tooBig")
	dst = dagcbor.AppendBool(dst, false)
	if c.PrevData.Defined() {
		dst = dagcbor.AppendText(dst, "prevData")
		dst = dagcbor.AppendLink(dst, c.PrevData)
	}
	return Event{Kind: KindCommit, DID: c.DID, Body: dst, Split: split}
}

// Sync returns the sync event that stands in for the commit.
func (c Commit) Sync() Event {
	return Sync{DID: c.DID, Rev: c.Rev, Commit: c.Commit, Time: c.Time}.Event()
}

func appendOps(dst []byte, ops []Op) []byte {
	dst = dagcbor.AppendArrayHead(dst, len(ops))
	for _, op := range ops {
		fields := 3
		if op.Prev.Defined() {
			fields++
		}
		dst = dagcbor.AppendMapHead(dst, fields)
		dst = dagcbor.AppendText(dst, "cid")
		if op.CID.Defined() {
			dst = dagcbor.AppendLink(dst, op.CID)
		} else {
			dst = dagcbor.AppendNull(dst)
		}
		dst = dagcbor.AppendText(dst, "path")
		dst = dagcbor.AppendText(dst, op.Path)
		if op.Prev.Defined() {
			dst = dagcbor.AppendText(dst, "prev")
			dst = dagcbor.AppendLink(dst, op.Prev)
		}
		dst = dagcbor.AppendText(dst, "action")
		dst = dagcbor.AppendText(dst, string(op.Action))
	}
	return dst
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = dagcbor.AppendText(dst, "time")
	return dagcbor.AppendText(dst, t.UTC().Format(syntax.AtprotoDatetimeLayout))
}

// Sync announces a repository's state, whatever was announced before.
type Sync struct {
	DID    syntax.DID
	Rev    syntax.TID
	Commit car.Block
	Time   time.Time
}

// Event returns the event.
func (s Sync) Event() Event {
	blocks := car.AppendBlock(car.AppendHeader(nil, s.Commit.CID), s.Commit.CID, s.Commit.Data)
	dst := dagcbor.AppendMapHead(make([]byte, 0, len(blocks)+160), 4)
	dst = dagcbor.AppendText(dst, "did")
	dst = dagcbor.AppendText(dst, s.DID.String())
	dst = dagcbor.AppendText(dst, "rev")
	dst = dagcbor.AppendText(dst, s.Rev.String())
	split := len(dst)
	dst = appendTime(dst, s.Time)
	dst = dagcbor.AppendText(dst, "blocks")
	dst = dagcbor.AppendBytes(dst, blocks)
	return Event{Kind: KindSync, DID: s.DID, Body: dst, Split: split}
}

// Identity asks consumers to resolve an account's DID document and handle again.
type Identity struct {
	DID    syntax.DID
	Handle syntax.Handle // empty: left out
	Time   time.Time
}

// Event returns the event.
func (i Identity) Event() Event {
	fields := 2
	if i.Handle != "" {
		fields++
	}
	dst := dagcbor.AppendMapHead(make([]byte, 0, 160), fields)
	dst = dagcbor.AppendText(dst, "did")
	dst = dagcbor.AppendText(dst, i.DID.String())
	split := len(dst)
	dst = appendTime(dst, i.Time)
	if i.Handle != "" {
		dst = dagcbor.AppendText(dst, "handle")
		dst = dagcbor.AppendText(dst, i.Handle.String())
	}
	return Event{Kind: KindIdentity, DID: i.DID, Body: dst, Split: split}
}

// Account announces an account's hosting status.
type Account struct {
	DID syntax.DID
	// Status is why the account is not active, StatusTakenDown and the like; empty if it
	// is.
	Status string
	Time   time.Time
}

// The statuses of an account that is not active, as the Lexicons name them
// (com.atproto.sync.subscribeRepos#account). An account that is gone is deleted.
const (
	StatusTakenDown   = "takendown"
	StatusSuspended   = "suspended"
	StatusDeactivated = "deactivated"
	StatusDeleted     = "deleted"
)

// Event returns the event.
func (a Account) Event() Event {
	fields := 3
	if a.Status != "" {
		fields++
	}
	dst := dagcbor.AppendMapHead(make([]byte, 0, 160), fields)
	dst = dagcbor.AppendText(dst, "did")
	dst = dagcbor.AppendText(dst, a.DID.String())
	split := len(dst)
	dst = appendTime(dst, a.Time)
	dst = dagcbor.AppendText(dst, "active")
	dst = dagcbor.AppendBool(dst, a.Status == "")
	if a.Status != "" {
		dst = dagcbor.AppendText(dst, "status")
		dst = dagcbor.AppendText(dst, a.Status)
	}
	return Event{Kind: KindAccount, DID: a.DID, Body: dst, Split: split}
}
