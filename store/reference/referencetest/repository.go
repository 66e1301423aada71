package referencetest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

type entry struct {
	key   string
	id    cid.Cid
	block []byte
	rev   syntax.TID
}

// tree returns the root of the tree of entries, and its nodes.
func tree(entries []entry) (cid.Cid, []mst.Changed, error) {
	var nodes []mst.Changed
	b := mst.Builder{Emit: func(n mst.Changed) error { nodes = append(nodes, n); return nil }}
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	for _, e := range sorted {
		if err := b.Add(e.key, e.id); err != nil {
			return cid.Undef, nil, err
		}
	}
	root, err := b.Finish()
	return root.CID, nodes, err
}

// record returns the record number j of an account; blob is what it shows, if that is
// defined.
func record(j int, at time.Time, blob cid.Cid) (key string, value map[string]any) {
	tid := syntax.NewTID(at.UnixMicro()+int64(j), 0).String()
	if j%4 == 1 {
		other := didOf(j).String()
		return "app.bsky.feed.like/" + tid, map[string]any{
			"$type": "app.bsky.feed.like", "createdAt": ISO(at),
			"subject": map[string]any{"uri": "at://" + other + "/app.bsky.feed.post/" + tid, "cid": dagcbor.CID([]byte{0xa0}).String()},
		}
	}
	post := map[string]any{
		"$type": "app.bsky.feed.post", "text": fmt.Sprintf("post %d, and a text of the usual length, or nearly so", j),
		"createdAt": ISO(at),
	}
	if blob.Defined() {
		post["embed"] = map[string]any{"$type": "app.bsky.embed.images", "images": []any{map[string]any{
			"alt": "", "image": map[string]any{"$type": "blob", "ref": blob, "mimeType": "image/png", "size": int64(blobSize)},
		}}}
	}
	return "app.bsky.feed.post/" + tid, post
}

// repository writes an account's own database, its files, and the events about it.
func (s *Source) repository(a *Account, i, records int, made time.Time) error {
	dir := s.ActorDir(a.DID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), a.Key.Bytes(), 0o600); err != nil {
		return err
	}
	path := filepath.Join(dir, "store.sqlite")
	c, err := s.database(path, actorTables)
	if err != nil {
		return err
	}
	if err := sqlitex.ExecuteTransient(c, "BEGIN", nil); err != nil {
		return err
	}
	if i < Special || i%10 == 0 {
		if err := s.blobs(c, a, i); err != nil {
			return err
		}
	}
	if err := s.commits(c, a, i, records, made); err != nil {
		return err
	}
	if i == WithPreferences {
		err = errors.Join(
			run(c, "INSERT INTO account_pref (name, valueJson) VALUES ('app.bsky.actor.defs#adultContentPref', ?)",
				`{"$type":"app.bsky.actor.defs#adultContentPref","enabled":false}`),
			run(c, "INSERT INTO account_pref (name, valueJson) VALUES ('com.example.other', ?)", `{"$type":"com.example.other","n":1}`),
		)
	}
	if err = errors.Join(err, sqlitex.ExecuteTransient(c, "COMMIT", nil)); err != nil || s.leave {
		return err
	}
	delete(s.open, path)
	return c.Close()
}

// commits writes two commits, with half of the records each.
func (s *Source) commits(c *sqlite.Conn, a *Account, i, records int, made time.Time) error {
	revs := []syntax.TID{syntax.NewTID(made.UnixMicro(), 1), syntax.NewTID(made.Add(time.Second).UnixMicro(), 1)}
	public := map[string]any{"did": a.DID.String(), "handle": a.Handle}
	if err := errors.Join(s.event(a.DID, "identity", public, made), s.event(a.DID, "account", map[string]any{
		"did":    a.DID.String(),
		"active": true,
	}, made)); err != nil {
		return err
	}
	var entries []entry
	nodeRev := map[cid.Cid]syntax.TID{}
	var prev cid.Cid
	var nodes []mst.Changed
	for n, rev := range revs {
		first := len(entries)
		for j := n * records / 2; j < (n+1)*records/2; j++ {
			blob := cid.Undef
			if j == 0 {
				blob = a.Blob
			}
			key, value := record(j, made, blob)
			block, err := dagcbor.Encode(value)
			if err != nil {
				return err
			}
			entries = append(entries, entry{key, dagcbor.CID(block), block, rev})
		}
		root, all, err := tree(entries)
		if err != nil {
			return err
		}
		nodes = all
		for _, node := range nodes {
			if _, ok := nodeRev[node.CID]; !ok {
				nodeRev[node.CID] = rev
			}
		}
		commit := &repo.Commit{DID: a.DID, Data: root, Rev: rev}
		if err := commit.Sign(a.Key); err != nil {
			return err
		}
		a.Commit = commit.Encode()
		a.Head, a.Rev = dagcbor.CID(a.Commit), rev
		since := any(nil)
		if n > 0 {
			since = revs[0].String()
		}
		if err := s.commitEvents(a, nodes, entries[first:], since, prev, made.Add(time.Duration(n)*time.Second)); err != nil {
			return err
		}
		prev = root
	}
	for _, e := range entries {
		a.Keys = append(a.Keys, e.key)
	}
	slices.Sort(a.Keys)
	return s.rows(c, a, i, entries, nodes, nodeRev)
}

