package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// appViewDID is the upstream's, moderationDID that of the service that hangs.
const (
	appViewDID    = "did:web:appview.invalid"
	moderationDID = "did:web:moderation.invalid"
)

// proxied is a row of calls that are passed on.
type proxied struct {
	target

	// bare is how many times the CPU of the bare proxy a call may cost; 0: no target.
	bare float64
	call func(u *user) string
	gzip bool
	// shows: the answer has the user's newest post.
	shows bool
}

// proxyWorkers is how many calls are under way at a time.
const proxyWorkers = 64

// proxyRows are the rows, with the targets of issue 12.
func proxyRows() (rows []proxied) {
	for _, kind := range []struct {
		name      string
		cpu, bare float64
		call      func(u *user) string
		shows     bool
	}{
		{plainName, 1.0 / 6, 1.4, func(*user) string { return plainCall }, false},
		{timelineName + ", nothing new", 1.0 / 11, 0, func(u *user) string { return timelineCall + u.rev }, false},
		{timelineName + ", one new post", 1.0 / 8, 0, func(u *user) string { return timelineCall + u.older }, true},
	} {
		for _, packed := range []bool{false, true} {
			name := kind.name
			if packed {
				name += ", gzip"
			}
			p := proxied{bare: kind.bare, call: kind.call, gzip: packed, shows: kind.shows}
			p.target = target{op: operation{name, p.do}, workers: proxyWorkers, accounts: proxyWorkers, cpu: kind.cpu, rate: 4}
			rows = append(rows, p)
		}
	}
	return rows
}

// do makes the call. That its answer is right was shown by prove.
func (p proxied) do(c *conn, u *user) error {
	c.header = ""
	if p.gzip {
		c.header = "Accept-Encoding: gzip\r\n"
	}
	body, err := c.call("GET", p.call(u), u.access, nil)
	if err == nil && len(body) < usualSize/10 {
		err = fmt.Errorf("an answer of %d bytes: %.200q", len(body), body)
	}
	return err
}

// prove looks into an answer.
func (p proxied) prove(c *conn, u *user) error {
	if err := p.do(c, u); err != nil {
		return err
	}
	body := c.body
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		if !p.gzip {
			return errors.New("an answer that is compressed though nobody asked for it")
		}
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		if body, err = io.ReadAll(r); err != nil {
			return err
		}
	}
	if len(body) < usualSize-1000 {
		return fmt.Errorf("an answer of %d bytes: %.200q", len(body), body)
	}
	if shows := bytes.Contains(body, []byte("at://"+u.did+"/"+posts+"/"+u.rkey)); shows != p.shows {
		return fmt.Errorf("the answer shows the new post: %t, want %t", shows, p.shows)
	}
	return nil
}

// passing is what many large answers at once take, in MiB.
type passing struct {
	Idle    float64  `json:"idle"`
	Peak    float64  `json:"peak"`
	Samples []sample `json:"samples"`
}

// dead is what an operation takes while calls to another service hang, and without.
type dead struct {
	Server  string   `json:"server"`
	Op      string   `json:"operation"`
	Without []sample `json:"without"`
	With    []sample `json:"with"`
}

const (
	largeAtOnce = 100
	hangAtOnce  = 500
	// besideHanging is how many workers do something else meanwhile: so few that the
	// latency is the servers' more than the queue's.
	besideHanging = 4
)

// measureProxy is the group of calls that are passed on.
func (b *bench) measureProxy(data string) (err error) {
	rows := slices.DeleteFunc(proxyRows(), func(p proxied) bool { return !b.wants(p.target) })
	if len(rows) == 0 {
		return nil
	}
	data = filepath.Join(data, "proxy")
	if b.upstream, err = own(upstreamName, filepath.Join(data, upstreamName), ""); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.upstream.stop())
		b.upstream, b.env = nil, nil
	}()
	silent, err := newHanging()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, silent.close()) }()
	b.env = []string{
		"PDS_BSKY_APP_VIEW_URL=http://" + b.upstream.host, "PDS_BSKY_APP_VIEW_DID=" + appViewDID,
		"PDS_MOD_SERVICE_URL=" + silent.url, "PDS_MOD_SERVICE_DID=" + moderationDID,
		"PDS_PROXY_HEADERS_TIMEOUT=300000", // what hangs does so for the whole measurement
	}
	users, err := b.passOn(data, rows, silent)
	if err != nil || b.rows != nil {
		return err
	}
	return b.passLarge(data, users)
}

