package export

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/request"
)

// shelf has files of zeros: the bounds are of gigabytes.
type shelf struct {
	list []blob.Kept
	open func(u *blob.Kept) (blob.File, error)
}

func (s *shelf) Kept(_ context.Context, _ int64, cursor string, limit int) (out []blob.Kept, err error) {
	for _, u := range s.list {
		if u.CID.String() > cursor && len(out) < limit {
			out = append(out, u)
		}
	}
	return out, nil
}

func (s *shelf) Missing(context.Context, int64, string, int, blob.Pay) ([]blob.Missing, error) {
	return []blob.Missing{{CID: s.list[0].CID, Record: "app.bsky.feed.post/x"}}, nil
}

func (s *shelf) Open(_ context.Context, _ int64, id cid.Cid) (blob.Blob, blob.File, error) {
	i := slices.IndexFunc(s.list, func(u blob.Kept) bool { return u.CID == id })
	f, err := s.open(&s.list[i])
	return s.list[i].Blob, f, err
}

// trail is that of nobody.
type trail struct{ account.Store }

func (trail) AddEntry(context.Context, int64, account.Entry, ...mail.Message) error { return nil }

// content is a file that is not kept in memory: n times the same byte.
type content struct{ left int64 }

func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), c.left)
	clear(p[:n])
	c.left -= n
	return int(n), nil
}
func (*content) Seek(int64, int) (int64, error) { return 0, errors.New("nobody seeks") }
func (*content) Close() error                   { return nil }

