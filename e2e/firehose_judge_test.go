package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/identity"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	lexutil "github.com/bluesky-social/indigo/lex/util"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car"
	cbg "github.com/whyrusleeping/cbor-gen"

	"nestbox/dagcbor"
)

// The limits of a commit event, from its Lexicon.
const (
	maxEventOps    = 200
	maxEventBlocks = 2_000_000
)

// judge follows an event stream and believes only what is proven. indigo's code
// checks the proofs: signatures, trees, the inversion of operations
// (https://atproto.com/specs/sync).
type judge struct {
	dir identity.Directory
	// seq is of the last event; skipped is the last number that was left out,
	// deleted that of the last account's deletion.
	seq, skipped, deleted int64
	// frames are the events' bytes by number: a repeated event must be equal.
	frames map[int64][sha256.Size]byte
	repos  map[string]*judgedRepo
	// of is whose event each number is.
	of map[int64]*judgedRepo
	// kinds counts the events, and of each kind of commit.
	kinds map[string]int
}

// judgedRepo is what the stream has shown about one account.
type judgedRepo struct {
	key          atcrypto.PublicKey
	rev          string
	commit, data cid.Cid
	commits      []cid.Cid // all of them
	status       string    // of the last #account; empty: active
	records      map[string]cid.Cid
	last         int64 // number of the last event
	// unknown is set by a #sync to a tree that no operations lead to.
	unknown bool
}

func newJudge(plc string) *judge {
	slog.SetLogLoggerLevel(slog.LevelWarn) // indigo logs of each first commit that it has no commit before it
	return &judge{
		dir:    &identity.BaseDirectory{PLCURL: plc, SkipHandleVerification: true},
		frames: map[int64][sha256.Size]byte{}, repos: map[string]*judgedRepo{}, of: map[int64]*judgedRepo{}, kinds: map[string]int{},
	}
}

// message is a kind of event as indigo reads and writes it.
type message interface {
	cbg.CBORMarshaler
	cbg.CBORUnmarshaler
}

// readFrame reads an event's frame, which must be what indigo writes of it.
func readFrame(frame []byte) (kind string, m message, err error) {
	for kind, m := range map[string]message{
		"#commit":   &comatproto.SyncSubscribeRepos_Commit{},
		"#sync":     &comatproto.SyncSubscribeRepos_Sync{},
		"#identity": &comatproto.SyncSubscribeRepos_Identity{},
		"#account":  &comatproto.SyncSubscribeRepos_Account{},
	} {
		header, err := dagcbor.Encode(map[string]any{"op": int64(1), "t": kind})
		if err != nil {
			return "", nil, err
		}
		body, ok := bytes.CutPrefix(frame, header)
		if !ok {
			continue
		}
		if err := m.UnmarshalCBOR(bytes.NewReader(body)); err != nil {
			return "", nil, fmt.Errorf("read %s: %w", kind, err)
		}
		var again bytes.Buffer
		if err := m.MarshalCBOR(&again); err != nil || !bytes.Equal(again.Bytes(), body) {
			return "", nil, fmt.Errorf("%s is not what indigo writes of it (%w): %x", kind, err, body)
		}
		return kind, m, nil
	}
	return "", nil, fmt.Errorf("no frame of an event: %x", frame[:min(len(frame), 200)])
}

// take judges one frame, which must be the next.
func (j *judge) take(ctx context.Context, frame []byte) error {
	kind, m, err := readFrame(frame)
	if err != nil {
		return err
	}
	j.kinds[kind]++
	if err := j.message(ctx, m, sha256.Sum256(frame)); err != nil {
		return fmt.Errorf("%s after %d: %w", kind, j.seq, err)
	}
	return nil
}

func (j *judge) message(ctx context.Context, m message, sum [sha256.Size]byte) error {
	var seq int64
	var did, at string
	var check func(r *judgedRepo) error
	switch m := m.(type) {
	case *comatproto.SyncSubscribeRepos_Commit:
		seq, did, at = m.Seq, m.Repo, m.Time
		check = func(r *judgedRepo) error { return j.commit(ctx, r, m) }
	case *comatproto.SyncSubscribeRepos_Sync:
		seq, did, at = m.Seq, m.Did, m.Time
		check = func(r *judgedRepo) error { return r.sync(ctx, m) }
	case *comatproto.SyncSubscribeRepos_Identity:
		seq, did, at = m.Seq, m.Did, m.Time
		check = func(*judgedRepo) error { return checkIdentity(m) }
	case *comatproto.SyncSubscribeRepos_Account:
		seq, did, at = m.Seq, m.Did, m.Time
		check = func(r *judgedRepo) error { return r.account(m) }
	}
	switch {
	case seq <= j.seq:
		return fmt.Errorf("number %d follows %d", seq, j.seq)
	case seq > j.seq+1:
		j.skipped = seq - 1
	}
	j.seq, j.frames[seq] = seq, sum
	if _, err := syntax.ParseDatetime(at); err != nil {
		return err
	}
	r, err := j.repo(ctx, did)
	if err != nil {
		return err
	}
	if r.status == "deleted" {
		return fmt.Errorf("%s was deleted", did)
	}
	r.last, j.of[seq] = seq, r
	if err := check(r); err != nil {
		return err
	}
	if r.status == "deleted" {
		j.deleted = seq
	}
	return nil
}

