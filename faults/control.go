package faults

import (
	"context"
	"time"

	"nestbox/control"
)

// CmdFaults shows which faults happen, and changes it.
const CmdFaults control.Command[SetArgs, State] = "dev.faults"

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
	// Happened is how often each fault of the plan did, and of how many calls that it names.
	Happened []Happened `json:"happened,omitempty"`
}

// Happened are the counts of a fault.
type Happened struct {
	Fault string `json:"fault"`
	Calls int    `json:"calls"`
	Times int    `json:"times"`
}

// Commands returns the commands of the operator that faults answer.
func (f *Faults) Commands() control.Commands {
	return control.Commands{Plain: control.Table(control.Handle(CmdFaults, f.answer))}
}

// answer answers CmdFaults.
func (f *Faults) answer(ctx context.Context, args SetArgs) (State, error) {
	if args.Plan != nil {
		if err := args.Plan.Check(); err != nil {
			return State{}, err
		}
	}
	if args.Off || args.Plan != nil {
		const longest = 1000 * time.Hour
		f.lift(ctx, f.in.Now().Add(longest)) // no account stays down for a plan that is over
		f.set(args.Plan)
	}
	return f.state(), nil
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
		s.Happened = append(s.Happened, Happened{fault.String(), calls, p.hits[i]})
	}
	return s
}
