package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"nestbox/control"
	"nestbox/faults/findings"
)

// The commands of the operator that Faults answers.
const (
	// CmdFaults shows which faults happen, and changes it.
	CmdFaults control.Command[SetArgs, State] = "dev.faults"
	// CmdReport sums up what clients got wrong.
	CmdReport control.Command[ReportArgs, Report] = "dev.report"
	// WatchCommand answers with WatchLines as JSON, one a line, until the caller leaves.
	WatchCommand = "dev.watch"
)

// SetArgs are the arguments of CmdFaults; without any it shows.
type SetArgs struct {
	// Plan is the plan from now on; Off ends all faults.
	Plan *Plan `json:"plan,omitzero"`
	Off  bool  `json:"off,omitzero"`
}

// State is which faults happen.
type State struct {
	// Plan is nil if everything is off.
	Plan *Plan `json:"plan"`
	// Happened is how often each fault of the plan had an effect, and of how many calls that it names.
	Happened []Happened `json:"happened,omitempty"`
	// Unknown are the accounts that the plan names and the server does not have.
	Unknown []string `json:"unknown,omitempty"`
}

// Happened are the counts of a fault.
type Happened struct {
	Fault string `json:"fault"`
	Calls int    `json:"calls"`
	Times int    `json:"times"`
}

// ReportArgs are the arguments of CmdReport: since when calls count, or in which time up to now; all
// if both are zero.
type ReportArgs struct {
	Since  time.Time     `json:"since,omitzero"`
	Within time.Duration `json:"within,omitzero"`
}

// Report is what clients did.
type Report struct {
	// Recording: calls are recorded now. They are from when faults are set, also the preset none.
	Recording bool      `json:"recording"`
	From      time.Time `json:"from,omitzero"`
	To        time.Time `json:"to,omitzero"`
	Calls     int       `json:"calls"`
	Clients   []Client  `json:"clients"`
}

// Client is what one client did.
type Client struct {
	UserAgent string  `json:"userAgent"`
	ClientID  string  `json:"clientId,omitempty"`
	Calls     int     `json:"calls"`
	Refreshes int     `json:"refreshes"`
	Sessions  int     `json:"sessions"`
	Findings  []Found `json:"findings"`
}

// Found is a finding, with the names by which people know what it is about.
type Found struct {
	findings.Finding

	// Handle is the account's, SessionNumber the session's in nestbox session list.
	Handle        string `json:"handle,omitempty"`
	SessionNumber int64  `json:"sessionNumber,omitempty"`
}

// WatchLine is a call, a finding that has come up, or that faults were turned off, so that no calls are
// recorded; one of the three.
type WatchLine struct {
	Call    *findings.Call `json:"call,omitempty"`
	Finding *Found         `json:"finding,omitempty"`
	// Again is how often the finding came since it was shown, or the watch began; the evidence is the newest
	// then. Zero: it is new.
	Again int  `json:"again,omitempty"`
	Off   bool `json:"off,omitempty"`
}

// Commands returns the commands of the operator that faults answer.
func (f *Faults) Commands() control.Commands {
	return control.Commands{
		Plain: control.Table(control.Handle(CmdFaults, f.answer), control.Handle(CmdReport, f.report)),
		Files: map[string]control.FileCommand{WatchCommand: f.watch},
	}
}

// answer answers CmdFaults.
func (f *Faults) answer(ctx context.Context, args SetArgs) (State, error) {
	if args.Plan != nil {
		if err := errors.Join(args.Plan.Check(), args.Plan.checkRoutes(f.in.Routes)); err != nil {
			return State{}, err
		}
	}
	if args.Off || args.Plan != nil {
		f.set(args.Plan)
		f.connections.back()
		f.liftAll(ctx)
	}
	s := f.state()
	if s.Plan != nil {
		s.Unknown = f.unknown(ctx, *s.Plan)
	}
	return s, nil
}

// unknown returns which accounts that a plan names the server does not have: they may still be to come.
func (f *Faults) unknown(ctx context.Context, p Plan) (all []string) {
	for _, fault := range p.Faults {
		for _, name := range fault.Accounts {
			who := map[string]string{"account": name}
			if !slices.Contains(all, name) && f.in.Run(ctx, "account.info", who, &struct{}{}) != nil {
				all = append(all, name)
			}
		}
	}
	return all
}

func (f *Faults) state() State {
	p := f.running.Load()
	if p == nil {
		return State{}
	}
	plan := p.Plan
	s := State{Plan: &plan}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, fault := range p.Faults {
		calls := 0
		for _, n := range p.calls[i] {
			calls += n
		}
		s.Happened = append(s.Happened, Happened{fault.String(), calls, p.acted[i]})
	}
	return s
}

// report answers CmdReport.
func (f *Faults) report(ctx context.Context, args ReportArgs) (Report, error) {
	since := args.Since
	if args.Within > 0 {
		since = f.in.Now().Add(-args.Within)
	}
	r := reportOf(f.recorder.since(since), f.namer(ctx))
	r.Recording = f.running.Load() != nil
	return r, nil
}

