package web

import (
	"time"

	"nestbox/moving"
)

// Move helps an account in and out. Decision: repository and blobs fetch that from the server
// in the field source, cancel ends the work.
type Move struct {
	Frame
	// Lines are what has come, and what the identity says. Complete: nothing is left but to
	// activate the account.
	Lines    []MoveLine
	Complete bool
	// Records are here, Missing is how many files are not.
	Records, Missing int64
	// Elsewhere is the server that the identity names, if that is another one.
	Elsewhere string
	// Fetches: there is something to fetch. Source is the server that the account comes from, as far as it is known.
	Source  string
	Fetches bool
	// Jobs are the newest first. Working: one is under way.
	Jobs    []MoveJob
	Working bool
	// Operation is what the identity should say, as JSON; PLC: it is did:plc, whose operation
	// the old server signs. The others are the same for people.
	Operation          string
	PLC                bool
	Server, SigningKey string
	RotationKeys       []string
	// Others is how many rotation keys are not this server's.
	Others int
}

// MoveLine is a line of the list.
type MoveLine struct {
	Kind       Kind
	Name, Says Text
}

// MoveJob is work in the background.
type MoveJob struct {
	moving.Job

	// Waits: it is open, and not worked on: until Due, if that is set, else until other work
	// gives its place back.
	Waits bool
	Due   time.Time
}

// Received returns how much has come.
func (j *MoveJob) Received() Bytes { return Bytes(j.Bytes) }

// Why returns why a file could not be had.
func (*MoveJob) Why(r moving.Reason) Text { return Msg("move.why-" + string(r)) }

// Unnamed returns how many files could not be had beside those that are named.
func (j *MoveJob) Unnamed() int { return j.LackingAll - len(j.Lacking) }

func (*Move) template() string { return "move" }
func (*Move) title() Text      { return Msg("move.title") }
