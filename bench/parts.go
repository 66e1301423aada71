package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// sideBySide measures every operation on all servers, in turn, so that what
// else happens on the machine happens to all of them.
func (b *bench) sideBySide(data string) (err error) {
	servers, err := b.startAll(data)
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
	}()
	if err != nil {
		return err
	}
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

// startAll starts what is compared.
func (b *bench) startAll(data string) (servers []*server, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	start := []func() (*server, error){
		func() (*server, error) { return nestbox(b.binary, filepath.Join(data, "nestbox")) },
		func() (*server, error) {
			dir := filepath.Join(data, "floor")
			return ours("floor", dir, self, "floor", dir)
		},
	}
	if b.reference != "" {
		folder, err := filepath.Abs(b.reference)
		if err != nil {
			return nil, err
		}
		start = append(start, func() (*server, error) { return referencePDS(folder, filepath.Join(data, "reference")) })
	}
	for _, f := range start {
		s, err := f()
		if err != nil {
			return servers, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// offers says whether a server has an operation: the floor has no store to ask
// and no password to check, and it alone has the fixed answer.
func offers(s *server, op operation) bool {
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

// growth makes very many refreshes of few sessions: what do they leave behind,
// in memory and in the cost of the next one?
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
	return b.fewAndMany(small, large)
}

// perRound is over how many stored sessions one measurement is spread, more
// than it makes requests.
const perRound = 150_000

func (b *bench) fewAndMany(small, large stored) (err error) {
	type side struct {
		*server

		op      operation
		users   []*user
		samples *[]sample
	}
	var sides []side
	defer func() {
		for _, s := range sides {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, c := range []struct {
		stored

		samples *[]sample
	}{{small, &b.figures.Few}, {large, &b.figures.Many}} {
		op, err := c.refresh()
		if err != nil {
			return err
		}
		s, err := nestbox(b.binary, c.dir)
		if err != nil {
			return err
		}
		s.name = fmt.Sprint(c.sessions)
		sides = append(sides, side{s, op, c.users(int64(2 * b.rounds * perRound)), c.samples})
	}
	for round := range 2 * b.rounds {
		for _, s := range sides {
			users := s.users
			if len(users) > perRound {
				// None of them was asked for before: nothing of them is in a cache.
				from := round * perRound % (len(users) - perRound + 1)
				users = users[from:][:perRound]
			}
			sample, err := b.measure(load{server: s.server, op: s.op, workers: 64, accounts: users})
			if err != nil {
				return err
			}
			*s.samples = append(*s.samples, sample)
		}
	}
	return nil
}