func newShelf(t testing.TB, sizes ...int64) (*Service, *shelf) {
	t.Helper()
	s := &shelf{open: func(u *blob.Kept) (blob.File, error) { return &content{u.Size}, nil }}
	for i, size := range sizes {
		sum, err := multihash.Sum(fmt.Append(nil, i, size), multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		id := cid.NewCidV1(cid.Raw, sum)
		s.list = append(s.list, blob.Kept{Blob: blob.Blob{CID: id, Size: size, Key: fmt.Sprint(i), MimeType: "image/png"}, Records: []string{"app.bsky.feed.post/x"}})
	}
	slices.SortFunc(s.list, func(a, b blob.Kept) int { return strings.Compare(a.CID.String(), b.CID.String()) })
	return &Service{
		Accounts: trail{}, Files: s, Hostname: "pds.test", Limits: ratelimit.New(1000, time.Now), Now: time.Now,
		Snapshot: func(context.Context, *account.Account) (*repo.Snapshot, error) { return nil, repo.ErrNoRepo },
	}, s
}

// TestPlan: files come in parts from 2 GiB on, or if there are very many; each is in one part.
func TestPlan(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	for name, c := range map[string]struct {
		sizes []int64
		parts int
	}{
		"none":              {nil, 0},
		"under 2 GiB":       {slices.Repeat([]int64{100 * mega}, 20), 0},
		"2 GiB":             {slices.Repeat([]int64{128 * mega}, 16), 2},
		"one that is large": {[]int64{3000 * mega, 1}, 2},
		"very many":         {slices.Repeat([]int64{1}, partFiles+1), 2},
		"5 GB":              {slices.Repeat([]int64{100 * mega}, 50), 5},
	} {
		s, shelf := newShelf(t, c.sizes...)
		p, err := s.Plan(t.Context(), &account.Account{ID: 1})
		if err != nil || len(p.Parts) != c.parts || p.Files != len(c.sizes) {
			t.Errorf("%s: %d parts of %d files, %v; want %d", name, len(p.Parts), p.Files, err, c.parts)
		}
		seen := map[string]int{}
		for _, part := range p.Parts {
			n := 0
			if err := s.eachBlob(t.Context(), 1, part, func(u *blob.Kept) error { n++; seen[u.CID.String()]++; return nil }); err != nil || n != part.Files {
				t.Errorf("%s: a part has %d files, its plan %d, %v", name, n, part.Files, err)
			}
			if part.Bytes > partSize && part.Files > 1 {
				t.Errorf("%s: a part has %d bytes", name, part.Bytes)
			}
		}
		if len(p.Parts) > 0 && (len(seen) != len(shelf.list) || slices.Max(slices.Collect(maps.Values(seen))) != 1) {
			t.Errorf("%s: %d files are in parts, of %d", name, len(seen), len(shelf.list))
		}
	}
}

// TestMissing: a file that is damaged, that cannot be opened or read, or that was taken down,
// is named and ends nothing; a writer that fails ends it.
func TestMissing(t *testing.T) {
	t.Parallel()
	s, shelf := newShelf(t, 10, 20, 30, 40)
	shelf.list[1].TakenDown = true
	shelf.open = func(u *blob.Kept) (blob.File, error) {
		switch u.CID {
		case shelf.list[2].CID:
			return nil, errors.New("the disk is gone")
		case shelf.list[3].CID:
			return &broken{}, nil
		default:
			return &content{u.Size}, nil // not what its CID says
		}
	}
	x, err := s.Begin(t.Context(), &account.Account{ID: 1, DID: "did:plc:alice", Handle: "alice.test"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var out bytes.Buffer
	z := newZip(&out, time.Now())
	if err := errors.Join(x.writeBlobs(t.Context(), z), x.writeMissing(t.Context(), z), x.writeManifest(z)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range z.missing {
		got = append(got, m.Reason)
	}
	want := []string{
		"its file is damaged", "it was taken down by the server's moderators", "its file cannot be opened", "its file could not be read to the end",
		"the record app.bsky.feed.post/x refers to it, and it was never uploaded to this server",
	}
	if !slices.Equal(got, want) {
		t.Errorf("missing %q, want %q", got, want)
	}
	if _, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len())); err != nil {
		t.Error(err)
	}
	gone := errors.New("the client has gone")
	large, _ := newShelf(t, 1<<20)
	if err := (&Archive{s: large, account: x.account}).writeBlobs(t.Context(), newZip(failing{gone}, time.Now())); !errors.Is(err, gone) {
		t.Errorf("a client that has gone: %v", err)
	}
}

type broken struct{ content }

func (*broken) Read([]byte) (int, error) { return 0, errors.New("a bad sector") }

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestPlaces: an account has one archive at a time, a server four, and each day five; one that
// nobody reads gives way to another account's, and learns it.
func TestPlaces(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t, 10)
	now := time.Now()
	s.Now = func() time.Time { return now }
	begin := func(id int64) (*Archive, error) {
		return s.Begin(t.Context(), &account.Account{ID: id, DID: syntax.DID(fmt.Sprint("did:plc:", id))}, 0)
	}
	var all []*Archive
	for id := range int64(maxAtOnce) {
		x, err := begin(id)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	if _, err := begin(0); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one of an account: %v", err)
	}
	if _, err := begin(99); !errors.Is(err, ErrBusy) {
		t.Errorf("one more than %d: %v", maxAtOnce, err)
	}
	lost := 0
	for _, x := range all {
		x.Watch(func() { lost++ })
	}
	now = now.Add(idle)
	for _, x := range all[1:] {
		if !x.Moved() {
			t.Error("a place is lost while nobody waits")
		}
	}
	late, err := begin(99)
	if err != nil || lost != 1 || all[0].Moved() || !all[1].Moved() {
		t.Fatalf("beside one that nobody reads: %v, %d lost", err, lost)
	}
	if _, err := begin(100); !errors.Is(err, ErrBusy) {
		t.Errorf("one more than %d that are read: %v", maxAtOnce, err)
	}
	for _, x := range append(all, late) {
		x.Close()
	}
	for range 4 { // with the first, the five of the day
		x, err := begin(0)
		if err != nil {
			t.Fatal(err)
		}
		x.Close()
	}
	if _, err := begin(0); !isTooMany(err) {
		t.Errorf("a sixth of the day: %v", err)
	}
	if n := s.places.Held(); n != 0 {
		t.Errorf("%d places are not given back", n)
	}
	if _, err := s.Begin(t.Context(), &account.Account{ID: 7, DID: "did:plc:b"}, 1); !errors.Is(err, ErrPart) {
		t.Errorf("a part that there is not: %v", err)
	}
}

func isTooMany(err error) bool {
	_, ok := errors.AsType[request.ErrTooMany](err)
	return ok
}

// TestNames: whatever a collection is called, its file's name leads nowhere else and is its
// own.
func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, name := range []string{"app.bsky.feed.post", "..", ".", "", "../../etc/passwd", `a\b`, "a/b", "a%2Fb", "con", "a\x00b", "ä", "%C3%A4", "a b", "\u202egpj", strings.Repeat("a", 400), strings.Repeat("a", 401)} {
		got := safeName(name)
		if strings.ContainsAny(got, "/\\:\x00 ") || strings.HasPrefix(got, ".") {
			t.Errorf("%q became %q", name, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q both became %q", name, other, got)
		}
		seen[got] = name
	}
}

// TestBoundedMemory: an archive of 6 GiB, with a file that is larger than 4 GiB (zip64), takes
// no more memory than a small one.
func TestBoundedMemory(t *testing.T) {
	s, _ := newShelf(t, 5<<30, 1<<30)
	x := &Archive{s: s, account: &account.Account{ID: 1, DID: "did:plc:alice"}}
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	out := &counting{}
	z := newZip(out, time.Now())
	if err := errors.Join(x.writeBlobs(t.Context(), z), x.writeMissing(t.Context(), z), x.writeManifest(z)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&during)
	if out.n < 6<<30 {
		t.Errorf("%d bytes", out.n)
	}
	if grown := int64(during.Sys) - int64(before.Sys); grown > 32<<20 {
		t.Errorf("the process grew by %d MiB", grown>>20)
	}
}

type counting struct{ n int64 }

func (c *counting) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// BenchmarkBlobs writes files of 1 MiB.
func BenchmarkBlobs(b *testing.B) {
	s, _ := newShelf(b, slices.Repeat([]int64{1 << 20}, 256)...)
	x := &Archive{s: s, account: &account.Account{ID: 1, DID: "did:plc:alice"}}
	b.SetBytes(256 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if err := x.writeBlobs(b.Context(), newZip(io.Discard, time.Now())); err != nil {
			b.Fatal(err)
		}
	}
}
