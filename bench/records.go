package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const posts = "app.bsky.feed.post"

// record is the JSON of a small post; no two have the same text.
func (u *user) record() []byte {
	u.posts++
	return fmt.Appendf(nil, `{"$type":"`+posts+`","text":"Post %d of %s, with about as many words as people write when they say what is on their mind.","langs":["en"],"createdAt":"%s"}`,
		u.posts, u.handle, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
}

// create writes a post; rkey, if not empty, is its key.
func create(c *conn, u *user, rkey string) error {
	if rkey != "" {
		rkey = `"rkey":"` + rkey + `",`
	}
	body, err := c.call("POST", "com.atproto.repo.createRecord", u.access,
		fmt.Appendf(nil, `{"repo":"%s","collection":"`+posts+`",%s"record":%s}`, u.did, rkey, u.record()))
	if err != nil {
		return err
	}
	u.older, u.rev = u.rev, field(body, "rev")
	var ok bool
	if u.rkey, ok = strings.CutPrefix(field(body, "uri"), "at://"+u.did+"/"+posts+"/"); !ok {
		err = fmt.Errorf("an answer without the post's URI: %.200q", body)
	}
	return err
}

var (
	createRecord = operation{"createRecord", func(c *conn, u *user) error { return create(c, u, "") }}
	getRecord    = operation{"getRecord", func(c *conn, u *user) error {
		body, err := c.call("GET", "com.atproto.repo.getRecord?repo="+u.did+"&collection="+posts+"&rkey="+u.rkey, "", nil)
		if err == nil && !bytes.Contains(body, []byte(`"text":"Post `)) {
			err = fmt.Errorf("an answer without the post: %.200q", body)
		}
		return err
	}}
	getRepo = operation{"getRepo of 1000 records", func(c *conn, u *user) error {
		n, err := c.download("com.atproto.sync.getRepo?did="+u.did, "")
		if err == nil && n < int64(u.posts)*150 {
			err = fmt.Errorf("a repository of %d posts has only %d bytes", u.posts, n)
		}
		return err
	}}
)

// recordLoads and syncLoads are rows as those of loads, with the targets of
// issue 3.
func recordLoads() []target {
	return []target{
		{op: createRecord, workers: 1, accounts: 1, cpu: 1.0 / 15, rate: 5},
		{op: createRecord, workers: 16, accounts: 16, cpu: 1.0 / 20, rate: 15},
		{op: createRecord, workers: 16, accounts: 1},
		{op: getRecord, workers: 64, accounts: 64, cpu: 1.0 / 20},
	}
}

func syncLoads() []target {
	return []target{{op: getRepo, workers: 4, accounts: 4, rate: 20}}
}

// measureRecords is the group of records: writing and reading small ones.
func (b *bench) measureRecords(data string) error {
	data = filepath.Join(data, "records")
	err := b.beside(data, recordLoads(), func(s *server, users []*user) error {
		_, err := load{server: s, op: createRecord, workers: 8, accounts: users, requests: len(users)}.run()
		return err
	})
	if err != nil || b.rows != nil {
		return err
	}
	b.figures.Disk = map[string]disk{}
	if b.figures.Disk["Nestbox"], err = diskOf(postsEach, func() (*server, error) {
		return nestbox(b.binary, filepath.Join(data, "disk"))
	}); err != nil || b.reference == "" {
		return err
	}
	folder, err := filepath.Abs(b.reference)
	if err != nil {
		return err
	}
	b.figures.Disk["reference"], err = diskOf(postsEach, func() (*server, error) {
		return referencePDS(folder, filepath.Join(data, "disk-reference"))
	})
	return err
}

// beside measures loads on Nestbox and on the reference, in turn. Each server's
// users are prepared first.
func (b *bench) beside(data string, rows []target, prepare func(*server, []*user) error) (err error) {
	rows = slices.DeleteFunc(rows, func(t target) bool { return !b.wants(t) })
	if len(rows) == 0 {
		return nil
	}
	servers, err := b.startBoth(data)
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	if err != nil {
		return err
	}
	accounts := 0
	for _, t := range rows {
		accounts = max(accounts, t.accounts)
	}
	users := map[*server][]*user{}
	for _, s := range servers {
		if users[s], err = signUp(s, accounts); err == nil {
			err = prepare(s, users[s])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, t := range rows {
		if err := b.cells(servers, users, t.op, t.workers, t.accounts); err != nil {
			return err
		}
	}
	return nil
}

// postsEach is how many records an account writes for the figures of the disk.
const postsEach = 200

// diskOf counts what small records take, each from 16 accounts that write at a time,
// until the server has ended, since its last writes belong to them.
func diskOf(each int, start func() (*server, error)) (d disk, err error) {
	const accounts = 16
	s, err := start()
	if err != nil {
		return d, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, s.stop())
		}
	}()
	users, err := signUp(s, accounts)
	if err != nil {
		return d, err
	}
	keptBefore, err := kept(s.dir)
	if err != nil {
		return d, err
	}
	writtenBefore, err := bytesWritten(s.pid)
	if err != nil {
		return d, err
	}
	l := load{server: s, op: createRecord, workers: accounts, accounts: users, requests: accounts * each}
	if _, err := l.run(); err != nil {
		return d, err
	}
	stopped = true
	if err := s.stop(); err != nil {
		return d, err
	}
	written, err := s.written()
	if err != nil {
		return d, err
	}
	keptAfter, err := kept(s.dir)
	d = disk{
		Records: l.requests,
		Written: float64(written-writtenBefore) / float64(l.requests),
		Kept:    float64(keptAfter-keptBefore) / float64(l.requests),
	}
	fmt.Printf("%s: %d records, %.1f kB written and %.1f kB kept for each\n", s.name, d.Records, d.Written/1000, d.Kept/1000)
	return d, err
}

// written is bytesWritten of a server that has been stopped, over its life.
func (s *server) written() (int64, error) {
	for _, cmd := range s.processes {
		if cmd.Process.Pid != s.pid {
			continue
		}
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			return int64(u.Oublock) * 512, nil //nolint:unconvert // the type differs between systems
		}
	}
	return 0, fmt.Errorf("nothing is known of the process of %s", s.name)
}

