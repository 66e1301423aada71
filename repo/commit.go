package repo

import (
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

// commitVersion is the only version of the repository format that exists today.
const commitVersion = 3

// Errors of commits.
var (
	// ErrCommit: a block is not a commit of version 3 in canonical form; the text gives
	// the reason.
	ErrCommit = errors.New("malformed commit")
	// ErrSignature: a commit is not signed by the given key.
	ErrSignature = errors.New("commit is not signed by the account's key")
)

// Commit is a signed root of a repository
// (https://atproto.com/specs/repository#commit-objects). It has no link to the
// previous commit: prev is null, as the specification recommends.
type Commit struct {
	DID syntax.DID
	// Data is the root of the tree.
	Data cid.Cid
	Rev  syntax.TID
	// Sig is the signature, 64 bytes.
	Sig []byte

	// prev is the prev of a foreign commit; the signature covers it.
	prev cid.Cid
}

// Sign signs the commit.
func (c *Commit) Sign(key atcrypto.PrivateKey) error {
	sig, err := key.HashAndSign(c.encode(false))
	if err != nil {
		return fmt.Errorf("sign commit: %w", err)
	}
	c.Sig = sig
	return nil
}

// Verify returns ErrSignature unless key signed the commit.
func (c *Commit) Verify(key atcrypto.PublicKey) error {
	if err := key.HashAndVerify(c.encode(false), c.Sig); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// Encode returns the block of a signed commit.
func (c *Commit) Encode() []byte { return c.encode(true) }

func (c *Commit) encode(signed bool) []byte {
	fields := 5
	if signed {
		fields = 6
	}
	dst := dagcbor.AppendMapHead(make([]byte, 0, 256), fields)
	dst = dagcbor.AppendText(dst, "did")
	dst = dagcbor.AppendText(dst, c.DID.String())
	dst = dagcbor.AppendText(dst, "rev")
	dst = dagcbor.AppendText(dst, c.Rev.String())
	if signed {
		dst = dagcbor.AppendText(dst, "sig")
		dst = dagcbor.AppendBytes(dst, c.Sig)
	}
	dst = dagcbor.AppendText(dst, "data")
	dst = dagcbor.AppendLink(dst, c.Data)
	dst = dagcbor.AppendText(dst, "prev")
	if c.prev.Defined() {
		dst = dagcbor.AppendLink(dst, c.prev)
	} else {
		dst = dagcbor.AppendNull(dst)
	}
	dst = dagcbor.AppendText(dst, "version")
	return dagcbor.AppendInt(dst, commitVersion)
}

// DecodeCommit reads the block of a signed commit. It does not verify the signature.
// Errors: ErrCommit, dagcbor.ErrForm.
func DecodeCommit(block []byte) (*Commit, error) {
	r := dagcbor.NewReader(block)
	if n := r.Map(); r.Err() == nil && n != 6 {
		return nil, fmt.Errorf("%w: %d fields", ErrCommit, n)
	}
	c := &Commit{}
	r.Field("did")
	did := r.Text()
	r.Field("rev")
	rev := r.Text()
	r.Field("sig")
	c.Sig = append([]byte{}, r.Bytes()...)
	r.Field("data")
	c.Data = r.Link()
	r.Field("prev")
	if !r.Null() {
		c.prev = r.Link()
	}
	r.Field("version")
	version := r.Int()
	r.End()
	if err := r.Err(); err != nil {
		return nil, err
	}
	var err error
	if c.DID, err = syntax.ParseDID(did); err != nil {
		return nil, fmt.Errorf("%w: did: %w", ErrCommit, err)
	}
	if c.Rev, err = syntax.ParseTID(rev); err != nil {
		return nil, fmt.Errorf("%w: rev: %w", ErrCommit, err)
	}
	switch {
	case version != commitVersion:
		return nil, fmt.Errorf("%w: version %d", ErrCommit, version)
	case !dagcbor.IsBlockCID(c.Data):
		return nil, fmt.Errorf("%w: data %s is no tree", ErrCommit, c.Data)
	case len(c.Sig) != 64:
		return nil, fmt.Errorf("%w: signature of %d bytes", ErrCommit, len(c.Sig))
	}
	return c, nil
}
