package event_test

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	lexutil "github.com/bluesky-social/indigo/lex/util"
	"github.com/ipfs/go-cid"
	cbg "github.com/whyrusleeping/cbor-gen"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo/car"
)

const (
	did = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	rev = syntax.TID("3kvhvpnbx3s2a")
)

var when = time.Date(2026, 11, 25, 1, 2, 3, 4_567_890, time.FixedZone("", 3600))

func block(text string) car.Block {
	data, err := dagcbor.Encode(map[string]any{"text": text})
	if err != nil {
		panic(err)
	}
	return car.Block{CID: dagcbor.CID(data), Data: data}
}

func link(c cid.Cid) *lexutil.LexLink { l := lexutil.LexLink(c); return &l }

// commit returns a commit with every kind of operation.
func commit() event.Commit {
	return event.Commit{
		DID: did, Rev: rev, Since: "3kvhvpnbx3s22", Commit: block("commit"), PrevData: block("tree before").CID, Time: when,
		Blocks: []car.Block{block("node"), block("record")},
		Ops: []event.Op{
			{Action: event.ActionCreate, Path: "app.bsky.feed.post/3kvhvpnbx3s2a", CID: block("record").CID},
			{Action: event.ActionUpdate, Path: "app.bsky.actor.profile/self", CID: block("record").CID, Prev: block("old").CID},
			{Action: event.ActionDelete, Path: "app.bsky.feed.like/3kvhvpnbx3s2a", Prev: block("old").CID},
		},
	}
}

// carOf returns blocks as a CAR file, as in an event.
func carOf(root car.Block, blocks ...car.Block) []byte {
	b := car.AppendBlock(car.AppendHeader(nil, root.CID), root.CID, root.Data)
	for _, one := range blocks {
		b = car.AppendBlock(b, one.CID, one.Data)
	}
	return b
}

// indigoCommit returns the same commit as an indigo type.
func indigoCommit(c event.Commit, seq int64) *comatproto.SyncSubscribeRepos_Commit {
	out := &comatproto.SyncSubscribeRepos_Commit{
		Seq: seq, Repo: c.DID.String(), Rev: c.Rev.String(), Time: "2026-11-25T00:02:03.004Z", Commit: lexutil.LexLink(c.Commit.CID),
		Blocks: carOf(c.Commit, c.Blocks...), Blobs: []lexutil.LexLink{}, Ops: []*comatproto.SyncSubscribeRepos_RepoOp{},
	}
	if c.Since != "" {
		out.Since = new(c.Since.String())
	}
	if c.PrevData.Defined() {
		out.PrevData = link(c.PrevData)
	}
	for _, op := range c.Ops {
		o := &comatproto.SyncSubscribeRepos_RepoOp{Action: string(op.Action), Path: op.Path}
		if op.CID.Defined() {
			o.Cid = link(op.CID)
		}
		if op.Prev.Defined() {
			o.Prev = link(op.Prev)
		}
		out.Ops = append(out.Ops, o)
	}
	return out
}

func indigoSync(c event.Commit, seq int64) *comatproto.SyncSubscribeRepos_Sync {
	return &comatproto.SyncSubscribeRepos_Sync{
		Seq: seq, Did: c.DID.String(), Rev: c.Rev.String(), Time: "2026-11-25T00:02:03.004Z", Blocks: carOf(c.Commit),
	}
}

