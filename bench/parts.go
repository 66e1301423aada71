package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// measureSessions is the group of sessions.
func (b *bench) measureSessions(data string) error {
	if b.rows != nil {
		return b.sideBySide(data)
	}
	for _, part := range []func(data string) error{b.sideBySide, b.growth, b.scale} {
		if err := part(data); err != nil {
			return err
		}
	}
	return nil
}

// sideBySide measures every operation on all servers, in turn, so that what
// else happens on the machine happens to all of them.
func (b *bench) sideBySide(data string) (err error) {
	if !slices.ContainsFunc(loads(b.accounts), b.wants) {
		return nil
	}
	servers, err := b.startBoth(data)
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	if err != nil {
		return err
	}
	dir := filepath.Join(data, "floor")
	floor, err := own("floor", dir, dir)
	if err != nil {
		return err
	}
	servers = append(servers, floor)
	users := map[*server][]*user{}
	for _, s := range servers {
		fmt.Printf("%s: ready after %.2f s, %.0f MiB; signing up %d accounts\n", s.name, s.started.Seconds(), s.idle, b.accounts)
		b.figures.Start[s.name] = append(b.figures.Start[s.name], s.started.Seconds())
		if users[s], err = signUp(s, b.accounts); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	// Signing in comes last: it ends an account's older sessions in the end.
	for _, op := range []operation{refresh, replay, getSession, health, bare, createSession} {
		for _, workers := range workersOfCells {
			for _, accounts := range accountsOf(op, workers, b.accounts) {
				if err := b.cells(servers, users, op, workers, accounts); err != nil {
					return err
				}
			}
		}
	}
	for _, s := range servers {
		after, err := memoryMiB(s.pid)
		if err != nil {
			return err
		}
		b.figures.Memory[s.name] = idleAfter{s.idle, after}
	}
	return nil
}

// accountsOf are over how many accounts an operation is spread.
func accountsOf(op operation, workers, all int) []int {
	if op.name == refresh.name {
		return []int{all, workers}
	}
	return []int{workers}
}

// startBoth starts Nestbox and, unless it runs without, the reference.
func (b *bench) startBoth(data string) (servers []*server, err error) {
	env := slices.Clone(b.env)
	if b.log != logLevel {
		env = append(env, "PDS_LOG_LEVEL="+b.log, "LOG_ENABLED=true", "LOG_LEVEL="+b.log)
	}
	s, err := nestbox(b.binary, filepath.Join(data, "nestbox"), env...)
	if err != nil {
		return nil, err
	}
	servers = append(servers, s)
	if b.reference == "" {
		return servers, nil
	}
	folder, err := filepath.Abs(b.reference)
	if err != nil {
		return servers, err
	}
	if s, err = referencePDS(folder, filepath.Join(data, "reference"), env...); err != nil {
		return servers, err
	}
	return append(servers, s), nil
}

func stopAll(servers []*server) error {
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.stop())
	}
	return errors.Join(errs...)
}

// offers reports whether a server has an operation: the floor has no store and
// no password to check, and only it has the fixed answer; the bare proxy changes no
// answers, and the bare proof is verified for one call.
func offers(s *server, op operation) bool {
	switch s.name {
	case bareProxy:
		return strings.HasPrefix(op.name, plainName)
	case bareProof:
		return op.name == boundSession.name
	}
	switch op.name {
	case createSession.name, health.name:
		return s.name != "floor"
	case bare.name:
		return s.name == "floor"
	default:
		return true
	}
}

func (b *bench) cells(servers []*server, users map[*server][]*user, op operation, workers, accounts int) error {
	if !b.wants(target{op: op, workers: workers, accounts: accounts}) {
		return nil
	}
	cells := map[*server]*cell{}
	for range b.rounds {
		for _, s := range servers {
			if !offers(s, op) {
				continue
			}
			if cells[s] == nil {
				cells[s] = &cell{Server: s.name, Op: op.name, Workers: workers, Accounts: accounts}
			}
			sample, err := b.measure(load{server: s, op: op, workers: workers, accounts: users[s][:accounts]})
			if err != nil {
				return err
			}
			cells[s].Samples = append(cells[s].Samples, sample)
		}
	}
	for _, s := range servers {
		if c := cells[s]; c != nil {
			b.figures.Cells = append(b.figures.Cells, *c)
		}
	}
	return nil
}

