package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// The goals of issue 14.
const (
	sessionsOfPage = 200
	mostPage       = 10_000.0 // µs of CPU
	mostSearch     = 20_000.0
	leastExport    = 200.0 // MB a second
	mostExportMiB  = 32.0
	mostOfDisk     = 1.25 // times as long as to read the same files
)

// The account that is exported.
const (
	exportRecords  = 100_000
	exportFileSize = 50 * mb
)

// adminPassword opens the admin page of the servers that this group starts. They send no
// mail, so that a password is proof enough for a download.
const adminPassword = "bench-admin-Passw0rd"

var webSettings = []string{"PDS_ADMIN_PASSWORD=" + adminPassword, "PDS_EMAIL_SMTP_URL=none"}

// webFigures are about the pages for people. Accounts are those that were searched.
type webFigures struct {
	Sessions []sample `json:"sessionsPage"`
	Accounts int64    `json:"accounts"`
	Search   []sample `json:"search"`
	Export   *taken   `json:"export,omitempty"`
}

// taken is what an export of everything cost: the archive and its parts, one after the other,
// with nothing of the files in the system's memory. Read is how long it then took to read
// the files alone. Memory is in MiB.
type taken struct {
	Records, Files, Archives int
	MB, Seconds              float64
	FilesMB, Read            float64
	Idle, Peak               float64
	// CPU is the server's, in seconds.
	CPU float64
}

// measureWeb is the group of the pages for people.
func (b *bench) measureWeb(data string) error {
	if b.rows != nil {
		return nil
	}
	data = filepath.Join(data, "web")
	b.figures.Web = &webFigures{}
	for _, part := range []func(string) error{b.sessionsPage, b.searchPage, b.exportAll} {
		if err := part(data); err != nil {
			return err
		}
	}
	return nil
}

// enter signs in by the form of a page, in which the person fills in the fields.
func (b *browser) enter(page string, fields map[string]string) error {
	body, err := b.open(page)
	if err != nil {
		return err
	}
	form := formTo(body, page)
	if form == nil {
		return fmt.Errorf("no form on %s", page)
	}
	for name, value := range fields {
		form.Set(name, value)
	}
	if err := b.ask("POST", page, fromPage, typeForm, []byte(form.Encode())); err != nil {
		return err
	}
	_, err = b.take(http.StatusSeeOther)
	return err
}

// visit opens a browser.
func visit(s *server) (*browser, error) {
	at, err := siteOf(s)
	if err != nil {
		return nil, err
	}
	c, err := dial(s.host)
	if err != nil {
		return nil, err
	}
	return newBrowser(c, at.origin), nil
}

// visitor opens a browser in which somebody is signed in.
func visitor(s *server, page string, fields map[string]string) (*browser, error) {
	b, err := visit(s)
	if err != nil {
		return nil, err
	}
	if err := b.enter(page, fields); err != nil {
		b.close()
		return nil, fmt.Errorf("sign in on %s: %w", page, err)
	}
	return b, nil
}

func (u *user) fields() map[string]string {
	return map[string]string{"identifier": u.handle, "password": password, "remember": "on"}
}

// look is the load of a page that a browser shows.
func (b *browser) look(name, path, expect string) operation {
	header := fromPage + b.cookieLine()
	return operation{name, func(c *conn, _ *user) error {
		if err := c.write("GET", path, header, "", nil); err != nil {
			return err
		}
		body, err := c.answer()
		if err == nil && !strings.Contains(string(body), expect) {
			err = fmt.Errorf("a page without %q", expect)
		}
		return err
	}}
}