// namer returns what names findings. It looks each account up once.
func (f *Faults) namer(ctx context.Context) func(findings.Finding) Found {
	handles := map[string]string{}
	return func(one findings.Finding) Found {
		handle, known := handles[one.Account]
		if !known && one.Account != "" {
			var is struct{ Handle string }
			if f.in.Run(ctx, "account.info", map[string]string{"account": one.Account}, &is) == nil {
				handle = is.Handle
			}
			handles[one.Account] = handle
		}
		text, _, _ := strings.Cut(one.Session, "-")
		number, _ := strconv.ParseInt(text, 10, 64)
		return Found{one, handle, number}
	}
}

// reportOf puts calls and what is found in them together by client, in the order in which they came.
func reportOf(calls []findings.Call, name func(findings.Finding) Found) Report {
	r, at := counted(calls)
	for _, found := range findings.Of(calls) {
		of := at(found.Client, found.ClientID)
		of.Findings = append(of.Findings, name(found))
	}
	return *r
}

// counted returns the report of calls without findings, and what finds a client in it.
func counted(calls []findings.Call) (r *Report, at func(userAgent, id string) *Client) {
	r = &Report{Calls: len(calls), Clients: []Client{}}
	sessions, clients := map[[3]string]bool{}, map[[2]string]int{}
	at = func(userAgent, id string) *Client {
		i, known := clients[[2]string{userAgent, id}]
		if !known {
			i = len(r.Clients)
			clients[[2]string{userAgent, id}] = i
			r.Clients = append(r.Clients, Client{UserAgent: userAgent, ClientID: id, Findings: []Found{}})
		}
		return &r.Clients[i]
	}
	for _, c := range calls {
		of := at(c.Client, c.ClientID)
		of.Calls++
		if c.Purpose == findings.Refresh {
			of.Refreshes++
		}
		if key := [3]string{c.Client, c.ClientID, c.Session}; c.Session != "" && !sessions[key] {
			sessions[key] = true
			of.Sessions++
		}
		if r.From.IsZero() || c.At.Before(r.From) {
			r.From = c.At
		}
		if c.At.After(r.To) {
			r.To = c.At
		}
	}
	return r, at
}

// watch answers WatchCommand. Findings are looked for each second in which calls came.
func (f *Faults) watch(ctx context.Context, _ []byte, in io.Reader, out io.Writer) error {
	if _, err := io.Copy(io.Discard, in); err != nil { // only then it is noticed that the caller leaves
		return fmt.Errorf("read command: %w", err)
	}
	lines, end := f.recorder.watch()
	defer end()
	to := json.NewEncoder(out)
	flush := func() error {
		if stream, ok := out.(interface{ Flush() error }); ok {
			return stream.Flush()
		}
		return nil
	}
	if err := flush(); err != nil {
		return err
	}
	n := news{recorder: &f.recorder}
	n.skip(f.in.Now()) // what there is by now is the report's
	var look <-chan time.Time
	if n.waits {
		look = time.After(time.Second)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.stopped():
			return nil
		case line := <-lines:
			if look == nil {
				look = time.After(time.Second)
			}
			if err := to.Encode(line); err != nil {
				return err
			}
		case <-look:
			look = nil
			name := f.namer(ctx)
			for _, one := range n.next(f.in.Now()) {
				named := name(one.Finding)
				if err := to.Encode(WatchLine{Finding: &named, Again: one.again}); err != nil {
					return err
				}
			}
			if n.waits {
				look = time.After(time.Second)
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
}

// news are the findings that a watch has not shown yet.
type news struct {
	recorder *recorder
	cleared  int // as it was when some were last shown
	shown    map[string]showing
	waits    bool // there are some that are not settled, or were shown a moment ago
}

// showing is how often a finding had come up, and when last, as it was shown at a time.
type showing struct {
	times    int
	last, at time.Time
}

// one is a finding, and how often it came again since it was shown; zero for a new one.
type one struct {
	findings.Finding

	again int
}

// pauseOfNews is how long a finding that was shown is not shown again.
const pauseOfNews = 10 * time.Second

// skip leaves out what has come up by now.
func (n *news) skip(now time.Time) {
	n.next(now)
	for key, was := range n.shown {
		was.at = time.Time{} // nobody has seen it
		n.shown[key] = was
	}
}

// next returns the findings that have come up, or come again, and are settled.
func (n *news) next(now time.Time) (all []one) {
	calls, cleared := n.recorder.all()
	if n.shown == nil || n.cleared != cleared { // a new record
		n.shown, n.cleared = map[string]showing{}, cleared
	}
	n.waits = false
	for _, found := range findings.Of(calls) {
		was, known := n.shown[key(found)]
		switch {
		case known && !found.Last.After(was.last):
		case !found.Settled(now), known && now.Sub(was.at) < pauseOfNews:
			n.waits = true
		default:
			n.shown[key(found)] = showing{found.Times, found.Last, now}
			again := 0
			if known {
				again = max(1, found.Times-was.times) // the record may have lost some
				found.Evidence = []string{found.Newest}
			}
			all = append(all, one{found, again})
		}
	}
	return all
}

// key names what a finding is about.
func key(f findings.Finding) string {
	return fmt.Sprintf("%s %q %q %q %q", f.Kind, f.Client, f.ClientID, f.Account, f.Session)
}