// frame returns the bytes of a frame whose body indigo writes.
func frame(t *testing.T, kind event.Kind, body cbg.CBORMarshaler) []byte {
	t.Helper()
	header, err := dagcbor.Encode(map[string]any{"op": int64(1), "t": string(kind)})
	if err != nil {
		t.Fatal(err)
	}
	buf := bytes.NewBuffer(header)
	if err := body.MarshalCBOR(buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestFrames compares every kind of frame with the bytes that indigo writes for
// the same message.
func TestFrames(t *testing.T) {
	c := commit()
	first := commit()
	first.Since, first.PrevData, first.Ops, first.Blocks = "", cid.Undef, nil, nil
	text := "2026-11-25T00:02:03.004Z"
	for name, f := range map[string]struct {
		event event.Event
		body  func(seq int64) cbg.CBORMarshaler
		kind  event.Kind
	}{
		"commit":       {c.Event(), func(seq int64) cbg.CBORMarshaler { return indigoCommit(c, seq) }, "#commit"},
		"first commit": {first.Event(), func(seq int64) cbg.CBORMarshaler { return indigoCommit(first, seq) }, "#commit"},
		"sync": {
			event.Sync{DID: did, Rev: rev, Commit: c.Commit, Time: when}.Event(),
			func(seq int64) cbg.CBORMarshaler { return indigoSync(c, seq) }, "#sync",
		},
		"identity": {event.Identity{DID: did, Handle: "alice.test", Time: when}.Event(), func(seq int64) cbg.CBORMarshaler {
			return &comatproto.SyncSubscribeRepos_Identity{Did: did.String(), Handle: new("alice.test"), Seq: seq, Time: text}
		}, "#identity"},
		"identity without a handle": {event.Identity{DID: did, Time: when}.Event(), func(seq int64) cbg.CBORMarshaler {
			return &comatproto.SyncSubscribeRepos_Identity{Did: did.String(), Seq: seq, Time: text}
		}, "#identity"},
		"active account": {event.Account{DID: did, Time: when}.Event(), func(seq int64) cbg.CBORMarshaler {
			return &comatproto.SyncSubscribeRepos_Account{Did: did.String(), Active: true, Seq: seq, Time: text}
		}, "#account"},
		"deleted account": {event.Account{DID: did, Status: event.StatusDeleted, Time: when}.Event(), func(seq int64) cbg.CBORMarshaler {
			return &comatproto.SyncSubscribeRepos_Account{Did: did.String(), Status: new("deleted"), Seq: seq, Time: text}
		}, "#account"},
	} {
		if f.event.Kind != f.kind || f.event.DID != did {
			t.Errorf("%s: kind %q of %q", name, f.event.Kind, f.event.DID)
		}
		body := bytes.Clone(f.event.Body)
		for _, seq := range []int64{1, 23, 24, 255, 256, 65_535, 65_536, 1<<32 - 1, 1 << 32, 1<<53 - 1} {
			got, want := f.event.Frame(seq), frame(t, f.kind, f.body(seq))
			if !bytes.Equal(got, want) {
				t.Errorf("%s, number %d:\ngot  %x\nwant %x", name, seq, got, want)
			}
		}
		if !bytes.Equal(f.event.Body, body) {
			t.Errorf("%s: Frame changed the event", name)
		}
	}
}

// TestGolden pins the bytes themselves.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"account": {
			event.Account{DID: "did:web:a.test", Time: when}.Event().Frame(7),
			"a2" + "6174" + "68" + text("#account") + "626f70" + "01" +
				"a4" + "63" + text("did") + "6e" + text("did:web:a.test") + "63" + text("seq") + "07" +
				"64" + text("time") + "7818" + text("2026-11-25T00:02:03.004Z") + "66" + text("active") + "f5",
		},
		"info": {
			event.Info("OutdatedCursor", "old"),
			"a2" + "6174" + "65" + text("#info") + "626f70" + "01" + "a2" + "64" + text("name") + "6e" + text("OutdatedCursor") + "67" + text("message") + "63" + text("old"),
		},
		"error": {
			event.Error("FutureCursor", "no"),
			"a1" + "626f70" + "20" + "a2" + "65" + text("error") + "6c" + text("FutureCursor") + "67" + text("message") + "62" + text("no"),
		},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

func text(s string) string { return hex.EncodeToString([]byte(s)) }

// TestLimits: a commit at the limits is announced whole, a commit beyond any of them
// by a sync event.
func TestLimits(t *testing.T) {
	const seq = 99
	ops := func(n int) event.Commit {
		c := commit()
		c.Ops = nil
		for i := range n {
			c.Ops = append(c.Ops, event.Op{Action: event.ActionCreate, Path: "a.b.c/" + strconv.Itoa(i), CID: block("x").CID})
		}
		return c
	}
	// bytesOf returns a commit whose CAR has exactly n bytes.
	bytesOf := func(n int) event.Commit {
		c := commit()
		c.Blocks = nil
		data := []byte{}
		id := block("x").CID
		for len(data) < n { // the length field's own length changes with it
			rest := n - len(carOf(c.Commit)) - len(car.AppendBlock(nil, id, data)) + len(data)
			if rest == len(data) {
				break
			}
			data = make([]byte, rest)
		}
		c.Blocks = []car.Block{{CID: id, Data: data}}
		if got := len(carOf(c.Commit, c.Blocks...)); got != n {
			t.Fatalf("made a CAR of %d bytes, wanted %d", got, n)
		}
		return c
	}
	for name, c := range map[string]struct {
		commit event.Commit
		whole  bool
	}{
		"200 operations":     {ops(event.MaxOps), true},
		"201 operations":     {ops(event.MaxOps + 1), false},
		"no operation":       {ops(0), true},
		"2,000,000 bytes":    {bytesOf(2_000_000), true},
		"2,000,001 bytes":    {bytesOf(2_000_001), false},
		"3,000,000 bytes":    {bytesOf(3_000_000), false},
		"1,999,999 of bytes": {bytesOf(1_999_999), true},
	} {
		got := c.commit.Event().Frame(seq)
		want := frame(t, event.KindSync, indigoSync(c.commit, seq))
		if c.whole {
			want = frame(t, event.KindCommit, indigoCommit(c.commit, seq))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: a frame of %d bytes, want one of %d", name, len(got), len(want))
		}
		if len(got) > 5_000_000 { // https://atproto.com/specs/sync
			t.Errorf("%s: a frame of %d bytes", name, len(got))
		}
	}
}

// FuzzFrame: the frame of any message is canonical DAG-CBOR, and indigo reads the
// same message back.
func FuzzFrame(f *testing.F) {
	f.Add(int64(1), "did:plc:abc", "app.bsky.feed.post/1", []byte("block"), []byte("prev"), uint8(0), int64(0))
	f.Add(int64(1<<53-1), "", "x", []byte{}, []byte(nil), uint8(255), int64(253402300799))
	f.Fuzz(func(t *testing.T, seq int64, did, path string, data, prev []byte, flags uint8, unix int64) {
		if seq < 1 || seq > 1<<53-1 {
			return
		}
		did, path = strings.ToValidUTF8(did, "?"), strings.ToValidUTF8(path, "?")
		if len(did) > 2048 || len(path) > 1024 {
			return // their syntax does not allow it
		}
		at := time.Unix(unix%(1<<37), 0)
		c := event.Commit{DID: syntax.DID(did), Rev: rev, Commit: car.Block{CID: dagcbor.CID(data), Data: data}, Time: at}
		op := event.Op{Action: event.ActionUpdate, Path: path}
		if flags&1 != 0 {
			op.CID = dagcbor.CID(data)
		}
		if flags&2 != 0 {
			op.Prev = dagcbor.CID(prev)
		}
		if flags&4 != 0 {
			c.Since, c.PrevData = rev, dagcbor.CID(prev)
		}
		for range flags >> 5 {
			c.Ops = append(c.Ops, op)
			c.Blocks = append(c.Blocks, car.Block{CID: dagcbor.CID(prev), Data: prev})
		}
		got := c.Event().Frame(seq)
		header, _ := dagcbor.Encode(map[string]any{"op": int64(1), "t": "#commit"})
		body, ok := bytes.CutPrefix(got, header)
		if !ok {
			t.Fatalf("header of %x", got)
		}
		if _, err := dagcbor.Decode(body); err != nil {
			t.Fatalf("%v: %x", err, body)
		}
		var read comatproto.SyncSubscribeRepos_Commit
		if err := read.UnmarshalCBOR(bytes.NewReader(body)); err != nil {
			t.Fatalf("%v: %x", err, body)
		}
		if read.Seq != seq || read.Repo != did || len(read.Ops) != len(c.Ops) || (read.Since != nil) != (flags&4 != 0) ||
			(read.PrevData != nil) != (flags&4 != 0) || !bytes.Equal(read.Blocks, carOf(c.Commit, c.Blocks...)) {
			t.Fatalf("read %+v", read)
		}
		for _, o := range read.Ops {
			if o.Path != path || (o.Cid != nil) != op.CID.Defined() || (o.Prev != nil) != op.Prev.Defined() {
				t.Fatalf("read operation %+v", o)
			}
		}
		acc := event.Account{DID: syntax.DID(did), Status: path, Time: at}.Event().Frame(seq)
		var a comatproto.SyncSubscribeRepos_Account
		header, _ = dagcbor.Encode(map[string]any{"op": int64(1), "t": "#account"})
		if err := a.UnmarshalCBOR(bytes.NewReader(acc[len(header):])); err != nil || a.Did != did || a.Active != (path == "") || a.Seq != seq {
			t.Fatalf("%v: %x", err, acc)
		}
	})
}
