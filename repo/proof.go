package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// ErrProof: a CAR file does not prove what it should. The text gives the reason.
var ErrProof = errors.New("not proven")

// Proven returns the record of a key (collection/rkey) from a CAR file, as
// com.atproto.sync.getRecord answers with, if that proves the record to be in the
// repository of a DID: by nodes of the tree that lead to it, below a commit that the
// signer (did:key) signed. The file is foreign, and held in memory.
// Errors: ErrProof, ErrNoRecord if the file proves that there is no such record.
func Proven(file []byte, did syntax.DID, signer, key string) (Record, error) {
	root, blocks, err := readProof(file)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	commit, err := DecodeCommit(blocks[root])
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	public, err := atcrypto.ParsePublicDIDKey(signer)
	if err != nil {
		return Record{}, fmt.Errorf("%w: signing key: %w", ErrProof, err)
	}
	if commit.DID != did {
		return Record{}, fmt.Errorf("%w: the commit is of another repository", ErrProof)
	}
	if err := commit.Verify(public); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	tree, err := mst.Open(mst.Link{CID: commit.Data}, 0, func(l *mst.Link) (*mst.Node, error) {
		block, ok := blocks[l.CID]
		if !ok {
			return nil, fmt.Errorf("the file lacks node %s", l.CID)
		}
		return mst.Decode(block)
	})
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	id, err := tree.Get(key)
	if errors.Is(err, mst.ErrNotFound) {
		return Record{}, ErrNoRecord
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	block, ok := blocks[id]
	if !ok {
		return Record{}, fmt.Errorf("%w: the file lacks the record %s", ErrProof, id)
	}
	return Record{Key: key, CID: id, Block: block}, nil
}

// readProof returns the blocks of a file by their CIDs, and its root.
func readProof(file []byte) (root cid.Cid, blocks map[cid.Cid][]byte, err error) {
	r, err := car.NewReader(bytes.NewReader(file))
	if err != nil {
		return cid.Undef, nil, err
	}
	if len(r.Roots()) == 0 {
		return cid.Undef, nil, errors.New("the file has no root")
	}
	blocks = map[cid.Cid][]byte{}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Roots()[0], blocks, nil
		}
		if err != nil {
			return cid.Undef, nil, err
		}
		blocks[b.CID] = b.Data
	}
}
