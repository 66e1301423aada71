package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// made numbers the accounts that makeAccount makes.
var made atomic.Int64

// makeAccount makes a new account: a password hash, an operation at the PLC
// directory, a repository, a session.
var makeAccount = operation{"createAccount", func(c *conn, _ *user) error {
	name := fmt.Sprintf("new%07d", made.Add(1))
	body, err := c.call("POST", "com.atproto.server.createAccount", "", encode(map[string]string{
		"handle": name + ".test", "email": name + "@example.com", "password": password,
	}))
	if err != nil {
		return err
	}
	_, _, err = pair(body)
	return err
}}

// resetPassword is the way of an owner who forgot the password: it requests the
// mail, waits for it, sets a password with its code, and signs in.
func resetPassword(mails *postbox) operation {
	return operation{"resetPassword flow", func(c *conn, u *user) error {
		code := mails.expect(u.email())
		if _, err := c.call("POST", "com.atproto.server.requestPasswordReset", "", encode(map[string]string{"email": u.email()})); err != nil {
			return err
		}
		token, err := mails.wait(code)
		if err != nil {
			return err
		}
		if _, err := c.call("POST", "com.atproto.server.resetPassword", "", encode(map[string]string{"token": token, "password": password})); err != nil {
			return err
		}
		return createSession.do(c, u)
	}}
}

// email is that of an account of signUp.
func (u *user) email() string {
	name, _, _ := strings.Cut(u.handle, ".")
	return name + "@example.com"
}

// accountWorkers is how many are under way at a time: most of their time is CPU,
// for the password hash.
const accountWorkers = 8

func accountLoads(mails *postbox) []target {
	var rows []target
	for _, op := range []operation{makeAccount, createSession, refresh, resetPassword(mails)} {
		rows = append(rows, target{op: op, workers: accountWorkers, accounts: accountWorkers})
	}
	return rows
}

// crowd is what was measured with Few accounts in a data directory, and with Many,
// each of them with ten sessions.
type crowd struct {
	Few   int64               `json:"few"`
	Many  int64               `json:"many"`
	Start map[int64][]float64 `json:"startSeconds"`
	// Memory is in MiB.
	Memory map[int64]idleAfter `json:"memory"`
	SignIn map[int64][]sample  `json:"createSession"`
	Fresh  map[int64][]sample  `json:"refreshSession"`
}

// measureAccounts is the group of accounts.
func (b *bench) measureAccounts(data string) (err error) {
	mails, err := newPostbox()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mails.close()) }()
	b.env = mails.settings()
	err = b.beside(filepath.Join(data, "accounts"), accountLoads(mails), func(*server, []*user) error { return nil })
	b.env = nil
	if err != nil || b.rows != nil {
		return err
	}
	return b.crowd(filepath.Join(data, "crowd"))
}

// crowd compares a server of many accounts with one of few.
func (b *bench) crowd(data string) (err error) {
	c := &crowd{
		Start: map[int64][]float64{}, Memory: map[int64]idleAfter{}, SignIn: map[int64][]sample{}, Fresh: map[int64][]sample{},
	}
	b.figures.Crowd = c
	var dirs []stored
	for _, sessions := range []int64{1000, b.stored} {
		accounts := sessions / sessionsPerAccount
		fmt.Printf("filling a database with %d accounts\n", accounts)
		s, err := fill(b.binary, filepath.Join(data, fmt.Sprint(accounts)), sessions)
		if err != nil {
			return err
		}
		dirs = append(dirs, s)
	}
	c.Few, c.Many = dirs[0].accounts(), dirs[1].accounts()
	for range b.rounds {
		for _, s := range dirs {
			srv, err := nestbox(b.binary, s.dir)
			if err != nil {
				return err
			}
			c.Start[s.accounts()] = append(c.Start[s.accounts()], srv.started.Seconds())
			if err := srv.stop(); err != nil {
				return err
			}
		}
	}
	var servers []*server
	defer func() { err = errors.Join(err, stopAll(servers)) }()
	for _, s := range dirs {
		srv, err := nestbox(b.binary, s.dir)
		if err != nil {
			return err
		}
		srv.name = fmt.Sprint(s.accounts())
		servers = append(servers, srv)
	}
	return b.crowdRounds(c, dirs, servers)
}

func (b *bench) crowdRounds(c *crowd, dirs []stored, servers []*server) error {
	for i, s := range dirs {
		op, err := s.refresh(servers[i])
		if err != nil {
			return err
		}
		// As many sessions of each are in use, those of the many far apart.
		users := s.users(dirs[0].sessions)
		for _, u := range users {
			u.handle = fmt.Sprintf("stored%d.test", 2+u.id%s.accounts())
		}
		dirs[i].op, dirs[i].inUse = op, users
	}
	for range 2 * b.rounds {
		for i, s := range dirs {
			n := s.accounts()
			sample, err := b.measure(load{server: servers[i], op: createSession, workers: accountWorkers, accounts: s.inUse})
			if err != nil {
				return err
			}
			c.SignIn[n] = append(c.SignIn[n], sample)
			if sample, err = b.measure(load{server: servers[i], op: s.op, workers: 64, accounts: s.inUse}); err != nil {
				return err
			}
			c.Fresh[n] = append(c.Fresh[n], sample)
			c.Memory[n] = idleAfter{servers[i].idle, sample.Memory}
		}
	}
	return nil
}

func (f *figures) accountTables(w *strings.Builder) {
	rows := accountLoads(nil)
	f.noise(w, rows)
	f.compared(w, rows)
	w.WriteString("\n| CPU | reference | Nestbox |\n|---|--:|--:|\n")
	part := func(what string, of func(server string) float64) {
		cells := []string{"", ""}
		for i, server := range []string{"reference", "Nestbox"} {
			if us := of(server); us > 0 {
				cells[i] = micros(us)
			}
		}
		fmt.Fprintf(w, "| %s | %s |\n", what, strings.Join(cells, " | "))
	}
	cpu := func(server, op string) float64 {
		s, _ := f.find(server, op, accountWorkers, accountWorkers)
		return s.CPU
	}
	hash := func(server string) float64 { return cpu(server, createSession.name) - cpu(server, refresh.name) }
	part("the password hash: createSession less refreshSession", hash)
	part("createAccount without it", func(server string) float64 { return cpu(server, makeAccount.name) - hash(server) })
	if c := f.Crowd; c != nil {
		c.table(w)
	}
}

func (c *crowd) table(w *strings.Builder) {
	w.WriteString(limitsHead)
	for _, n := range []int64{c.Few, c.Many} {
		fmt.Fprintf(w, "| start until READY, %d accounts | | %.2f s | | |\n", n, median(c.Start[n]))
		fmt.Fprintf(w, "| memory, %d accounts: idle, after the load | | %.0f, %.0f MiB | | |\n", n, c.Memory[n].Idle, c.Memory[n].After)
	}
	ratio(w, fmt.Sprintf("CPU of createSession, %d accounts : %d", c.Many, c.Few), 1.3, c.SignIn[c.Few], c.SignIn[c.Many])
	ratio(w, fmt.Sprintf("CPU of refreshSession, %d accounts : %d", c.Many, c.Few), 1.3, c.Fresh[c.Few], c.Fresh[c.Many])
}