// commitEvents appends what the source says of a commit. Nodes come before the commit.
func (s *Source) commitEvents(a *Account, nodes []mst.Changed, written []entry, since any, prev cid.Cid, at time.Time) error {
	var blocks bytes.Buffer
	blocks.Write(car.AppendHeader(nil, a.Head))
	for _, n := range nodes {
		blocks.Write(car.AppendBlock(nil, n.CID, n.Block))
	}
	ops := []any{}
	for _, e := range written {
		blocks.Write(car.AppendBlock(nil, e.id, e.block))
		ops = append(ops, map[string]any{"action": "create", "path": e.key, "cid": e.id})
	}
	blocks.Write(car.AppendBlock(nil, a.Head, a.Commit))
	message := map[string]any{
		"repo": a.DID.String(), "commit": a.Head, "rev": a.Rev.String(), "since": since, "blocks": blocks.Bytes(), "ops": ops,
		"rebase": false, "tooBig": false, "blobs": []any{},
	}
	if prev.Defined() {
		message["prevData"] = prev
	}
	if err := s.event(a.DID, "append", message, at); err != nil || since != nil {
		return err
	}
	only := car.AppendBlock(car.AppendHeader(nil, a.Head), a.Head, a.Commit)
	return s.event(a.DID, "sync", map[string]any{"did": a.DID.String(), "rev": a.Rev.String(), "blocks": only}, at)
}

// rows writes the rows of the repository.
func (s *Source) rows(c *sqlite.Conn, a *Account, i int, entries []entry, nodes []mst.Changed, nodeRev map[cid.Cid]syntax.TID) error {
	block := func(id cid.Cid, rev syntax.TID, content []byte) error {
		return run(c, "INSERT INTO repo_block VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", id.String(), rev.String(), len(content), content)
	}
	err := errors.Join(block(a.Head, a.Rev, a.Commit), run(c, "INSERT INTO repo_root VALUES (?, ?, ?, ?)", a.DID.String(), a.Head.String(),
		a.Rev.String(), ISO(s.now)))
	for _, n := range nodes {
		err = errors.Join(err, block(n.CID, nodeRev[n.CID], n.Block))
	}
	for j, e := range entries {
		collection, rkey, _ := strings.Cut(e.key, "/")
		takedown := any(nil)
		if i == Quarantined && j == 0 {
			takedown = "case-1"
		}
		err = errors.Join(err, block(e.id, e.rev, e.block), run(c, "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)",
			"at://"+a.DID.String()+"/"+e.key, e.id.String(), collection, rkey, e.rev.String(), ISO(s.now), takedown))
	}
	return err
}

// blobSize is that of each blob, in bytes.
const blobSize = 2000

// blobs writes one blob that a record refers to, and one that none does yet.
func (s *Source) blobs(c *sqlite.Conn, a *Account, i int) error {
	content := func(what string) (cid.Cid, []byte) {
		sum := sha256.Sum256([]byte(what + a.DID.String()))
		b := bytes.Repeat(sum[:], blobSize/len(sum)+1)[:blobSize]
		return dagcbor.RawCID(sha256.Sum256(b)), b
	}
	write := func(dir, name string, b []byte) error {
		dir = filepath.Join(dir, a.DID.String())
		return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	var used, temp []byte
	a.Blob, used = content("used")
	a.TempBlob, temp = content("temporary")
	tempKey := strings.Repeat("k", 51) + "a"
	dir, takedown := s.Blobs(), any(nil)
	if i == Quarantined {
		dir, takedown = filepath.Join(s.Blobs(), "quarantine"), ISO(s.now.Add(-time.Hour))
	}
	return errors.Join(
		write(dir, a.Blob.String(), used),
		write(filepath.Join(s.Blobs(), "tempt"), tempKey, temp),
		write(filepath.Join(s.Blobs(), "tempt"), "leftover", temp),
		run(c, "INSERT INTO blob VALUES (?, 'image/png', ?, NULL, NULL, NULL, ?, ?)", a.Blob.String(), blobSize, ISO(s.now.Add(-time.Hour)),
			takedown),
		run(c, "INSERT INTO blob VALUES (?, 'image/png', ?, ?, NULL, NULL, ?, NULL)", a.TempBlob.String(), blobSize, tempKey,
			ISO(s.now.Add(-25*time.Hour))),
	)
}

// Change runs SQL on a database of the source, by its path below the source's folder, as a
// running server would have: it is closed and has no log then.
func (s *Source) Change(path, sql string) error {
	c, err := sqlite.OpenConn(filepath.Join(s.Dir, path), sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	return errors.Join(sqlitex.ExecuteScript(c, sql, nil), c.Close())
}

// Hold opens a database as a running server has it open.
func Hold(path string) (io.Closer, error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	return c, sqlitex.ExecuteTransient(c, "SELECT count(*) FROM sqlite_schema", nil)
}

// Store returns the path of an account's database below the source's folder.
func (s *Source) Store(a *Account) string {
	rel, err := filepath.Rel(s.Dir, filepath.Join(s.ActorDir(a.DID), "store.sqlite"))
	if err != nil {
		panic(err) // it is below
	}
	return rel
}
