package repo_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// benchRecords returns how many records the large repository of the benchmarks has:
// NESTBOX_BENCH_RECORDS, 1,000,000 for the figures in the documents.
func benchRecords(b *testing.B) int {
	b.Helper()
	text := os.Getenv("NESTBOX_BENCH_RECORDS")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// writeLarge writes the CAR file of a repository with n records, likes of what was
// new and posts: records and nodes in the order in which they are made, the commit
// last, the worst case for a reader.
func writeLarge(b *testing.B, p *person, n int) (path string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "large.car")
	keyOf := func(i int) string { return syntax.NewTID(int64(i)*1_000_003+1_500_000_000_000_000, 1).String() }
	blocks := func(root cid.Cid, emit func(id cid.Cid, data []byte)) cid.Cid {
		builder := mst.Builder{Emit: func(c mst.Changed) error { emit(c.CID, c.Block); return nil }}
		for i := range n {
			collection, rkey := like, keyOf(i)
			record := map[string]any{"createdAt": "2026-08-01T12:00:00.000Z"}
			if i < n/2 {
				of := sha256.Sum256(binary.AppendUvarint(nil, uint64(i)))
				author := strings.ToLower(base32.StdEncoding.EncodeToString(of[:15]))
				written := keyOf(i - int(binary.BigEndian.Uint16(of[16:]))%2000) // some days ago, at some likes an hour
				record["subject"] = map[string]any{"uri": "at://did:plc:" + author + "/app.bsky.feed.post/" + written, "cid": dagcbor.RawCID(of).String()}
			} else {
				collection = post
				record["langs"], record["text"] = []any{"en"}, fmt.Sprintf("record %d, with as many words as people write when they say what is on their mind", i)
			}
			record["$type"] = collection
			made := block(record)
			emit(made.CID, made.Data)
			if err := builder.Add(collection+"/"+rkey, made.CID); err != nil {
				b.Fatal(err)
			}
		}
		link, err := builder.Finish()
		if err != nil {
			b.Fatal(err)
		}
		return link.CID
	}
	root := blocks(cid.Undef, func(cid.Cid, []byte) {})
	commit := pack(b, p.did, repo.NextTID(p.w.Now(), 1, p.head().Rev), p.w.keys[p.id], root, nil)
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	_, err = w.Write(car.AppendHeader(nil, commit.root))
	var buf []byte
	emit := func(id cid.Cid, data []byte) {
		buf = car.AppendBlock(buf[:0], id, data)
		if _, writeErr := w.Write(buf); writeErr != nil {
			err = writeErr
		}
	}
	blocks(root, emit)
	emit(commit.root, commit.blocks[0].Data)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// memory runs do and returns by how much the process grew meanwhile at most, in MiB.
func memory(b *testing.B, do func()) float64 {
	b.Helper()
	if runtime.GOOS != "linux" {
		b.Skip("the peak of a process's memory comes from /proc, which only Linux has")
	}
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Log(err) // not allowed everywhere: then the figure is the peak of the whole process
	}
	before := status(b, "VmRSS:")
	do()
	return float64(status(b, "VmHWM:")-before) / 1024
}

// status returns a figure of this process, in KiB.
func status(b *testing.B, name string) int {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no %s", name)
	return 0
}

// BenchmarkExport1000 measures getRepo without HTTP.
func BenchmarkExport1000(b *testing.B) {
	w := newWorld(b)
	w.TempDir = b.TempDir()
	p := w.person("alice")
	root, blocks := tree(b, posts(1000))
	p.mustImport(pack(b, p.did, repo.NextTID(w.Now(), 1, p.head().Rev), w.keys[p.id], root, blocks).bytes())
	a := p.account()
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Export(b.Context(), a, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLarge imports and exports a large repository.
func BenchmarkLarge(b *testing.B) {
	n := benchRecords(b)
	w := newWorld(b)
	w.TempDir = b.TempDir()
	alice := w.person("alice")
	file := writeLarge(b, alice, n)
	for _, bench := range []struct {
		name string
		run  func(b *testing.B, i int)
	}{
		{"import", func(b *testing.B, i int) {
			b.Helper()
			p := alice
			if i > 0 {
				b.Skip("an import of what is there does nothing")
			}
			f, err := os.Open(file)
			if err != nil {
				b.Fatal(err)
			}
			done, err := w.Import(b.Context(), p.account(), f)
			if err != nil || done.Records != int64(n) {
				b.Fatal(done, err)
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}},
		{"export", func(b *testing.B, _ int) {
			b.Helper()
			if err := w.Export(b.Context(), alice.account(), io.Discard); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			most := memory(b, func() {
				for i := range b.N {
					bench.run(b, i)
				}
			})
			b.ReportMetric(most, "MiB")
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