// sessionsPage measures the page with an account's sessions, when they are many.
func (b *bench) sessionsPage(data string) (err error) {
	s, err := nestbox(b.binary, filepath.Join(data, "sessions"), webSettings...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	users, err := signUp(s, 1)
	if err != nil {
		return err
	}
	more := sessionsOfPage - 1 // that of the sign-up is one
	_, err = load{server: s, op: createSession, workers: accountWorkers, accounts: sameUser(users[0], accountWorkers), requests: more}.run()
	if err != nil {
		return err
	}
	v, err := visitor(s, "/account/sign-in", users[0].fields())
	if err != nil {
		return err
	}
	defer v.close()
	page := v.look("page of 200 sessions", "/account/u/"+users[0].did+"/sessions", `aria-current="page"`)
	b.figures.Web.Sessions, err = b.repeated(load{server: s, op: page, workers: 2})
	return err
}

// sameUser is one account for several workers, who do not share what they keep of it.
func sameUser(u *user, n int) []*user {
	users := make([]*user, n)
	for i := range users {
		one := *u
		users[i] = &one
	}
	return users
}

// repeated measures a load as often as any other figure.
func (b *bench) repeated(l load) (samples []sample, err error) {
	for range b.rounds {
		s, err := b.measure(l)
		if err != nil {
			return nil, err
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// searchPage measures the search of the admin page among many accounts: by a part of the
// handle that few of them have.
func (b *bench) searchPage(data string) (err error) {
	full, err := fill(b.binary, filepath.Join(data, "accounts"), b.stored)
	if err != nil {
		return err
	}
	s, err := nestbox(b.binary, full.dir, webSettings...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	v, err := visitor(s, "/admin/sign-in", map[string]string{"name": "admin", "password": adminPassword})
	if err != nil {
		return err
	}
	defer v.close()
	b.figures.Web.Accounts = full.accounts()
	last := strconv.FormatInt(full.accounts(), 10)
	page := v.look("search of accounts", "/admin/accounts?q=ored"+last, "stored"+last)
	b.figures.Web.Search, err = b.repeated(load{server: s, op: page, workers: 2})
	return err
}

// exportAll measures the download of all that a large account holds.
func (b *bench) exportAll(data string) (err error) {
	dir := filepath.Join(data, "export")
	u, cookies, err := b.fillAccount(dir)
	if err != nil {
		return err
	}
	t := &taken{Records: exportRecords + b.exportFiles, Files: b.exportFiles}
	b.figures.Web.Export = t
	files, err := blobFiles(dir)
	if err != nil {
		return err
	}
	if err := forget(files); err != nil {
		return err
	}
	s, err := nestbox(b.binary, dir, webSettings...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	v, err := visit(s)
	if err != nil {
		return err
	}
	defer v.close()
	v.jar, t.Idle = cookies, s.idle
	if err := resetPeak(s.pid); err != nil {
		return err
	}
	if err := v.takeAll(s, u, t); err != nil {
		return err
	}
	if t.Peak, err = peakMiB(s.pid); err != nil {
		return err
	}
	fmt.Printf("export of %.0f MB: %.1f s, peak %.0f MiB, idle %.0f MiB\n", t.MB, t.Seconds, t.Peak, t.Idle)
	if err := forget(files); err != nil {
		return err
	}
	begun := time.Now()
	t.FilesMB, err = readAll(files)
	t.Read = time.Since(begun).Seconds()
	return err
}

// fillAccount makes an account with many records and files, and returns the cookies of a
// browser in which it is signed in: the hash of a password takes memory, which would count
// as the export's.
func (b *bench) fillAccount(dir string) (u *user, cookies map[string]string, err error) {
	s, err := nestbox(b.binary, dir, webSettings...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	users, err := signUp(s, 1)
	if err != nil {
		return nil, nil, err
	}
	u = users[0]
	path := filepath.Join(dir, "import.car")
	if _, err := writeCAR(path, syntax.DID(u.did), exportRecords); err != nil {
		return nil, nil, err
	}
	if err := importRepo(s, u, path); err != nil {
		return nil, nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, nil, err
	}
	fmt.Printf("uploading %d files of %.0f MB\n", b.exportFiles, exportFileSize/mb)
	c, err := dial(s.host)
	if err != nil {
		return nil, nil, err
	}
	defer c.close()
	file := make([]byte, int(exportFileSize))
	for range b.exportFiles {
		if _, err := rand.Read(file); err != nil {
			return nil, nil, err
		}
		if err := c.keepFile(u, file); err != nil {
			return nil, nil, err
		}
	}
	v, err := visitor(s, "/account/sign-in", u.fields())
	if err != nil {
		return nil, nil, err
	}
	v.close()
	return u, v.jar, nil
}

// keepFile uploads a file, and writes a record that refers to it.
func (c *conn) keepFile(u *user, file []byte) error {
	bearer := "Authorization: Bearer " + u.access + "\r\n"
	if err := c.write("POST", "/xrpc/com.atproto.repo.uploadBlob", bearer, "application/octet-stream", file); err != nil {
		return err
	}
	answer, err := c.answer()
	if err != nil {
		return fmt.Errorf("uploadBlob: %w", err)
	}
	ref, ok := strings.CutPrefix(strings.TrimSpace(string(answer)), `{"blob":`)
	if !ok {
		return fmt.Errorf("uploadBlob: an answer without a blob: %.200q", answer)
	}
	record := fmt.Sprintf(`{"repo":%q,"collection":"com.example.file","record":{"$type":"com.example.file","file":%s}`, u.did, ref)
	if _, err := c.call("POST", "com.atproto.repo.createRecord", u.access, []byte(record)); err != nil {
		return fmt.Errorf("createRecord: %w", err)
	}
	return nil
}

// archivePart is the button of an archive; the page has others, for what can be taken alone.
var archivePart = regexp.MustCompile(`name="part" value="[0-9]+"`)

// takeAll downloads the archive, and then its parts.
func (b *browser) takeAll(s *server, u *user, t *taken) error {
	page := "/account/u/" + u.did + "/data"
	body, err := b.open(page)
	if err != nil {
		return err
	}
	form := formTo(body, page)
	if form == nil {
		return errors.New("no form to download")
	}
	parts := len(archivePart.FindAll(body, -1)) // the first is the archive
	cpu, err := processCPU(s.pid)
	if err != nil {
		return err
	}
	begun := time.Now()
	for part := range parts {
		form.Set("part", strconv.Itoa(part))
		n, err := b.takeArchive(page, form)
		if err != nil {
			return fmt.Errorf("part %d: %w", part, err)
		}
		t.MB += float64(n) / mb
		t.Archives++
	}
	t.Seconds = time.Since(begun).Seconds()
	after, err := processCPU(s.pid)
	t.CPU = (after - cpu).Seconds()
	return err
}

func (b *browser) takeArchive(page string, form url.Values) (int64, error) {
	if err := b.ask("POST", page, fromPage, typeForm, []byte(form.Encode())); err != nil {
		return 0, err
	}
	return b.drain()
}

// blobFiles are a data directory's files of blobs.
func blobFiles(dir string) (paths []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() == int64(exportFileSize) {
			paths = append(paths, path)
		}
		return err
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s holds no file of %.0f MB", dir, exportFileSize/mb)
	}
	return paths, err
}

// readAll reads files, in MB.
func readAll(paths []string) (float64, error) {
	buf, sum := make([]byte, mib), int64(0)
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return 0, err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
		sum += n
		if err := errors.Join(err, f.Close()); err != nil {
			return 0, err
		}
	}
	return float64(sum) / mb, nil
}

func (f *figures) webTables(w *strings.Builder) {
	of := f.Web
	if of == nil {
		return
	}
	f.noise(w, nil, of.Sessions, of.Search)
	w.WriteString(limitsHead)
	row := func(what, value, want string, reached bool) {
		fmt.Fprintf(w, "| %s | | %s | %s | %s |\n", what, value, want, yes(reached))
	}
	pages := func(what string, most float64, samples []sample) {
		s := typical(samples)
		row(tilde(s)+what, fmt.Sprintf("%s, p50 %.1f ms", micros(s.CPU), s.P50), fmt.Sprintf("≤ %.0f ms", most/1000), s.CPU <= most)
	}
	pages(fmt.Sprintf("CPU of the account page with %d sessions", sessionsOfPage), mostPage, of.Sessions)
	pages(fmt.Sprintf("CPU of a search on the admin page, %d accounts", of.Accounts), mostSearch, of.Search)
	t := of.Export
	if t == nil {
		return
	}
	rate, disk := t.MB/t.Seconds, t.FilesMB/t.Read
	row(fmt.Sprintf("export of %d records and %d files, %.0f MB in %d archives, read from the disk", t.Records, t.Files, t.MB, t.Archives),
		fmt.Sprintf("%.1f s = %.0f MB/s, %.1f s CPU", t.Seconds, rate, t.CPU),
		fmt.Sprintf("≥ %.0f MB/s, or %.0f %% of what the disk gives", leastExport, 100/mostOfDisk), rate >= leastExport || rate*mostOfDisk >= disk)
	fmt.Fprintf(w, "| reading the same files alone, %.0f MB | | %.1f s = %.0f MB/s | | |\n", t.FilesMB, t.Read, disk)
	extra := t.Peak - t.Idle
	row("its memory at most, beyond that of an idle server", fmt.Sprintf("%.0f − %.0f = %.0f MiB", t.Peak, t.Idle, extra),
		fmt.Sprintf("≤ %.0f MiB", mostExportMiB), extra <= mostExportMiB)
}
