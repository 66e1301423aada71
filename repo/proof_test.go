package repo_test

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
)

// proof returns the answer of com.atproto.sync.getRecord.
func (p *person) proof(collection, rkey string) []byte {
	p.w.t.Helper()
	rec := httptest.NewRecorder()
	err := p.w.GetProof(p.w.t.Context(), auth.Viewer{}, repo.GetProofParams{DID: p.did.String(), Collection: collection, RKey: rkey}, rec, nil)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return rec.Body.Bytes()
}

// TestProven: what another server answers with proves a record, and nothing else does.
func TestProven(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.person("alice"), w.person("bob")
	for i := range 50 {
		alice.mustCreate(foo, new("k"+strings.Repeat("x", i+1)), `{"n":1}`)
	}
	made := alice.mustCreate(foo, new("k"), `{"n":2}`)
	key := foo + "/k"
	file := alice.proof(foo, "k")
	signer := alice.public.DIDKey()
	r, err := repo.Proven(file, alice.did, signer, key)
	if err != nil || r.CID.String() != made.CID || r.Key != key || dagcbor.CID(r.Block).String() != made.CID {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := repo.Proven(alice.export(), alice.did, signer, key); err != nil || r.CID.String() != made.CID {
		t.Errorf("a whole export: %+v, %v", r, err)
	}
	if _, err := repo.Proven(alice.proof(foo, "none"), alice.did, signer, foo+"/none"); !errors.Is(err, repo.ErrNoRecord) {
		t.Errorf("a proof that there is no record: %v", err)
	}

	p256, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	other, err := p256.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	root, blocks := readBlocks(t, file)
	without := func(drop func(b car.Block) bool) []byte {
		out := car.AppendHeader(nil, root)
		for _, b := range blocks {
			if !drop(b) {
				out = car.AppendBlock(out, b.CID, b.Data)
			}
		}
		return out
	}
	for _, c := range []struct {
		name   string
		file   []byte
		did    syntax.DID
		signer string
	}{
		{"of another account", file, bob.did, signer},
		{"by another account's key", file, alice.did, bob.public.DIDKey()},
		{"by a key of another kind", file, alice.did, other.DIDKey()},
		{"no key", file, alice.did, "did:key:zQ3"},
		{"empty", nil, alice.did, signer},
		{"no root", car.AppendHeader(nil), alice.did, signer},
		{"cut off", file[:len(file)-1], alice.did, signer},
		{"without its commit", without(func(b car.Block) bool { return b.CID == root }), alice.did, signer},
		{"without its record", without(func(b car.Block) bool { return b.CID == r.CID }), alice.did, signer},
		{"without its tree", without(func(b car.Block) bool { return b.CID != root && b.CID != r.CID }), alice.did, signer},
		{"a root that is a record", append(car.AppendHeader(nil, r.CID), car.AppendBlock(nil, r.CID, r.Block)...), alice.did, signer},
		{"of an older record", bytes.Replace(file, r.Block, bytes.Replace(r.Block, []byte{2}, []byte{1}, 1), 1), alice.did, signer},
	} {
		if r, err := repo.Proven(c.file, c.did, c.signer, key); !errors.Is(err, repo.ErrProof) {
			t.Errorf("%s: %+v, %v, want ErrProof", c.name, r, err)
		}
	}
}

func readBlocks(t *testing.T, file []byte) (root cid.Cid, blocks []car.Block) {
	t.Helper()
	r, err := car.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Roots()[0], blocks
		}
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
}

// FuzzProven: no file panics, or proves a record that its signer did not write.
func FuzzProven(f *testing.F) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		f.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	commit := repo.Commit{DID: "did:plc:alice", Data: dagcbor.CID(nil), Rev: "3l3qo2vuowo2b"}
	if err := commit.Sign(key); err != nil {
		f.Fatal(err)
	}
	block := commit.Encode()
	f.Add(car.AppendBlock(car.AppendHeader(nil, dagcbor.CID(block)), dagcbor.CID(block), block))
	f.Fuzz(func(t *testing.T, file []byte) {
		if r, err := repo.Proven(file, "did:plc:alice", public.DIDKey(), foo+"/k"); err == nil {
			t.Fatalf("%+v is proven", r)
		}
	})
}
