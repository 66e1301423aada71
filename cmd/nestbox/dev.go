package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nestbox/config"
	"nestbox/control"
	"nestbox/faults"
	"nestbox/faults/findings"
	"nestbox/server"
)

type devCmd struct {
	Faults devFaultsCmd `cmd:"" help:"Show which faults the server makes on purpose, or set them."`
	Watch  devWatchCmd  `cmd:"" help:"Follow the calls of clients, and what they get wrong."`
	Report devReportCmd `cmd:"" help:"Sum up what clients got wrong, since faults were set."`
}

// developing returns what stands around a server in development, which notices once the server has checked
// the plan: nothing, and an error if faults are asked for, on any other server.
func developing(dev bool, plan string, notices io.Writer) (*server.Around, error) {
	if !dev {
		if plan != "" {
			return nil, errors.New("--faults makes a server fail on purpose, so it needs --dev")
		}
		return nil, nil
	}
	f, notice := &faults.Faults{}, ""
	if plan != "" {
		p, err := findPlan(plan)
		if err != nil {
			return nil, err
		}
		p = f.Start(p)
		notice = fmt.Sprintf("Faults on purpose: %s, seed %d. See nestbox dev faults.\n\n", p.Name, p.Seed)
	}
	return &server.Around{
		Listener: f.Listener, Commands: f.Commands(),
		Handler: func(next http.Handler, in server.Inside) (http.Handler, error) {
			h, err := f.Handler(next, faults.Inside(in))
			if err == nil {
				fmt.Fprint(notices, notice)
			}
			return h, err
		},
	}, nil
}

// findPlan returns the plan of a preset or a file, with the seed that may stand behind it: mobile:7.
func findPlan(name string) (faults.Plan, error) {
	seed := uint64(0)
	if i := strings.LastIndexByte(name, ':'); i > 0 {
		if n, err := strconv.ParseUint(name[i+1:], 10, 32); err == nil {
			if n == 0 {
				return faults.Plan{}, fmt.Errorf("%q: a seed is above 0; without one a seed is picked and shown", name)
			}
			name, seed = name[:i], n
		}
	}
	p, err := readPlan(name)
	if seed != 0 {
		p.Seed = uint32(seed)
	}
	return p, err
}

