package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// fewRecords are in the repositories that the large one is compared with. Those
// must stay small, so each is written to for one measurement alone.
const fewRecords = 1000

const (
	mib = 1 << 20
	mb  = 1e6
)

// measureSync is the group of repositories as a whole.
func (b *bench) measureSync(data string) error {
	data = filepath.Join(data, "sync")
	err := b.beside(filepath.Join(data, "beside"), syncLoads(), func(s *server, users []*user) error {
		_, err := load{
			server: s, op: operation{"applyWrites", post1000}, workers: len(users), accounts: users, requests: len(users),
		}.run()
		return err
	})
	if err != nil || b.rows != nil {
		return err
	}
	l := &large{Records: b.records, Few: fewRecords}
	users, err := b.importLarge(data, l)
	if err != nil {
		return err
	}
	if err := b.useLarge(data, l, users); err != nil {
		return err
	}
	b.figures.Large = l
	return nil
}

// importLarge imports small repositories, and then a large one.
func (b *bench) importLarge(data string, l *large) (users []*user, err error) {
	s, err := nestbox(b.binary, filepath.Join(data, "large"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if users, err = signUp(s, 2*b.writeRounds()+1); err != nil {
		return nil, err
	}
	for i, u := range users {
		n := l.Few
		if i == len(users)-1 {
			n = l.Records
		}
		path := filepath.Join(data, "import.car")
		size, err := writeCAR(path, syntax.DID(u.did), n)
		if err != nil {
			return nil, err
		}
		if err := resetPeak(s.pid); err != nil {
			return nil, err
		}
		begun := time.Now()
		if err := importRepo(s, u, path); err != nil {
			return nil, err
		}
		l.Import = time.Since(begun).Seconds()
		peak, err := peakMiB(s.pid)
		if err != nil {
			return nil, err
		}
		l.ImportPeak = peak * mib / mb
		fmt.Printf("importRepo of %d records, %.0f MB: %.1f s, peak %.0f MB\n", n, float64(size)/mb, l.Import, l.ImportPeak)
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// writeRounds are the measurements of writes of each kind to each side.
func (b *bench) writeRounds() int { return 2 * b.rounds }

// useLarge exports the large repository from a server that has just begun, and
// writes to both.
func (b *bench) useLarge(data string, l *large, users []*user) (err error) {
	s, err := nestbox(b.binary, filepath.Join(data, "large"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := resetPeak(s.pid); err != nil {
		return err
	}
	c, err := dial(s.host)
	if err != nil {
		return err
	}
	begun := time.Now()
	n, err := c.download("com.atproto.sync.getRepo?did="+users[len(users)-1].did, "")
	c.close()
	if err != nil {
		return err
	}
	peak, err := peakMiB(s.pid)
	if err != nil {
		return err
	}
	l.Export, l.ExportMB = time.Since(begun).Seconds(), float64(n)/mb
	l.ExportIdle, l.ExportPeak = s.idle*mib/mb, peak*mib/mb
	fmt.Printf("getRepo of %d records, %.0f MB: %.1f s, peak %.0f MB, idle %.0f MB\n", l.Records, l.ExportMB, l.Export, l.ExportPeak, l.ExportIdle)

	return b.writeBoth(s, l, users[:len(users)-1], users[len(users)-1])
}

// writeBoth writes to the large repository and to small ones in turn.
func (b *bench) writeBoth(s *server, l *large, small []*user, big *user) error {
	for range b.writeRounds() {
		for _, side := range []struct {
			op      operation
			user    *user
			samples *[]sample
		}{
			{createRecord, small[0], &l.Appended.Few},
			{createRecord, big, &l.Appended.Many},
			{createScattered(l.Few), small[1], &l.Scattered.Few},
			{createScattered(l.Records), big, &l.Scattered.Many},
		} {
			w := load{server: s, op: side.op, workers: 1, accounts: []*user{side.user}, requests: b.writes / 10}
			if side.user == big {
				w.op.name += ", large"
			}
			if _, err := w.run(); err != nil {
				return err
			}
			w.requests = b.writes
			sample, err := b.measure(w)
			if err != nil {
				return err
			}
			*side.samples = append(*side.samples, sample)
		}
		small = small[2:]
	}
	return nil
}

// createScattered writes between the records of a file that writeCAR wrote.
func createScattered(records int) operation {
	return operation{"createRecord, any key", func(c *conn, u *user) error {
		// Keys of a file have clock 1.
		between := firstKey + rand.Int64N(int64(records)*keyStep)
		return create(c, u, syntax.NewTID(between, 2).String())
	}}
}

// The keys of writeCAR's records are of a post every five minutes, from 2014
// on.
const (
	firstKey = 1_400_000_000_000_000
	keyStep  = 300_000_007
)

// writeCAR writes the repository of a person with n posts and returns the size
// of the file. No account's key has signed it.
func writeCAR(path string, did syntax.DID, n int) (size int64, err error) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return 0, err
	}
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// The commit comes first, but is known last: one of the same size holds its
	// place.
	head, err := carHead(key, did, dagcbor.CID(nil))
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(head); err != nil {
		return 0, err
	}
	size = int64(len(head))
	var buf []byte
	emit := func(id cid.Cid, data []byte) error {
		buf = car.AppendBlock(buf[:0], id, data)
		size += int64(len(buf))
		_, err := w.Write(buf)
		return err
	}
	tree := mst.Builder{Emit: func(c mst.Changed) error { return emit(c.CID, c.Block) }}
	for i := range n {
		at := firstKey + int64(i)*keyStep
		block, err := dagcbor.Encode(map[string]any{
			"$type": posts, "langs": []any{"en"}, "createdAt": time.UnixMicro(at).UTC().Format("2006-01-02T15:04:05.000Z"),
			"text": fmt.Sprintf("Post %d, with about as many words as people write when they say what is on their mind.", i),
		})
		if err != nil {
			return 0, err
		}
		id := dagcbor.CID(block)
		if err := emit(id, block); err != nil {
			return 0, err
		}
		if err := tree.Add(posts+"/"+syntax.NewTID(at, 1).String(), id); err != nil {
			return 0, err
		}
	}
	root, err := tree.Finish()
	if err != nil {
		return 0, err
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	if head, err = carHead(key, did, root.CID); err != nil {
		return 0, err
	}
	_, err = f.WriteAt(head, 0)
	return size, err
}

// carHead is the beginning of a repository's file, with its commit.
func carHead(key atcrypto.PrivateKey, did syntax.DID, root cid.Cid) ([]byte, error) {
	c := &repo.Commit{DID: did, Data: root, Rev: syntax.NewTID(firstKey, 1)}
	if err := c.Sign(key); err != nil {
		return nil, err
	}
	block := c.Encode()
	id := dagcbor.CID(block)
	return car.AppendBlock(car.AppendHeader(nil, id), id, block), nil
}

// importRepo sends a file.
func importRepo(s *server, u *user, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.host+"/xrpc/com.atproto.repo.importRepo", f)
	if err != nil {
		return err
	}
	req.ContentLength = info.Size()
	req.Header.Set("Content-Type", "application/vnd.ipld.car")
	req.Header.Set("Authorization", "Bearer "+u.access)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &answerError{resp.StatusCode, string(text)}
	}
	if err != nil {
		return fmt.Errorf("importRepo: %w", err)
	}
	return nil
}

func (f *figures) syncTables(w *strings.Builder) {
	l := f.Large
	if l == nil {
		return
	}
	f.noise(w, syncLoads(), l.Appended.Few, l.Appended.Many, l.Scattered.Few, l.Scattered.Many)
	f.compared(w, syncLoads())
	w.WriteString(limitsHead)
	row := func(what, value, want string, reached bool) {
		fmt.Fprintf(w, "| %s | | %s | %s | %s |\n", what, value, want, yes(reached))
	}
	row(fmt.Sprintf("importRepo of %d records: time", l.Records), fmt.Sprintf("%.1f s", l.Import), "≤ 60 s", l.Import <= 60)
	row("its memory at most", fmt.Sprintf("%.0f MB", l.ImportPeak), "≤ 256 MB", l.ImportPeak <= 256)
	fmt.Fprintf(w, "| getRepo of %d records, %.0f MB: time | | %.1f s | | |\n", l.Records, l.ExportMB, l.Export)
	extra := l.ExportPeak - l.ExportIdle
	row("its memory at most, beyond that of an idle server", fmt.Sprintf("%.0f − %.0f = %.0f MB", l.ExportPeak, l.ExportIdle, extra), "≤ 64 MB", extra <= 64)
	ratio(w, fmt.Sprintf("CPU of createRecord, a new post, in a repository of %d records : of %d", l.Records, l.Few), 1.6, l.Appended.Few, l.Appended.Many)
	ratio(w, "the same, at a key anywhere among the others", 1.6, l.Scattered.Few, l.Scattered.Many)
}
