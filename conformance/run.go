package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Outcome is the result of a check.
type Outcome string

// The outcomes.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"    // a client breaks on it, or the specification forbids it
	Differs Outcome = "differs" // allowed otherwise
	Skipped Outcome = "skipped" // could not be looked at
)

// Result is what was found for one check.
type Result struct {
	Check   string  `json:"check"`
	Expects string  `json:"expects"`
	Why     string  `json:"why"`
	Outcome Outcome `json:"outcome"`
	// Detail has what the server answered, unless the outcome is Pass.
	Detail string `json:"detail,omitempty"`
}

// Report is what Run found.
type Report struct {
	Server    string          `json:"server"`
	DID       string          `json:"did"`
	StartedAt time.Time       `json:"startedAt"`
	Seconds   float64         `json:"seconds"`
	Calls     int             `json:"calls"`
	MostCalls int             `json:"mostCalls"`
	Counts    map[Outcome]int `json:"counts"`
	Checks    []Result        `json:"checks"`
	// Left counts refresh tokens of this run that deleteSession did not accept at the end.
	Left int `json:"left"`
	// Unanswered counts those for which it had no answer; Unseen counts sign-ins without an answer,
	// each of which may have opened a session that this run cannot sign out of.
	Unanswered int `json:"unanswered"`
	Unseen     int `json:"unseen"`
}

// Options of Run.
type Options struct {
	Target Target
	// Identifier is a handle, a DID or an e-mail address; Password may be an app password.
	Identifier, Password string
	// Version is in the User-Agent, which the account's owner sees in the list of sessions.
	Version string
	// Progress is called after each check that was reached.
	Progress func(Result)
}

// Errors of Run.
var (
	// ErrSignIn: createSession did not open the first session, so nothing could be checked.
	ErrSignIn = errors.New("cannot sign in")
	// ErrIncomplete: some checks were not made, as the report shows.
	ErrIncomplete = errors.New("not all checks were made")
)

const (
	// most is how long the checks may take together; what is left of them is skipped.
	most = 100 * time.Second
	// parting is how long signing out may take.
	parting = 15 * time.Second
	// longest is how long all may take together, with calls that have begun.
	longest = 2 * time.Minute
	// atOnce is how many refreshes one check makes at the same time, as tabs do.
	atOnce = 8
)

// MostCalls returns how many calls Run makes at most, signing in and out with them.
func MostCalls() int {
	n := 2 // the first session's
	for _, c := range checks() {
		n += c.calls + c.tokens
	}
	return n
}

// Names returns the names of the checks, in their order.
func Names() []string {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// check is one row of the table.
type check struct {
	name, expects, why string
	// calls are made at most. tokens of refresh are in their answers at most: each costs a
	// call more at the end.
	calls, tokens int
	run           func(ctx context.Context, r *runner) verdict
}

// runner is the state that checks share.
type runner struct {
	*client

	identifier, password string

	// first is the answer that opened main, which later checks refresh; got is getSession's
	// answer, refreshed one of refreshSession.
	first, got, refreshed answer
	main                  session
	opened                time.Time // when first came
	serverDID             string
	rotated               bool // a refresh gave another refresh token
	// unproven is the answer to a wrong password.
	unproven answer
	// spare are sessions that nobody uses yet.
	spare []session
	// ended is a session that was signed out: its newest pair, and the one before.
	ended, before session

	oauth authorization
}

// Run checks a server. Its errors are ErrSignIn, and ErrIncomplete with a report of what was
// found before ctx ended, the time was over or the server answered 429. What a check finds is
// not an error.
func Run(ctx context.Context, o Options) (Report, error) {
	began := time.Now()
	report := Report{Server: o.Target.Origin, StartedAt: began.UTC().Truncate(time.Second), MostCalls: MostCalls(), Counts: map[Outcome]int{}}
	r := &runner{client: newClient(o.Target, o.Version, report.MostCalls), identifier: o.Identifier, password: o.Password}
	defer r.http.CloseIdleConnections()
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()

	r.main, r.first = r.signIn(bounded, o.Identifier)
	r.opened = time.Now()
	if r.first.is(statusOK).outcome != Pass {
		return report, fmt.Errorf("%w: createSession: %s", ErrSignIn, r.first.said())
	}
	if r.main == (session{handle: r.main.handle}) {
		return report, fmt.Errorf("%w: createSession: %s without tokens and a DID: is it a PDS?", ErrSignIn, r.first.said())
	}
	report.DID = r.main.did
	for _, c := range checks() {
		v := skipped("not reached")
		reached := bounded.Err() == nil && r.pause() == nil
		if reached {
			v = c.run(bounded, r)
		}
		result := Result{c.name, c.expects, c.why, v.outcome, brief(v.detail)}
		report.Checks = append(report.Checks, result)
		report.Counts[v.outcome]++
		if reached && o.Progress != nil {
			o.Progress(result)
		}
	}

	var incomplete error
	switch {
	case ctx.Err() != nil:
		incomplete = fmt.Errorf("%w: interrupted", ErrIncomplete)
	case bounded.Err() != nil:
		incomplete = fmt.Errorf("%w: they took longer than %s", ErrIncomplete, most)
	case r.pause() != nil:
		incomplete = fmt.Errorf("%w: %w", ErrIncomplete, r.pause())
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	report.Left, report.Unanswered = r.leave(leaving)
	report.Unseen = r.unseen
	report.Calls, report.Seconds = r.made(), time.Since(began).Round(time.Millisecond).Seconds()
	return report, incomplete
}
