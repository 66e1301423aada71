package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// user is one account with one session, used by one worker at a time.
type user struct {
	handle          string
	id              int64 // of its session, in a database that was filled
	access, refresh string
	// successor is the jti that a replay of refresh must give.
	successor string

	did string
	// posts is how many posts the user wrote, rkey the key of the last, rev the
	// revision of the repository with it, and older the one before.
	posts      int
	rkey       string
	rev, older string

	// site is the server as a client of OAuth meets it, app the user's program there; access
	// and refresh are then its tokens.
	site *site
	app  *app
}

// operation is what workers repeat: one request, and a check of its answer.
type operation struct {
	name string
	do   func(c *conn, a *user) error
}

const password = "bench-Passw0rd"

var (
	refresh = operation{"refreshSession", func(c *conn, a *user) error {
		body, err := c.call("POST", "com.atproto.server.refreshSession", a.refresh, nil)
		if err != nil {
			return err
		}
		before := a.refresh
		a.successor = ""
		if a.access, a.refresh, err = pair(body); err == nil && a.refresh == before {
			err = errors.New("the refresh token did not rotate")
		}
		return err
	}}
	replay = operation{"the same token again", func(c *conn, a *user) error {
		body, err := c.call("POST", "com.atproto.server.refreshSession", a.refresh, nil)
		if err != nil {
			return err
		}
		_, token, err := pair(body)
		if err != nil {
			return err
		}
		jti, err := tokenID(token)
		if a.successor == "" {
			a.successor = jti
		}
		if err == nil && a.successor != jti {
			err = errors.New("a replay gave another successor")
		}
		return err
	}}
	getSession = operation{"getSession", func(c *conn, a *user) error {
		_, err := c.call("GET", "com.atproto.server.getSession", a.access, nil)
		return err
	}}
	createSession = operation{"createSession", func(c *conn, a *user) error {
		_, err := c.call("POST", "com.atproto.server.createSession", "", encode(map[string]string{"identifier": a.handle, "password": password}))
		return err
	}}
	health = operation{"_health", func(c *conn, _ *user) error {
		_, err := c.call("GET", "_health", "", nil)
		return err
	}}
	bare = operation{"fixed answer", func(c *conn, _ *user) error {
		_, err := c.call("GET", "_bare", "", nil)
		return err
	}}
)

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings always encode
	}
	return b
}

// field finds a string in an answer that holds nothing that JSON would escape:
// decoding all of it is not worth the generator's time.
func field(body []byte, name string) string {
	_, rest, _ := bytes.Cut(body, []byte(`"`+name+`":"`))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}

// pair finds the two tokens in an answer.
func pair(body []byte) (access, refresh string, err error) {
	if access, refresh = field(body, "accessJwt"), field(body, "refreshJwt"); access == "" || refresh == "" {
		return "", "", fmt.Errorf("an answer without tokens: %.200q", body)
	}
	return access, refresh, nil
}

func tokenID(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("not a token: %q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var claims struct {
		JTI string `json:"jti"`
	}
	err = json.Unmarshal(raw, &claims)
	return claims.JTI, err
}

// signUp makes n accounts, several at a time: their passwords cost CPU.
func signUp(s *server, n int) ([]*user, error) {
	accounts := make([]*user, n)
	for i := range accounts {
		accounts[i] = &user{handle: fmt.Sprintf("bench%05d.test", i)}
	}
	_, err := load{server: s, workers: min(8, n), accounts: accounts, requests: n, op: operation{"createAccount", func(c *conn, a *user) error {
		body, err := c.call("POST", "com.atproto.server.createAccount", "", encode(map[string]string{
			"handle": a.handle, "email": a.email(), "password": password,
		}))
		if err != nil {
			return err
		}
		a.did = field(body, "did")
		a.access, a.refresh, err = pair(body)
		return err
	}}}.run()
	return accounts, err
}

// load is closed: each worker sends its next request when the last is answered.
type load struct {
	server  *server
	op      operation
	workers int
	// accounts are dealt out to the workers; each takes its own in turn. Workers beyond
	// their number share one, with its tokens.
	accounts []*user
	// requests, when set, is how many to make in all; else window is how long
	// to measure after warmup.
	requests       int
	warmup, window time.Duration
	// behind is a server that the measured one asks, if there is one: what it
	// uses is not the measured one's, and no noise.
	behind *server
}

