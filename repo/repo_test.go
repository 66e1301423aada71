package repo_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

const did = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")

func signed(t *testing.T, key atcrypto.PrivateKey, data cid.Cid) *repo.Commit {
	t.Helper()
	c := &repo.Commit{DID: did, Data: data, Rev: repo.NextTID(time.UnixMicro(1_700_000_000_000_000), 7, "")}
	if err := c.Sign(key); err != nil {
		t.Fatal(err)
	}
	return c
}

func keys(t *testing.T) (atcrypto.PrivateKey, atcrypto.PublicKey) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func TestCommit(t *testing.T) {
	key, public := keys(t)
	_, other := keys(t)
	c := signed(t, key, mst.NewTree(0).Flush().Root.CID)
	got, err := repo.DecodeCommit(c.Encode())
	if err != nil || got.DID != c.DID || got.Rev != c.Rev || got.Data != c.Data || !bytes.Equal(got.Sig, c.Sig) {
		t.Fatalf("%+v, %v; want %+v", got, err, c)
	}
	if err := got.Verify(public); err != nil {
		t.Error(err)
	}
	if err := got.Verify(other); !errors.Is(err, repo.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	for name, change := range map[string]func(*repo.Commit){
		"did":  func(c *repo.Commit) { c.DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" },
		"rev":  func(c *repo.Commit) { c.Rev = repo.NextTID(time.Now(), 0, c.Rev) },
		"data": func(c *repo.Commit) { c.Data = dagcbor.CID(nil) },
		"sig":  func(c *repo.Commit) { c.Sig[3] ^= 1 },
	} {
		changed := *got
		changed.Sig = bytes.Clone(got.Sig)
		change(&changed)
		if err := changed.Verify(public); !errors.Is(err, repo.ErrSignature) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

// TestIndigoReadsOurs: another implementation reads and verifies a repository of
// ours.
func TestIndigoReadsOurs(t *testing.T) {
	key, public := keys(t)
	tree := mst.NewTree(0)
	blocks := map[cid.Cid][]byte{}
	for i := range 100 {
		record, err := dagcbor.Encode(map[string]any{"$type": "com.example.record", "n": i})
		if err != nil {
			t.Fatal(err)
		}
		id := dagcbor.CID(record)
		blocks[id] = record
		rkey := repo.NextTID(time.UnixMilli(int64(i)), 1, "")
		if err := tree.Create("com.example.record/"+rkey.String(), id); err != nil {
			t.Fatal(err)
		}
	}
	d := tree.Flush()
	for _, n := range d.Changed {
		blocks[n.CID] = n.Block
	}
	commit := signed(t, key, d.Root.CID).Encode()
	root := dagcbor.CID(commit)
	file := car.AppendBlock(car.AppendHeader(nil, root), root, commit)
	for id, b := range blocks {
		file = car.AppendBlock(file, id, b)
	}
	c, r, err := indigo.LoadRepoFromCAR(t.Context(), bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.VerifyStructure(); err != nil {
		t.Error(err)
	}
	if err := c.VerifySignature(public); err != nil {
		t.Error(err)
	}
	if got, err := r.MST.RootCID(); err != nil || *got != d.Root.CID {
		t.Errorf("root %v, %v; want %s", got, err, d.Root.CID)
	}
	found := 0
	err = r.MST.Walk(func([]byte, cid.Cid) error { found++; return nil })
	if err != nil || found != 100 {
		t.Errorf("%d records, %v", found, err)
	}
}

func TestDecodeCommitRefuses(t *testing.T) {
	data := dagcbor.CID(nil)
	good := func() map[string]any {
		return map[string]any{"did": did.String(), "rev": "3jzfcijpj2z2a", "sig": make([]byte, 64), "data": data, "prev": nil, "version": 3}
	}
	if b, err := dagcbor.Encode(good()); err != nil {
		t.Fatal(err)
	} else if c, err := repo.DecodeCommit(b); err != nil || !bytes.Equal(c.Encode(), b) {
		t.Fatalf("%+v, %v", c, err)
	}
	withPrev := good()
	withPrev["prev"] = data
	if b, err := dagcbor.Encode(withPrev); err != nil {
		t.Fatal(err)
	} else if c, err := repo.DecodeCommit(b); err != nil || !bytes.Equal(c.Encode(), b) {
		t.Errorf("a commit with prev does not come back: %v", err)
	}
	for name, change := range map[string]func(map[string]any){
		"version 2":         func(m map[string]any) { m["version"] = 2 },
		"version as text":   func(m map[string]any) { m["version"] = "3" },
		"no signature":      func(m map[string]any) { delete(m, "sig") },
		"short signature":   func(m map[string]any) { m["sig"] = make([]byte, 63) },
		"no prev":           func(m map[string]any) { delete(m, "prev") },
		"prev as text":      func(m map[string]any) { m["prev"] = "x" },
		"no DID":            func(m map[string]any) { m["did"] = "x" },
		"no TID":            func(m map[string]any) { m["rev"] = "x" },
		"data of a blob":    func(m map[string]any) { m["data"] = dagcbor.RawCID([32]byte{}) },
		"field too many":    func(m map[string]any) { m["x"] = 1 },
		"another field":     func(m map[string]any) { delete(m, "prev"); m["next"] = nil },
		"data that is null": func(m map[string]any) { m["data"] = nil },
	} {
		m := good()
		change(m)
		b, err := dagcbor.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := repo.DecodeCommit(b); !errors.Is(err, repo.ErrCommit) && !errors.Is(err, dagcbor.ErrForm) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestNextTID: revisions ascend, whatever the clock does.
func TestNextTID(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	now, last := time.UnixMicro(1_700_000_000_000_000), syntax.TID("")
	var all []syntax.TID
	for range 10_000 {
		now = now.Add(time.Duration(rnd.IntN(2001)-1000) * time.Microsecond)
		next := repo.NextTID(now, uint(rnd.IntN(1024)), last)
		if _, err := syntax.ParseTID(next.String()); err != nil {
			t.Fatal(err)
		}
		if next <= last {
			t.Fatalf("%s after %s", next, last)
		}
		last = next
		all = append(all, next)
	}
	if !slices.IsSorted(all) {
		t.Error("TIDs are not sorted")
	}
	if at := repo.NextTID(now, 3, ""); at.Time() != now.UTC() || at.ClockID() != 3 {
		t.Errorf("%s is of %s and clock %d", at, at.Time(), at.ClockID())
	}
}

func FuzzDecodeCommit(f *testing.F) {
	for _, seed := range []map[string]any{
		{"did": did.String(), "rev": "3jzfcijpj2z2a", "sig": make([]byte, 64), "data": dagcbor.CID(nil), "prev": nil, "version": 3},
		{"did": did.String(), "rev": "3jzfcijpj2z2a", "sig": make([]byte, 64), "data": dagcbor.CID(nil), "prev": dagcbor.CID(nil), "version": 3},
	} {
		b, err := dagcbor.Encode(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := repo.DecodeCommit(b)
		if err == nil && !bytes.Equal(c.Encode(), b) {
			t.Errorf("%s came back as %s", hex.EncodeToString(b), hex.EncodeToString(c.Encode()))
		}
	})
}

func BenchmarkSign(b *testing.B) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		b.Fatal(err)
	}
	c := &repo.Commit{DID: did, Data: dagcbor.CID(nil), Rev: "3jzfcijpj2z2a"}
	for b.Loop() {
		if err := c.Sign(key); err != nil {
			b.Fatal(err)
		}
	}
}
