package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo/car"
)

// ErrEvent: the stream cannot send a stored event; the text gives the reason.
var ErrEvent = errors.New("malformed event")

// Message is the content of a commit or sync event about its repository; the zero
// value for the other kinds.
type Message struct {
	Rev    syntax.TID
	Commit cid.Cid
}

// Check checks that the event, with its number, is a message of its kind: one value
// in canonical form, about its DID. If it holds blocks, each must have the hash in
// its CID, and the commit and what was written must be among them. Errors: ErrEvent,
// dagcbor.ErrForm, car.ErrForm.
func (e Event) Check(seq int64) (Message, error) { return e.check(seq, false) }

// CheckForeign is Check of an event that came from another server with the event log: its
// commit may be anywhere among its blocks.
func (e Event) CheckForeign(seq int64) (Message, error) { return e.check(seq, true) }

func (e Event) check(seq int64, foreign bool) (Message, error) {
	const mapHead, most = 0xa0, 22 // Frame adds a key to a map whose head is one byte
	if len(e.Body) == 0 || e.Body[0] < mapHead || e.Body[0] > mapHead+most || e.Split < 1 || e.Split > len(e.Body) {
		return Message{}, fmt.Errorf("%w: it is no map that takes a number at %d", ErrEvent, e.Split)
	}
	v, err := dagcbor.Decode(e.Frame(seq)[len(appendHeader(nil, 1, e.Kind)):])
	if err != nil {
		return Message{}, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return Message{}, fmt.Errorf("%w: it is no map", ErrEvent)
	}
	who := "did"
	if e.Kind == KindCommit {
		who = "repo"
	}
	if m[who] != e.DID.String() {
		return Message{}, fmt.Errorf("%w: it is about %v", ErrEvent, m[who])
	}
	switch e.Kind {
	case KindCommit:
		return checkCommit(e.DID, m, foreign)
	case KindSync:
		return checkBlocks(e.DID, m, nil, foreign)
	case KindIdentity, KindAccount:
		return Message{}, nil
	case KindInfo: // is not stored
		fallthrough
	default:
		return Message{}, fmt.Errorf("%w: no event is a %s", ErrEvent, e.Kind)
	}
}

func checkCommit(did syntax.DID, m map[string]any, foreign bool) (Message, error) {
	ops, ok := m["ops"].([]any)
	if !ok || len(ops) > MaxOps {
		return Message{}, fmt.Errorf("%w: its operations are no list of up to %d", ErrEvent, MaxOps)
	}
	var written []cid.Cid
	for _, o := range ops {
		op, ok := o.(map[string]any)
		if !ok {
			return Message{}, fmt.Errorf("%w: an operation is no map", ErrEvent)
		}
		if id, ok := op["cid"].(cid.Cid); ok {
			written = append(written, id)
		}
	}
	said, err := checkBlocks(did, m, written, foreign)
	if err == nil && m["commit"] != said.Commit {
		err = fmt.Errorf("%w: its blocks are those of commit %s, it says %v", ErrEvent, said.Commit, m["commit"])
	}
	return said, err
}

// checkBlocks reads the blocks of m: the commit, which is the first unless the event is
// foreign, and each of wanted.
func checkBlocks(did syntax.DID, m map[string]any, wanted []cid.Cid, foreign bool) (Message, error) {
	raw, _ := m["blocks"].([]byte)
	c, err := car.NewReader(bytes.NewReader(raw))
	if err != nil {
		return Message{}, err
	}
	if len(c.Roots()) != 1 {
		return Message{}, fmt.Errorf("%w: its blocks have %d roots", ErrEvent, len(c.Roots()))
	}
	said := Message{Commit: c.Roots()[0]}
	there, data := map[cid.Cid]bool{}, []byte(nil)
	for {
		b, err := c.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Message{}, err
		}
		switch {
		case b.CID.Equals(said.Commit):
			data = bytes.Clone(b.Data)
		case data == nil && !foreign:
			return Message{}, fmt.Errorf("%w: its first block is %s, not commit %s", ErrEvent, b.CID, said.Commit)
		}
		there[b.CID] = true
	}
	if data == nil {
		return Message{}, fmt.Errorf("%w: commit %s is not among its blocks", ErrEvent, said.Commit)
	}
	if said.Rev, err = checkRev(did, m["rev"], data); err != nil {
		return Message{}, err
	}
	for _, id := range wanted {
		if !there[id] {
			return Message{}, fmt.Errorf("%w: block %s, which it wrote, is not among its blocks", ErrEvent, id)
		}
	}
	return said, nil
}

// checkRev returns the revision that an event says, if its commit is of that and of the
// account.
func checkRev(did syntax.DID, says any, block []byte) (syntax.TID, error) {
	v, err := dagcbor.Decode(block)
	if err != nil {
		return "", fmt.Errorf("its commit: %w", err)
	}
	commit, _ := v.(map[string]any)
	if commit["did"] != did.String() || commit["rev"] != says {
		return "", fmt.Errorf("%w: its commit is of %v at %v, it says %s at %v", ErrEvent, commit["did"], commit["rev"], did, says)
	}
	text, _ := says.(string)
	rev, err := syntax.ParseTID(text)
	if err != nil {
		return "", fmt.Errorf("%w: rev: %w", ErrEvent, err)
	}
	return rev, nil
}
