package repo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo/mst"
)

// proof writes what shows what the repository says of a key: the commit, the
// nodes on the way to it, and the record, where there is one.
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
	nodes := map[cid.Cid]bool{} // those that are left to find
	seen := map[cid.Cid]bool{}
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		block, err := head.Commit, error(nil)
		if !id.Equals(head.CID) {
			block, err = v.RecordBlock(id)
		}
		switch {
		case err == nil:
			err = out.block(id, block)
		case errors.Is(err, ErrNoRecord):
			nodes[id], err = true, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if err := findNodes(v, nodes, out); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if nodes[id] {
			missing = append(missing, id)
			delete(nodes, id)
		}
	}
	return missing, nil
}

// errFound ends a search.
var errFound = errors.New("found")

// findNodes writes the nodes of the tree that are among ids, and takes them out
// of ids. Nodes have no index by CID, for which every write would have to pay:
// all of them are looked at.
func findNodes(v View, ids map[cid.Cid]bool, out *spool) error {
	if len(ids) == 0 {
		return nil
	}
	err := v.EachNode("", func(_ int64, _ []int64, block []byte) error {
		id := dagcbor.CID(block)
		if !ids[id] {
			return nil
		}
		delete(ids, id)
		if err := out.block(id, block); err != nil || len(ids) > 0 {
			return err
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

const (
	// sweepEvery is how often there is a look at what is to be removed;
	// sweepPause lets others write between two steps.
	sweepEvery = time.Minute
	sweepPause = 20 * time.Millisecond
)

// Sweep removes, in small steps, what belongs to no account any more, until ctx
// ends.
func (s *Service) Sweep(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := s.Store.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "removed repositories not swept", slog.String("cause", err.Error()))
		}
		if more {
			pause(ctx, sweepPause)
		} else {
			pause(ctx, sweepEvery)
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