// sample is one measurement of a load.
type sample struct {
	Requests int     `json:"requests"`
	Rate     float64 `json:"ratePerSecond"`
	P50      float64 `json:"p50Milliseconds"`
	P99      float64 `json:"p99Milliseconds"`
	// CPU is the server's, in user and kernel mode.
	CPU    float64 `json:"serverCPUMicrosecondsPerRequest"`
	Memory float64 `json:"serverMemoryMiB"`
	// Others is how many cores everything but server and generator used.
	Others float64 `json:"otherCores"`
}

// noisy: the rate and the latencies say little, CPU per request somewhat less
// than it should.
func (s sample) noisy() bool { return s.Others > noisyAbove }

// noisyAbove is how many cores others may use.
const noisyAbove = 0.3

// The phases of a load.
const (
	warming int32 = iota
	measuring
	stopping
)

// run makes the load. The first request that fails ends it.
func (l load) run() (sample, error) {
	var (
		phase   atomic.Int32
		wg      sync.WaitGroup
		failed  = make(chan error, l.workers)
		latency = make([][]time.Duration, l.workers)
	)
	if l.requests > 0 {
		phase.Store(measuring)
	}
	start, err := l.usage()
	if err != nil {
		return sample{}, err
	}
	for w := range l.workers {
		wg.Go(func() {
			if err := l.work(w, &phase, &latency[w]); err != nil {
				phase.Store(stopping)
				failed <- fmt.Errorf("%s, worker %d: %w", l.op.name, w, err)
			}
		})
	}
	if l.requests == 0 {
		time.Sleep(l.warmup)
		if start, err = l.usage(); err != nil {
			return sample{}, err
		}
		phase.CompareAndSwap(warming, measuring)
		time.Sleep(l.window)
	} else {
		wg.Wait()
	}
	end, err := l.usage()
	phase.Store(stopping)
	wg.Wait()
	select {
	case err = <-failed:
	default:
	}
	if err != nil {
		return sample{}, err
	}
	return result(start, end, slices.Concat(latency...))
}

// work is one worker, on a connection of its own.
func (l load) work(w int, phase *atomic.Int32, latency *[]time.Duration) error {
	c, err := dial(l.server.host)
	if err != nil {
		return err
	}
	defer c.close()
	var own []*user
	for i := w; i < len(l.accounts); i += l.workers {
		own = append(own, l.accounts[i])
	}
	if len(own) == 0 {
		var shared user
		if len(l.accounts) > 0 {
			shared = *l.accounts[w%len(l.accounts)]
		}
		own = []*user{&shared}
	}
	*latency = make([]time.Duration, 0, 1<<16)
	share := (l.requests + l.workers - 1 - w) / l.workers
	for i := 0; phase.Load() != stopping && (l.requests == 0 || i < share); i++ {
		begun := time.Now()
		if err := l.op.do(c, own[i%len(own)]); err != nil {
			return err
		}
		if phase.Load() == measuring {
			*latency = append(*latency, time.Since(begun))
		}
	}
	return nil
}

// usage is the CPU time used until a moment, and the memory in use.
type usage struct {
	at                   time.Time
	server, self, others time.Duration
	memory               float64
}

func (l load) usage() (usage, error) {
	u := usage{at: time.Now()}
	var self syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	u.self = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	server, err1 := processCPU(l.server.pid)
	all, err2 := machineCPU()
	memory, err3 := memoryMiB(l.server.pid)
	u.server, u.memory = server, memory
	u.others = all - u.server - u.self
	if l.behind != nil {
		behind, err4 := processCPU(l.behind.pid)
		u.others -= behind
		err = errors.Join(err, err4)
	}
	return u, errors.Join(err, err1, err2, err3)
}

func result(start, end usage, latency []time.Duration) (sample, error) {
	n := len(latency)
	if n == 0 {
		return sample{}, errors.New("no request was answered in time")
	}
	slices.Sort(latency)
	at := func(q float64) float64 { return latency[int(q*float64(n-1))].Seconds() * 1000 }
	seconds := end.at.Sub(start.at).Seconds()
	return sample{
		Requests: n, Rate: float64(n) / seconds, P50: at(0.5), P99: at(0.99),
		CPU:    (end.server - start.server).Seconds() * 1e6 / float64(n),
		Memory: end.memory, Others: max(0, (end.others-start.others).Seconds()/seconds),
	}, nil
}
