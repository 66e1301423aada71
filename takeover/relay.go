package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
)

// Relay has copies of repositories: a relay, or another host that keeps them.
type Relay interface {
	// Repo returns the repository of an account as a CAR file. The caller closes it.
	Repo(ctx context.Context, did syntax.DID) (io.ReadCloser, error)
	// String names the host.
	String() string
}

// Remains are what is left of an account whose own database is damaged or gone.
type Remains struct {
	// Key is the private signing key.
	Key   []byte
	State State
	// Records are the rows of records, Blobs those of blobs, and Preferences the preferences.
	// Those that cannot be read are named in Lost.
	Records     []Record
	Blobs       []BlobFile
	Preferences []string
	Lost        []string
}

// maxFetched bounds the blocks of a repository that is fetched, in bytes: they are held in
// memory.
const maxFetched = 1 << 30

// errFetched: see maxFetched.
var errFetched = fmt.Errorf("it has more than %d MiB", maxFetched>>20)

// fetched implements Actor: a repository from a relay, and what remains beside it.
type fetched struct {
	remains Remains
	root    Root
	blocks  map[string][]byte // by the bytes of their CIDs
}

var _ Actor = (*fetched)(nil)

// Key implements Actor.
func (f *fetched) Key() ([]byte, error) { return f.remains.Key, nil }

// Root implements Actor.
func (f *fetched) Root() (Root, error) { return f.root, nil }

// Records implements Actor.
func (f *fetched) Records() ([]Record, error) { return f.remains.Records, nil }

// Block implements Actor. Which revision wrote it is not known.
func (f *fetched) Block(id cid.Cid) (block []byte, rev syntax.TID, ok bool, err error) {
	block, ok = f.blocks[id.KeyString()]
	return block, "", ok, nil
}

// Blobs implements Actor.
func (f *fetched) Blobs() ([]BlobFile, error) { return f.remains.Blobs, nil }

// Preferences implements Actor.
func (f *fetched) Preferences() ([]string, error) { return f.remains.Preferences, nil }

// State implements Actor.
func (f *fetched) State() State { return f.remains.State }

// Moved implements Actor.
func (f *fetched) Moved() (bool, error) { return false, nil }

// Intact implements Actor.
func (f *fetched) Intact() error { return nil }

// Close implements Actor.
func (f *fetched) Close() error { return nil }

// read reads a CAR file.
func (f *fetched) read(r io.Reader) error {
	file, err := car.NewReader(r)
	if err != nil {
		return err
	}
	if len(file.Roots()) != 1 {
		return fmt.Errorf("%w: it has %d roots", car.ErrForm, len(file.Roots()))
	}
	f.root.CID, f.blocks = file.Roots()[0], map[string][]byte{}
	size := 0
	for {
		b, err := file.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if size += len(b.Data); size > maxFetched {
			return errFetched
		}
		f.blocks[b.CID.KeyString()] = b.Data
	}
	commit, err := repo.DecodeCommit(f.blocks[f.root.CID.KeyString()])
	if err != nil {
		return fmt.Errorf("its commit: %w", err)
	}
	f.root.Rev = commit.Rev
	return nil
}

// rescue takes an account over whose own database is damaged, with the repository of a relay:
// the key that the source has must have signed it. damage is why.
func (t *TakeOver) rescue(ctx context.Context, q queued, damage error, w *work) error {
	did := q.row.DID
	fail := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return Faulty(fmt.Sprintf("%v; and the repository from %s was not taken: %v", damage, t.Relay, err), skipIt(did))
	}
	remains, err := t.Source.Remains(ctx, did)
	if IsDamaged(err) {
		return fail(err)
	}
	if err != nil {
		return err
	}
	t.fetching.Lock() // one is in memory at a time
	defer t.fetching.Unlock()
	body, err := t.Relay.Repo(ctx, did)
	if err != nil {
		return fail(err)
	}
	f := &fetched{remains: remains}
	if err := errors.Join(f.read(body), body.Close()); err != nil {
		return fail(err)
	}
	if newest := max(q.said.root, q.said.event); !q.said.force && isTID(newest.String()) && newest > f.root.Rev {
		return fail(fmt.Errorf("%w %s, and the old server has written the newer %s: name a host with a newer copy, or use --force",
			errStale, f.root.Rev, newest))
	}
	if remains.Blobs == nil {
		f.remains.Blobs = t.referred(did, f.blocks)
	}
	w.begin()
	p := &proof{queued: q, actor: f, derive: w.derive}
	if _, err := t.take(ctx, p, w); err != nil {
		if IsDamaged(err) {
			return fail(err)
		}
		return err
	}
	p.lagged = false
	for _, lost := range remains.Lost {
		w.remark("%s: its %s could not be read, and are lost", did, lost)
	}
	w.end(p)
	w.report.rescued(did)
	return nil
}

// errStale: see rescue.
var errStale = errors.New("it is at revision")

// fetching is the lock of TakeOver.rescue.
type fetching struct{ sync.Mutex }

// referred returns the blobs that records refer to, by what each record says of them.
func (t *TakeOver) referred(did syntax.DID, blocks map[string][]byte) (out []BlobFile) {
	seen := map[string]bool{}
	for _, block := range blocks {
		v, err := dagcbor.Decode(block)
		if err != nil {
			continue // the blobs of a damaged record do not matter: it is found out later
		}
		eachBlob(v, func(id cid.Cid, mimeType string, size int64) {
			if text := id.String(); !seen[text] {
				seen[text] = true
				out = append(out, BlobFile{CID: text, MimeType: mimeType, Size: size, Paths: t.Source.BlobPaths(did, text)})
			}
		})
	}
	return out
}

// eachBlob calls yield for each blob that a value of the data model refers to
// (https://atproto.com/specs/data-model#blob-type).
func eachBlob(v any, yield func(id cid.Cid, mimeType string, size int64)) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			eachBlob(one, yield)
		}
	case map[string]any:
		if id, ok := v["ref"].(cid.Cid); ok && v["$type"] == "blob" {
			mimeType, _ := v["mimeType"].(string)
			size, _ := v["size"].(int64)
			yield(id, mimeType, size)
			return
		}
		for _, one := range v {
			eachBlob(one, yield)
		}
	}
}