// kept is the size of a data directory once everything in its databases' logs
// is in the databases. The server may be running.
func kept(dir string) (total int64, err error) {
	var sizes, databases []string
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || !e.Type().IsRegular() || e.Name() == "log":
		case strings.HasSuffix(path, "-wal"):
			databases = append(databases, strings.TrimSuffix(path, "-wal"))
		case !strings.HasSuffix(path, "-shm"):
			sizes = append(sizes, path)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, path := range databases {
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err != nil {
			return 0, err
		}
		err = sqlitex.ExecuteTransient(conn, "PRAGMA wal_checkpoint(TRUNCATE)", nil)
		if err = errors.Join(err, conn.Close()); err != nil {
			return 0, fmt.Errorf("checkpoint %s: %w", path, err)
		}
	}
	for _, path := range sizes {
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}

// post1000 fills a user's repository.
func post1000(c *conn, u *user) error {
	for range 5 {
		var writes []json.RawMessage
		for range 200 {
			writes = append(writes, fmt.Appendf(nil, `{"$type":"com.atproto.repo.applyWrites#create","collection":"`+posts+`","value":%s}`, u.record()))
		}
		_, err := c.call("POST", "com.atproto.repo.applyWrites", u.access, encode(map[string]any{"repo": u.did, "writes": writes}))
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *figures) recordTables(w *strings.Builder) {
	f.noise(w, recordLoads())
	f.compared(w, recordLoads())
	ours, ok := f.Disk["Nestbox"]
	if !ok {
		return
	}
	w.WriteString(limitsHead)
	ref, compared := f.Disk["reference"]
	row := func(what string, ref, ours, limit float64) {
		theirs, reached, want := "", "", ""
		if limit > 0 {
			want = fmt.Sprintf("≤ 1/%.0f", 1/limit)
		}
		value := fmt.Sprintf("%.1f kB", ours/1000)
		if compared {
			theirs = fmt.Sprintf("%.1f kB", ref/1000)
			value += fmt.Sprintf(" = 1/%.1f", ref/ours)
			if limit > 0 {
				reached = yes(ours <= limit*ref)
			}
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", what, theirs, value, want, reached)
	}
	row("written to disk for a small record", ref.Written, ours.Written, 1.0/5)
	row("kept on disk of it", ref.Kept, ours.Kept, 0)
}