func readPlan(name string) (faults.Plan, error) {
	if p, ok := faults.Preset(name); ok {
		return p, nil
	}
	file, err := os.Open(name) //nolint:gosec // the file that the author names
	if errors.Is(err, os.ErrNotExist) {
		return faults.Plan{}, fmt.Errorf("%q is neither a preset nor a file: nestbox dev faults --list shows the presets", name)
	}
	if err != nil {
		return faults.Plan{}, fmt.Errorf("read faults: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	p, err := faults.ReadPlan(file)
	if p.Name == "" {
		p.Name = filepath.Base(name)
	}
	return p, err
}

// settings loads the settings of a command for authors of clients. Where none are, it needs none, as
// serve --dev does not.
func (w where) settings(environ []string) (config.Config, error) {
	cfg, _, err := config.Load(w.flags(), environ)
	if err != nil {
		w.Dev = true
		if dev, _, failed := config.Load(w.flags(), environ); failed == nil {
			return dev, nil
		}
	}
	return cfg, err
}

// ask runs a command for authors of clients on the running server.
func ask[A, R any](w where, c control.Command[A, R], args A) (result R, err error) {
	cfg, err := w.settings(os.Environ())
	if err != nil {
		return result, err
	}
	result, err = control.Call(context.Background(), cfg.DataDirectory, c, args)
	return result, explained(err)
}

// explained names what is missing for a command for authors of clients.
func explained(err error) error {
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return errors.New("no server runs on the data directory: start nestbox serve --dev")
	case errors.Is(err, control.ErrUnknown):
		return errors.New("the server runs without --dev: commands of nestbox dev need nestbox serve --dev")
	}
	return err
}

type devFaultsCmd struct {
	where
	output

	Plan string `arg:"" optional:"" help:"A preset or a file, and its seed if it is not to be picked: mobile:7. off ends all faults."`
	List bool   `help:"List the presets."`
}

func (c *devFaultsCmd) Run() error {
	if c.List {
		lines := faults.Presets()
		return c.print(lines, func(w io.Writer) {
			for _, l := range lines {
				fmt.Fprintf(w, "%s\t%s\n", l.Name, l.About)
			}
		})
	}
	var args faults.SetArgs
	switch c.Plan {
	case "":
	case "off":
		args.Off = true
	default:
		p, err := findPlan(c.Plan)
		if err != nil {
			return err
		}
		args.Plan = &p
	}
	state, err := ask(c.where, faults.CmdFaults, args)
	if err != nil {
		return err
	}
	return c.print(state, func(w io.Writer) { printFaults(w, state) })
}

func printFaults(w io.Writer, state faults.State) {
	if state.Plan == nil {
		fmt.Fprintln(w, "no faults: set some with nestbox dev faults PRESET")
		return
	}
	fmt.Fprintf(w, "%s, seed %d\n", state.Plan.Name, state.Plan.Seed)
	for _, name := range state.Unknown {
		fmt.Fprintf(w, "there is no account %s\n", name)
	}
	for _, h := range state.Happened {
		fmt.Fprintf(w, "%d of %d\t%s\n", h.Times, h.Calls, h.Fault)
	}
}

type devReportCmd struct {
	where
	output

	Since string `help:"Only calls since a time (RFC 3339), or of so long: 5m." placeholder:"TIME|DURATION"`
}

func (c *devReportCmd) Run() error {
	var args faults.ReportArgs
	if within, err := time.ParseDuration(c.Since); err == nil {
		args.Within = within
	} else if args.Since, err = parseAt(c.Since); err != nil {
		return fmt.Errorf("invalid --since %q: write a time such as 2026-11-29T22:00:00Z, or a duration such as 5m", c.Since)
	}
	report, err := ask(c.where, faults.CmdReport, args)
	if err != nil {
		return err
	}
	return c.print(report, func(w io.Writer) { printDevReport(w, report) })
}

// printDevReport prints a report for people.
func printDevReport(w io.Writer, r faults.Report) {
	if r.Calls == 0 {
		fmt.Fprintln(w, "no calls: they are recorded from nestbox dev faults PRESET on; the preset none makes no fault")
		return
	}
	fmt.Fprintf(w, "%d calls from %s to %s\n", r.Calls, r.From.Format(time.TimeOnly), r.To.Format(time.TimeOnly))
	for _, c := range r.Clients {
		fmt.Fprintf(w, "\n%s: %d calls, %d refreshes, %d sessions\n", clientName(c.UserAgent, c.ClientID), c.Calls, c.Refreshes, c.Sessions)
		if len(c.Findings) == 0 {
			fmt.Fprintln(w, "  nothing to find fault with")
		}
		for _, f := range c.Findings {
			printFinding(w, f, timesOf(f.Times))
		}
	}
	if !r.Recording {
		fmt.Fprintln(w, "\nNothing is recorded now: nestbox dev faults PRESET begins again.")
	}
}

func clientName(userAgent, id string) string {
	return cmp.Or(id, userAgent, "a client without a name")
}

// printFinding prints what was found, how often, the evidence, and what to do.
func printFinding(w io.Writer, f faults.Found, times string) {
	for _, l := range findings.Lines() {
		if l.Kind != f.Kind {
			continue
		}
		fmt.Fprintf(w, "  %s, %s: the client %s%s\n", f.Kind, times, l.Means, aboutOf(f))
		for _, seen := range f.Evidence {
			fmt.Fprintf(w, "    %s\n", seen)
		}
		fmt.Fprintf(w, "    to do: %s (docs/clients.md#%s)\n", l.Advice, f.Kind)
	}
}

func timesOf(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// aboutOf names the account and the session of a finding.
func aboutOf(f faults.Found) string {
	var names []string
	if account := cmp.Or(f.Handle, f.Account); account != "" {
		names = append(names, account)
	}
	if f.SessionNumber != 0 {
		names = append(names, fmt.Sprintf("session %d", f.SessionNumber))
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

type devWatchCmd struct {
	where

	JSON bool `name:"json" help:"Print JSON, a line for each call and finding."`
}

func (c *devWatchCmd) Run() error {
	return c.follow(context.Background(), printable{os.Stdout}, os.Stderr)
}

// follow prints calls and findings until ctx or the server ends; notes get what is missing.
func (c *devWatchCmd) follow(ctx context.Context, to, notes io.Writer) error {
	cfg, err := c.settings(os.Environ())
	if err != nil {
		return err
	}
	state, err := control.Call(ctx, cfg.DataDirectory, faults.CmdFaults, faults.SetArgs{})
	if err != nil {
		return explained(err)
	}
	if state.Plan == nil {
		fmt.Fprintln(notes, "nothing is recorded yet: set faults with nestbox dev faults PRESET; the preset none makes no fault")
	}
	lines := &lineWriter{each: func(raw []byte) error {
		if c.JSON {
			_, err := fmt.Fprintf(to, "%s\n", raw)
			return err
		}
		var line faults.WatchLine
		if err := json.Unmarshal(raw, &line); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		if line.Call != nil {
			fmt.Fprintln(to, callLine(*line.Call))
		}
		if line.Finding != nil {
			times := timesOf(line.Finding.Times)
			if line.Again > 0 {
				times = "again, " + timesOf(line.Again)
			}
			fmt.Fprintf(to, "%s\n", clientName(line.Finding.Client, line.Finding.ClientID))
			printFinding(to, *line.Finding, times)
		}
		if line.Off {
			fmt.Fprintln(notes, "faults were turned off: nothing is recorded until they are set again")
		}
		return nil
	}}
	return explained(control.CallFile(ctx, cfg.DataDirectory, faults.WatchCommand, struct{}{}, strings.NewReader(""), lines))
}

// callLine is a call in a line: when, what, the answer, the faults, the generations, by whom.
func callLine(c findings.Call) string {
	words := []string{c.At.Format("15:04:05.000"), c.Method, strconv.Itoa(c.Status)}
	if c.Lost {
		words[2] = "lost"
	}
	if c.Error != "" {
		words = append(words, c.Error)
	}
	if c.Token == findings.RefreshToken && c.Generation != findings.None {
		words = append(words, fmt.Sprintf("generation %d", c.Generation))
	}
	if c.Given != findings.None {
		words = append(words, fmt.Sprintf("gets %d", c.Given))
	}
	if len(c.Faults) > 0 {
		words = append(words, "["+strings.Join(c.Faults, " ")+"]")
	}
	return strings.Join(append(words, clientName(c.Client, c.ClientID)), "  ")
}