// growth makes very many refreshes of few sessions, and measures their effect
// on memory and on the cost of the next one.
func (b *bench) growth(data string) (err error) {
	const sessions, each = 64, 500
	s, err := nestbox(b.binary, filepath.Join(data, "growth"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	old, err := signUp(s, sessions)
	if err != nil {
		return err
	}
	fmt.Printf("%d refreshes of %d sessions\n", b.refreshes, sessions)
	grown, err := b.measure(load{server: s, op: refresh, workers: sessions, accounts: old, requests: b.refreshes})
	if err != nil {
		return err
	}
	b.figures.Refreshes = b.refreshes
	b.figures.Memory["growth"] = idleAfter{s.idle, grown.Memory}
	b.figures.YoungTo, b.figures.OldFrom = each, b.refreshes/sessions
	signIn := operation{createSession.name, func(c *conn, u *user) error {
		body, err := c.call("POST", "com.atproto.server.createSession", "", encode(map[string]string{"identifier": u.handle, "password": password}))
		if err == nil {
			u.access, u.refresh, err = pair(body)
		}
		return err
	}}
	for range 2 * b.rounds {
		var young []*user
		for _, u := range old {
			young = append(young, &user{handle: u.handle})
		}
		if _, err := (load{server: s, op: signIn, workers: 8, accounts: young, requests: sessions}).run(); err != nil {
			return err
		}
		for _, side := range []struct {
			users   []*user
			samples *[]sample
		}{{young, &b.figures.Young}, {old, &b.figures.Old}} {
			sample, err := b.measure(load{server: s, op: refresh, workers: sessions, accounts: side.users, requests: sessions * each})
			if err != nil {
				return err
			}
			*side.samples = append(*side.samples, sample)
		}
	}
	return nil
}

// scale compares a server with many sessions stored with one that has few.
func (b *bench) scale(data string) error {
	const few = 1000
	b.figures.FewSessions, b.figures.ManySessions = few, b.stored
	fmt.Printf("filling a database with %d sessions\n", b.stored)
	small, err := fill(b.binary, filepath.Join(data, "few"), few)
	if err != nil {
		return err
	}
	large, err := fill(b.binary, filepath.Join(data, "many"), b.stored)
	if err != nil {
		return err
	}
	for _, c := range []struct{ name, dir string }{{"empty", ""}, {"many", large.dir}} {
		for i := range 2*b.rounds + 1 {
			dir := c.dir
			if dir == "" {
				dir = filepath.Join(data, fmt.Sprintf("empty%d", i))
			}
			s, err := nestbox(b.binary, dir)
			if err != nil {
				return err
			}
			if err := s.stop(); err != nil {
				return err
			}
			b.figures.Start[c.name] = append(b.figures.Start[c.name], s.started.Seconds())
		}
	}
	return b.fewAndMany(small, large, &b.figures.Few, &b.figures.Many, &b.figures.Cold)
}

// perRound is over how many sessions that were not used before a measurement is
// spread, more than it makes requests.
const perRound = 150_000

// fewAndMany measures the refresh of sessions in use, with few stored and with many, and,
// with many, of such that were not used before.
func (b *bench) fewAndMany(small, large stored, fews, manys, colds *[]sample) (err error) {
	var servers []*server
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	start := func(s stored) (load, error) {
		srv, err := nestbox(b.binary, s.dir)
		if err != nil {
			return load{}, err
		}
		srv.name = fmt.Sprint(s.sessions)
		servers = append(servers, srv)
		op, err := s.refresh(srv)
		return load{server: srv, op: op, workers: 64, accounts: s.users(small.sessions)}, err
	}
	few, err := start(small)
	if err != nil {
		return err
	}
	many, err := start(large)
	if err != nil {
		return err
	}
	unused := large.users(small.sessions + int64(2*b.rounds*perRound))[small.sessions:]
	cold := many
	cold.op.name = "refresh of an unused one"
	for round := range 2 * b.rounds {
		cold.accounts = unused
		if len(unused) > perRound {
			cold.accounts = unused[round*perRound%(len(unused)-perRound+1):][:perRound]
		}
		for _, side := range []struct {
			load
			samples *[]sample
		}{{few, fews}, {many, manys}, {cold, colds}} {
			s, err := b.measure(side.load)
			if err != nil {
				return err
			}
			*side.samples = append(*side.samples, s)
		}
	}
	return nil
}
