package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"nestbox/config"
	"nestbox/control"
	"nestbox/faults"
	"nestbox/server"
)

type devCmd struct {
	Faults devFaultsCmd `cmd:"" help:"Show which faults the server makes on purpose, or set them."`
}

// developing returns what stands around a server in development, and a notice of it: nothing, and
// an error if faults are asked for, on any other server.
func developing(dev bool, plan string) (*server.Around, string, error) {
	if !dev {
		if plan != "" {
			return nil, "", errors.New("--faults makes a server fail on purpose, so it needs --dev")
		}
		return nil, "", nil
	}
	f, notice := &faults.Faults{}, ""
	if plan != "" {
		p, err := findPlan(plan)
		if err != nil {
			return nil, "", err
		}
		p = f.Start(p)
		notice = fmt.Sprintf("Faults on purpose: %s, seed %d. See nestbox dev faults.\n\n", p.Name, p.Seed)
	}
	return &server.Around{
		Listener: f.Listener, Commands: f.Commands(),
		Handler: func(next http.Handler, in server.Inside) http.Handler { return f.Handler(next, faults.Inside(in)) },
	}, notice, nil
}

// findPlan returns the plan of a preset or a file, with the seed that may stand behind it: mobile:7.
func findPlan(name string) (faults.Plan, error) {
	seed := uint64(0)
	if i := strings.LastIndexByte(name, ':'); i > 0 {
		if n, err := strconv.ParseUint(name[i+1:], 10, 32); err == nil {
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

// ask runs a command for authors of clients on the running server.
func ask[A, R any](w where, c control.Command[A, R], args A) (result R, err error) {
	cfg, _, err := config.Load(w.flags(), os.Environ())
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
	for _, h := range state.Happened {
		fmt.Fprintf(w, "%d of %d\t%s\n", h.Times, h.Calls, h.Fault)
	}
}