// passOn measures the calls, side by side, and what hanging calls do to others. It
// returns the users of each server.
func (b *bench) passOn(data string, rows []proxied, silent *hanging) (all map[string][]*user, err error) {
	servers, err := b.startBoth(data)
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	if err != nil {
		return nil, err
	}
	both := servers
	s, err := own(bareProxy, filepath.Join(data, "bare"), "http://"+b.upstream.host)
	if err != nil {
		return nil, err
	}
	servers = append(servers, s)
	all, users := map[string][]*user{}, map[*server][]*user{}
	for _, s := range servers {
		if users[s], err = signUp(s, largeAtOnce); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		all[s.name] = users[s]
		if s.name == bareProxy {
			continue
		}
		for range 2 { // the upstream has seen both, or only the first
			if _, err := (load{server: s, op: createRecord, workers: 4, accounts: users[s], requests: largeAtOnce}).run(); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for _, p := range rows {
		for _, s := range servers {
			if offers(s, p.op) {
				proof := load{server: s, op: operation{p.op.name, p.prove}, workers: 1, accounts: users[s], requests: largeAtOnce}
				if _, err := proof.run(); err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
			}
		}
		if err := b.cells(servers, users, p.op, p.workers, p.accounts); err != nil {
			return nil, err
		}
	}
	if b.rows != nil {
		return all, nil
	}
	for _, s := range both {
		if err := b.besideDead(s, users[s], silent); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return all, nil
}

// besideDead measures what people notice of calls of others to a service that hangs.
func (b *bench) besideDead(s *server, users []*user, silent *hanging) error {
	var figures []dead
	ops := []operation{proxyRows()[0].op, refresh, createRecord}
	for _, op := range ops {
		figures = append(figures, dead{Server: s.name, Op: op.name})
	}
	for range 2 * b.rounds {
		for i, op := range ops {
			l := load{server: s, op: op, workers: besideHanging, accounts: users[:besideHanging]}
			without, err := b.measure(l)
			if err != nil {
				return err
			}
			release, err := hang(s, users, silent)
			if err != nil {
				return err
			}
			with, err := b.measure(l)
			if err == nil && silent.calls.Load() != hangAtOnce {
				err = fmt.Errorf("only %d calls were still under way", silent.calls.Load())
			}
			if err := errors.Join(err, release()); err != nil {
				return err
			}
			figures[i].Without, figures[i].With = append(figures[i].Without, without), append(figures[i].With, with)
		}
	}
	b.figures.Dead = append(b.figures.Dead, figures...)
	return nil
}

// hang makes calls that hang until release.
func hang(s *server, users []*user, silent *hanging) (release func() error, err error) {
	var conns []*conn
	release = func() error {
		for _, c := range conns {
			c.close()
		}
		return silent.end()
	}
	for i := range hangAtOnce {
		c, err := dial(s.host)
		if err != nil {
			return nil, errors.Join(err, release())
		}
		conns = append(conns, c)
		if err := c.send("GET", "tools.ozone.moderation.queryEvents", users[i%len(users)].access, nil); err != nil {
			return nil, errors.Join(err, release())
		}
	}
	if err := silent.wait(hangAtOnce, requestTimeout); err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// passLarge measures the memory that large answers take, on servers that have just
// started and served a few calls.
func (b *bench) passLarge(data string, all map[string][]*user) (err error) {
	servers, err := b.startBoth(data)
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	if err != nil {
		return err
	}
	b.figures.Passing = map[string]passing{}
	for _, s := range servers {
		users := all[s.name]
		if _, err := (load{server: s, op: proxyRows()[0].op, workers: 1, accounts: users, requests: 2 * largeAtOnce}).run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		var p passing
		if p.Idle, err = memoryMiB(s.pid); err != nil {
			return err
		}
		if err := resetPeak(s.pid); err != nil {
			return err
		}
		for range b.rounds {
			sample, err := b.measure(load{server: s, op: operation{"answers of 5 MB", func(c *conn, u *user) error {
				n, err := c.download(largeCall, u.access)
				if err == nil && n < largeSize-1000 {
					err = fmt.Errorf("an answer of %d bytes", n)
				}
				return err
			}}, workers: largeAtOnce, accounts: users})
			if err != nil {
				return err
			}
			p.Samples = append(p.Samples, sample)
		}
		if p.Peak, err = peakMiB(s.pid); err != nil {
			return err
		}
		b.figures.Passing[s.name] = p
	}
	return nil
}

func (f *figures) proxyTables(w *strings.Builder) {
	var rows []target
	for _, p := range proxyRows() {
		rows = append(rows, p.target)
	}
	var others [][]sample
	for _, d := range f.Dead {
		others = append(others, d.Without, d.With)
	}
	for _, p := range f.Passing {
		others = append(others, p.Samples)
	}
	f.noise(w, rows, others...)
	fmt.Fprintf(w, "\n| %d calls at a time, CPU and rate of Nestbox | : reference | rate | : bare proxy | to reach | reached "+
		"| Nestbox: CPU/call, per second, p50, p99 | reference | bare proxy |\n|---|--:|--:|--:|---|---|--:|--:|--:|\n", proxyWorkers)
	for _, p := range proxyRows() {
		f.proxyRow(w, p)
	}
	w.WriteString(limitsHead)
	f.passingRows(w)
	f.deadRows(w)
}

func (f *figures) proxyRow(w *strings.Builder, p proxied) {
	find := func(server string) (sample, bool) { return f.find(server, p.op.name, p.workers, p.accounts) }
	ours, ok := find("Nestbox")
	if !ok {
		return
	}
	ref, compared := find("reference")
	least, bared := find(bareProxy)
	var cpu, rate, bare string
	want, reached, _ := strings.Cut(p.verdict(ref, ours, compared), " | ")
	if compared {
		cpu, rate = fmt.Sprintf("1/%.1f", ref.CPU/ours.CPU), fmt.Sprintf("× %.1f", ours.Rate/ref.Rate)
	}
	if bared {
		bare = fmt.Sprintf("× %.2f", ours.CPU/least.CPU)
		want += fmt.Sprintf(", bare proxy ≤ × %.1f", p.bare)
		if ours.CPU > p.bare*least.CPU {
			reached = yes(false)
		}
	}
	cell := func(s sample, there bool) string {
		if !there {
			return ""
		}
		return fmt.Sprintf("%s, %.0f, %s", micros(s.CPU), s.Rate, latencies(s))
	}
	fmt.Fprintf(w, "| %s%s | %s | %s | %s | %s | %s | %s | %s | %s |\n", tilde(ours, ref, least), p.op.name, cpu, rate, bare, want, reached,
		cell(ours, true), cell(ref, compared), cell(least, bared))
}

// mostForLarge is how much memory the large answers may take, in MiB, and mostBesideDead how
// many times the latency that calls may have beside those that hang.
const (
	mostForLarge   = 24
	mostBesideDead = 1.2
)

func (f *figures) passingRows(w *strings.Builder) {
	ours, ok := f.Passing["Nestbox"]
	if !ok {
		return
	}
	ref, compared := f.Passing["reference"]
	row := func(what string, of func(p passing) string, want, reached string) {
		theirs := ""
		if compared {
			theirs = of(ref)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", what, theirs, of(ours), want, reached)
	}
	row(fmt.Sprintf("%d answers of 5 MB under way: memory at most, over that of an idle server", largeAtOnce), func(p passing) string {
		return fmt.Sprintf("%.0f MiB (%.0f − %.0f)", p.Peak-p.Idle, p.Peak, p.Idle)
	}, fmt.Sprintf("≤ %d MiB", mostForLarge), yes(ours.Peak-ours.Idle <= mostForLarge))
	cpu := typical(ours.Samples).CPU
	row(tilde(typical(ours.Samples))+"CPU of one, and how many a second", func(p passing) string {
		s := typical(p.Samples)
		return fmt.Sprintf("%.1f ms, %.0f", s.CPU/1000, s.Rate)
	}, "≤ 5 ms", yes(cpu <= 5000))
}

// deadRows compare the typical p99: half of the measurements had less.
func (f *figures) deadRows(w *strings.Builder) {
	p99 := func(all []sample) float64 {
		var values []float64
		for _, s := range all {
			values = append(values, s.P99)
		}
		return median(values)
	}
	value := func(d dead) string {
		with, without := p99(d.With), p99(d.Without)
		return fmt.Sprintf("%.2f (%.1f : %.1f ms)", with/without, with, without)
	}
	for _, d := range f.Dead {
		if d.Server != "Nestbox" {
			continue
		}
		theirs := ""
		if i := slices.IndexFunc(f.Dead, func(o dead) bool { return o.Op == d.Op && o.Server == "reference" }); i >= 0 {
			theirs = value(f.Dead[i])
		}
		fmt.Fprintf(w, "| p99 of %s while %d calls to a dead service hang : without | %s | %s | ≤ %.2f | %s |\n",
			d.Op, hangAtOnce, theirs, value(d), mostBesideDead, yes(p99(d.With) <= mostBesideDead*p99(d.Without)))
	}
}
