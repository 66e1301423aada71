package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/internal/pause"
	"nestbox/repo/mst"
)

// proof writes the blocks that prove what a key holds: the commit, the nodes on the
// way to the key, and the record, if there is one.
func proof(v View, key string, out *spool) error {
	head := v.Head()
	out.header(head.CID)
	if err := out.block(head.CID, head.Commit); err != nil {
		return err
	}
	for l := &head.Root; l != nil; {
		n, err := v.Node(l)
		if err != nil {
			return err
		}
		if err := out.block(l.CID, n.Encode()); err != nil {
			return err
		}
		i, found := slices.BinarySearchFunc(n.Entries, key, func(e mst.Entry, key string) int { return strings.Compare(e.Key, key) })
		switch {
		case found:
			r, err := v.Record(key)
			if err == nil && !r.CID.Equals(n.Entries[i].Value) {
				err = fmt.Errorf("%w: it is %s, in the tree %s", errInconsistent, r.CID, n.Entries[i].Value)
			}
			if err != nil {
				return fmt.Errorf("record %s: %w", key, err)
			}
			return out.block(r.CID, r.Block)
		case i == 0:
			l = n.Left
		default:
			l = n.Entries[i-1].Right
		}
	}
	return nil
}

// blocks writes the blocks with the given CIDs, and returns those that the
// repository does not have.
func blocks(v View, ids []cid.Cid, out *spool) (missing []cid.Cid, err error) {
	out.header()
	head := v.Head()
	left := map[string]bool{} // what is left to find, by the bytes of the CID
	for _, id := range ids {
		left[id.KeyString()] = true
	}
	if left[head.CID.KeyString()] {
		delete(left, head.CID.KeyString())
		if err := out.block(head.CID, head.Commit); err != nil {
			return nil, err
		}
	}
	if err := findBlocks(v, left, out); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if left[id.KeyString()] {
			missing = append(missing, id)
			delete(left, id.KeyString())
		}
	}
	return missing, nil
}

// errFound ends a search.
var errFound = errors.New("found")

// findBlocks writes the nodes of the tree and the records in left, and takes them out
// of it. There is no index by CID, since every write would have to pay for it:
// findBlocks looks at all nodes, which name the records.
func findBlocks(v View, left map[string]bool, out *spool) error {
	if len(left) == 0 {
		return nil
	}
	err := v.EachNode("", func(_ int64, _ []int64, block []byte) error {
		if id := dagcbor.CID(block); left[id.KeyString()] {
			delete(left, id.KeyString())
			if err := out.block(id, block); err != nil {
				return err
			}
		}
		if err := findRecords(v, block, left, out); err != nil || len(left) > 0 {
			return err
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// findRecords does the same for the records that a node names.
func findRecords(v View, node []byte, left map[string]bool, out *spool) error {
	if !names(node, left) {
		return nil
	}
	n, err := mst.Decode(node)
	if err != nil {
		return err
	}
	for _, e := range n.Entries {
		if !left[e.Value.KeyString()] {
			continue
		}
		delete(left, e.Value.KeyString())
		r, err := v.Record(e.Key)
		if err != nil {
			return fmt.Errorf("record %s: %w", e.Key, err)
		}
		if err := out.block(r.CID, r.Block); err != nil {
			return err
		}
	}
	return nil
}

// names reports whether a node may name any of these CIDs. Nearly no node does, so
// few need to be decoded.
func names(node []byte, ids map[string]bool) bool {
	const length = 4 + sha256.Size
	prefix := []byte{1, cid.DagCBOR, 0x12, sha256.Size} // version 1, SHA-256
	for {
		i := bytes.Index(node, prefix)
		if i < 0 || len(node) < i+length {
			return false
		}
		if ids[string(node[i:i+length])] {
			return true
		}
		node = node[i+1:]
	}
}

const (
	// sweepEvery is how often Sweep looks for something to remove; sweepPause lets
	// others write between two steps.
	sweepEvery = time.Minute
	sweepPause = 20 * time.Millisecond
)

// Sweep removes, in small steps, what no longer belongs to an account, until ctx
// ends.
func (s *Service) Sweep(ctx context.Context) {
	for next := time.Duration(0); pause.For(ctx, next); {
		more, err := s.Store.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "removed repositories not swept", slog.String("cause", err.Error()))
		}
		if next = sweepEvery; more {
			next = sweepPause
		}
	}
}
