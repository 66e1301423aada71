package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/internal/pdstest"
	"nestbox/repo/car"
)

func startNestbox(t *testing.T) *server {
	t.Helper()
	s, err := nestbox(pdstest.Binary(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stopAndVerify shows that the server has stored what was measured.
func stopAndVerify(t *testing.T, s *server) {
	t.Helper()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	pdstest.Verify(t, s.dir)
}

// TestRecords shows that each operation of the tables does what its name says.
func TestRecords(t *testing.T) {
	s := startNestbox(t)
	defer stopAndVerify(t, s)
	users, err := signUp(s, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []load{
		{op: createRecord, requests: 6},
		{op: getRecord, requests: 6},
		{op: operation{"applyWrites", post1000}, requests: 2},
		{op: getRepo, requests: 4},
	} {
		l.server, l.workers, l.accounts = s, 2, users
		if got, err := l.run(); err != nil || got.Requests != l.requests {
			t.Fatalf("%s: %d requests, %v; want %d", l.op.name, got.Requests, err, l.requests)
		}
	}
	if users[0].posts != 1003 {
		t.Errorf("%d posts, want 1003", users[0].posts)
	}
	absent := *users[0]
	absent.rkey = "absent"
	c, err := dial(s.host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	var answer *answerError
	if err := getRecord.do(c, &absent); !errors.As(err, &answer) || answer.status != http.StatusBadRequest {
		t.Errorf("a record that is not there: %v", err)
	}
	empty := user{did: "did:plc:absent", posts: 1}
	if err := getRepo.do(c, &empty); !errors.As(err, &answer) {
		t.Errorf("a repository that is not there: %v", err)
	}
}

// TestImported shows that the file of a generated repository is valid: a server
// imports it, whatever its size, and exports every record.
func TestImported(t *testing.T) {
	data := t.TempDir()
	b := &bench{binary: pdstest.Binary(t), rounds: 1, writes: 20}
	l := &large{Records: 3000, Few: 10}
	users, err := b.importLarge(data, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.useLarge(data, l, users); err != nil {
		t.Fatal(err)
	}
	if l.Import <= 0 || l.ImportPeak <= 0 || l.Export <= 0 || l.ExportPeak < l.ExportIdle || l.ExportMB < 3000*0.2e-3 {
		t.Errorf("figures without sense: %+v", l)
	}
	if n := len(l.Appended.Few) + len(l.Appended.Many) + len(l.Scattered.Few) + len(l.Scattered.Many); n != 8 {
		t.Errorf("%d measurements of writes, want 8", n)
	}
	pdstest.Verify(t, filepath.Join(data, "large"))
}

// TestFile shows that a generated file holds as many records as it should, the
// commit first.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.car")
	size, err := writeCAR(path, syntax.DID("did:plc:a"), 100)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := car.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	records, first := 0, true
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if first && !b.CID.Equals(r.Roots()[0]) {
			t.Error("the commit is not first")
		}
		first = false
		if v, err := dagcbor.Decode(b.Data); err != nil {
			t.Error(err)
		} else if m, ok := v.(map[string]any); ok && m["$type"] == posts {
			records++
		}
	}
	if records != 100 || r.Offset() != size {
		t.Errorf("%d records in %d bytes, want 100 in %d", records, r.Offset(), size)
	}
}

func TestDisk(t *testing.T) {
	var s *server
	d, err := diskOf(20, func() (*server, error) { s = startNestbox(t); return s, nil })
	if err != nil {
		t.Fatal(err)
	}
	// A record's own bytes are some 200.
	if d.Records != 320 || d.Kept < 200 || d.Written < d.Kept || d.Written > 1<<20 {
		t.Errorf("%+v makes no sense", d)
	}
	pdstest.Verify(t, s.dir)
}

// TestBroadcast shows that every subscriber's events are counted, and that one
// that gets none is noticed.
func TestBroadcast(t *testing.T) {
	s := startNestbox(t)
	defer stopAndVerify(t, s)
	users, err := signUp(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	st, err := (&broadcast{server: s, user: users[0], warm: 2, events: 10}).run(5)
	if err != nil {
		t.Fatal(err)
	}
	if st.KeptUp != 5 || st.Events != 10 || st.DelayWorst <= 0 || st.FrameBytes < 500 || users[0].posts != 12 {
		t.Errorf("got %+v after %d posts", st, users[0].posts)
	}
}

// TestSubscriber shows that a gap is noticed, and frames of each length read.
func TestSubscriber(t *testing.T) {
	frame := func(seq int64, length int) []byte {
		body := dagcbor.AppendMapHead(nil, 1)
		split := len(body)
		body = dagcbor.AppendBytes(dagcbor.AppendText(body, "blocks"), make([]byte, length))
		message := event.Event{Kind: event.KindCommit, Body: body, Split: split}.Frame(seq)
		switch n := len(message); {
		case n < 126:
			return append([]byte{0x82, byte(n)}, message...)
		case n < 1<<16:
			return append([]byte{0x82, 126, byte(n >> 8), byte(n)}, message...)
		default:
			return append([]byte{0x82, 127, 0, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}, message...)
		}
	}
	var all []byte
	for i, length := range []int{10, 1000, 100_000, 10} {
		all = append(all, frame(int64(65_534+i), length)...)
	}
	all = append(all, frame(65_539, 10)...)
	s := &subscriber{read: bufio.NewReader(strings.NewReader(string(all)))}
	for i := range 4 {
		if err := s.next(); err != nil || s.last != int64(65_534+i) {
			t.Fatalf("event %d: %d, %v", i, s.last, err)
		}
	}
	if err := s.next(); err == nil {
		t.Error("a gap was not noticed")
	}
	for _, seq := range []int64{1, 23, 24, 255, 256, 65_536, 1 << 33} {
		s := &subscriber{read: bufio.NewReader(strings.NewReader(string(frame(seq, 10))))}
		if err := s.next(); err != nil || s.last != seq {
			t.Errorf("event %d is read as %d, %v", seq, s.last, err)
		}
	}
}

// TestDownload shows that answers with a length and those in chunks are read to
// their end, and that one that is cut is noticed.
func TestDownload(t *testing.T) {
	const size = 3 << 20
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/xrpc/length":
			w.Header().Set("Content-Length", "3145728")
		case "/xrpc/cut":
			w.Header().Set("Content-Length", "3145729")
		case "/xrpc/fault":
			http.Error(w, "fault", http.StatusTeapot)
			return
		}
		_, _ = w.Write(make([]byte, size))
	}))
	t.Cleanup(web.Close)
	c, err := dial(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, path := range []string{"length", "chunks", "length"} {
		if n, err := c.download(path, ""); err != nil || n != size {
			t.Errorf("%s: %d bytes, %v; want %d", path, n, err, size)
		}
	}
	var answer *answerError
	if _, err := c.download("fault", ""); !errors.As(err, &answer) || answer.status != http.StatusTeapot {
		t.Errorf("a fault is %v", err)
	}
	if n, err := c.download("cut", ""); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("an answer that is cut: %d bytes, %v", n, err)
	}
}

// TestRepositoryTables shows that goals are judged, and missed ones marked.
func TestRepositoryTables(t *testing.T) {
	f := figures{
		Cells: []cell{
			{Server: "Nestbox", Op: createRecord.name, Workers: 16, Accounts: 16, Samples: []sample{{CPU: 300, Rate: 2000}}},
			{Server: "reference", Op: createRecord.name, Workers: 16, Accounts: 16, Samples: []sample{{CPU: 6000, Rate: 120}}},
		},
		Disk: map[string]disk{"Nestbox": {Written: 50_001, Kept: 3000}, "reference": {Written: 250_000, Kept: 9000}},
		Large: &large{
			Records: 1_000_000, Few: 1000, Import: 59, ImportPeak: 257, Export: 9, ExportMB: 400, ExportIdle: 20, ExportPeak: 84,
		},
		Stream: &stream{Subscribers: 1000, KeptUp: 999, CPU: 9.9},
	}
	f.Large.Appended.Few, f.Large.Appended.Many = []sample{{CPU: 100}}, []sample{{CPU: 160}}
	f.Large.Scattered.Few, f.Large.Scattered.Many = []sample{{CPU: 100}}, []sample{{CPU: 161}}
	var w strings.Builder
	for _, g := range groups()[1:] {
		w.WriteString(f.tables(g))
	}
	for row, want := range map[string]string{
		"| createRecord |":     "1/20.0 | × 16.7 | CPU ≤ 1/20, rate ≥ × 15 | yes |",
		"| written to disk":    "1/5.0 | ≤ 1/5 | **no** |",
		"| kept on disk":       "| 3.0 kB = 1/3.0 |  |  |",
		"| importRepo of":      "| 59.0 s | ≤ 60 s | yes |",
		"| its memory at most": "| 257 MB | ≤ 256 MB | **no** |",
		"| its memory at most, beyond that of an idle server": "84 − 20 = 64 MB | ≤ 64 MB | yes |",
		"| CPU of createRecord, a new post":                   "160 µs : 100 µs = 1.60 | ≤ 1.60 | yes |",
		"| the same, at a key":                                "= 1.61 | ≤ 1.60 | **no** |",
		"| 1000 subscribers":                                  "| 999 | all | **no** |",
		"| CPU per event and subscriber":                      "| 9.90 µs | ≤ 10 µs | yes |",
	} {
		found := false
		for line := range strings.Lines(w.String()) {
			found = found || strings.HasPrefix(line, row) && strings.HasSuffix(strings.TrimSpace(line), want)
		}
		if !found {
			t.Errorf("no row %q … %q in\n%s", row, want, w.String())
		}
	}
}