// removed notes that an event is not sent any more, since its account was
// deleted, perhaps before the event was seen.
func (j *judge) removed(seq int64) bool {
	r := j.of[seq]
	return r == nil && seq <= j.skipped || r != nil && r.status == "deleted" && seq < r.last
}

// gap notes that a number was left out that belongs to no account that was
// deleted later. If the account was not deleted, the chain of its commits shows
// it too.
func (j *judge) gap() error {
	if j.skipped > j.deleted {
		return fmt.Errorf("number %d was left out, and no account was deleted after it", j.skipped)
	}
	return nil
}

// repo is what is known of an account; its key is that of its DID document.
func (j *judge) repo(ctx context.Context, did string) (*judgedRepo, error) {
	if r := j.repos[did]; r != nil {
		return r, nil
	}
	ident, err := j.dir.LookupDID(ctx, syntax.DID(did))
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", did, err)
	}
	key, err := ident.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", did, err)
	}
	r := &judgedRepo{key: key, records: map[string]cid.Cid{}}
	j.repos[did] = r
	return r, nil
}

func (j *judge) commit(ctx context.Context, r *judgedRepo, m *comatproto.SyncSubscribeRepos_Commit) error {
	if r.status != "" {
		return fmt.Errorf("a commit of a repository that is %s", r.status)
	}
	if len(m.Ops) > maxEventOps || len(m.Blocks) > maxEventBlocks || m.TooBig || m.Rebase || len(m.Blobs) != 0 {
		return fmt.Errorf("%d operations, %d bytes, too big %v, rebase %v, %d blobs", len(m.Ops), len(m.Blocks), m.TooBig, m.Rebase, len(m.Blobs))
	}
	blocks, err := readBlocks(m.Blocks)
	if err != nil {
		return err
	}
	commit, id, err := r.signed(ctx, m.Blocks, m.Repo, m.Rev)
	if err != nil {
		return err
	}
	if id != cid.Cid(m.Commit) {
		return fmt.Errorf("commit %s in an event of %s", id, m.Commit)
	}
	if m.Rev <= r.rev {
		return fmt.Errorf("rev %s after %s", m.Rev, r.rev)
	}
	if r.rev == "" {
		if m.Since != nil || m.PrevData != nil {
			return errors.New("a first commit that says what came before")
		}
	} else if m.Since == nil || *m.Since != r.rev || m.PrevData == nil || cid.Cid(*m.PrevData) != r.data {
		return fmt.Errorf("since %v, prevData %v after rev %s, data %s", m.Since, m.PrevData, r.rev, r.data)
	}
	for _, op := range m.Ops {
		if err := r.apply(op, blocks); err != nil {
			return err
		}
		j.kinds[op.Action]++
	}
	// Loads the records that were written out of the tree, inverts the
	// operations, and compares with prevData.
	if _, err := indigorepo.VerifyCommitMessage(ctx, m); err != nil {
		return err
	}
	r.rev, r.commit, r.data = m.Rev, id, commit.Data
	r.commits = append(r.commits, id)
	return nil
}

// apply follows one operation.
func (r *judgedRepo) apply(op *comatproto.SyncSubscribeRepos_RepoOp, blocks map[cid.Cid][]byte) error {
	was, there := r.records[op.Path]
	is := func(link *lexutil.LexLink) bool { return link != nil && cid.Cid(*link) == was }
	switch {
	case r.unknown:
		return errors.New("operations after a #sync of an unknown tree: the test must read it again")
	case op.Action == "create" && !there && op.Prev == nil && op.Cid != nil,
		op.Action == "update" && there && is(op.Prev) && op.Cid != nil && !is(op.Cid):
		if blocks[cid.Cid(*op.Cid)] == nil {
			return fmt.Errorf("record %s of %s is not in the event", op.Cid, op.Path)
		}
		r.records[op.Path] = cid.Cid(*op.Cid)
	case op.Action == "delete" && there && is(op.Prev) && op.Cid == nil:
		delete(r.records, op.Path)
	default:
		return fmt.Errorf("%s of %s to %v, before %v; it is %v", op.Action, op.Path, op.Cid, op.Prev, was)
	}
	return nil
}

// signed reads the commit of a CAR and compares it with the event.
func (r *judgedRepo) signed(ctx context.Context, blocks []byte, did, rev string) (*indigorepo.Commit, cid.Cid, error) {
	commit, id, err := indigorepo.LoadCommitFromCAR(ctx, bytes.NewReader(blocks))
	if err != nil {
		return nil, cid.Undef, err
	}
	if err := errors.Join(commit.VerifyStructure(), commit.VerifySignature(r.key)); err != nil {
		return nil, cid.Undef, err
	}
	if commit.DID != did || commit.Rev != rev {
		return nil, cid.Undef, fmt.Errorf("commit of %s at %s in an event of %s at %s", commit.DID, commit.Rev, did, rev)
	}
	return commit, *id, nil
}

func (r *judgedRepo) sync(ctx context.Context, m *comatproto.SyncSubscribeRepos_Sync) error {
	blocks, err := readBlocks(m.Blocks)
	if err != nil {
		return err
	}
	commit, id, err := r.signed(ctx, m.Blocks, m.Did, m.Rev)
	if err != nil {
		return err
	}
	if len(blocks) != 1 || blocks[id] == nil || r.status != "" || m.Rev < r.rev {
		return fmt.Errorf("#sync of %d blocks to %s of an account that is %q, at %s", len(blocks), m.Rev, r.status, r.rev)
	}
	r.unknown = r.unknown || commit.Data != r.data
	r.rev, r.commit, r.data = m.Rev, id, commit.Data
	return nil
}

func checkIdentity(m *comatproto.SyncSubscribeRepos_Identity) error {
	if m.Handle == nil {
		return nil
	}
	_, err := syntax.ParseHandle(*m.Handle)
	return err
}

func (r *judgedRepo) account(m *comatproto.SyncSubscribeRepos_Account) error {
	if m.Active != (m.Status == nil) {
		return fmt.Errorf("active %v with status %v", m.Active, m.Status)
	}
	r.status = ""
	if m.Status != nil {
		if r.status = *m.Status; !slices.Contains([]string{"takendown", "suspended", "deleted", "deactivated"}, r.status) {
			return fmt.Errorf("unknown status %q", r.status)
		}
	}
	return nil
}

// readBlocks reads a CAR whose root comes first, and whose blocks match their
// CIDs, each there once.
func readBlocks(raw []byte) (map[cid.Cid][]byte, error) {
	r, err := car.NewCarReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	blocks := map[cid.Cid][]byte{}
	for {
		block, err := r.Next() // compares the hash
		if errors.Is(err, io.EOF) {
			return blocks, nil
		}
		if err != nil {
			return nil, err
		}
		if len(blocks) == 0 && !slices.Equal(r.Header.Roots, []cid.Cid{block.Cid()}) {
			return nil, fmt.Errorf("roots %v, and %s comes first", r.Header.Roots, block.Cid())
		}
		if blocks[block.Cid()] != nil {
			return nil, fmt.Errorf("block %s twice", block.Cid())
		}
		blocks[block.Cid()] = block.RawData()
	}
}

// readExport reads what getRepo answers: a commit, signed, and all its records.
func readExport(ctx context.Context, raw []byte, key atcrypto.PublicKey) (*indigorepo.Commit, cid.Cid, map[string]cid.Cid, error) {
	blocks, err := readBlocks(raw)
	if err != nil {
		return nil, cid.Undef, nil, err
	}
	commit, tree, err := indigorepo.LoadRepoFromCAR(ctx, bytes.NewReader(raw))
	if err != nil {
		return nil, cid.Undef, nil, err
	}
	_, id, err := indigorepo.LoadCommitFromCAR(ctx, bytes.NewReader(raw))
	if err != nil {
		return nil, cid.Undef, nil, err
	}
	records := map[string]cid.Cid{}
	err = errors.Join(commit.VerifySignature(key), tree.MST.Verify(), tree.MST.WriteToMap(records))
	for path, id := range maps.All(records) {
		if blocks[id] == nil {
			err = errors.Join(err, fmt.Errorf("record %s of %s is not in the export", id, path))
		}
	}
	return commit, *id, records, err
}
