package takeover

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Errors of the source and of the store.
var (
	// ErrNoActor: the account has no database of its own.
	ErrNoActor = errors.New("there is no actor store")
	// ErrOtherSource: the target holds the take-over of another data directory.
	ErrOtherSource = errors.New("the target holds the take-over of another data directory")
	// ErrServed: the target is the data directory of a server that has accounts.
	ErrServed = errors.New("the target is the data directory of a server that has accounts: name another with --to DIR")
	// ErrFaults: something of the source cannot be taken over as it is.
	ErrFaults = errors.New("the source has faults, and nothing was switched")
	// ErrMoved: the old server changed an actor each time that it was read.
	ErrMoved = errors.New("the old server changed it each time that it was read")
)

// Damaged returns the error of a source whose account cannot be read as it is: a fault of that
// account alone.
func Damaged(why string) error { return fmt.Errorf("%w: %s", errProof, why) }

// Faulty returns the error of an account that cannot be taken over as it is, and what an
// operator can do about it.
func Faulty(what, do string) error { return &faulty{what, do} }

// Keyless returns the error of an account whose signing key is missing, or is not the one of its
// repository. No other host has it.
func Keyless(did syntax.DID, what string) error {
	return Faulty(what, "bring the file named key in its folder back from a backup of the old server, "+
		"or leave it out with --skip "+did.String())
}

type faulty struct{ what, do string }

func (f *faulty) Error() string { return f.what }

// Is makes it the fault of one account.
func (*faulty) Is(target error) bool { return target == errProof }

// faultOf is the fault of an account by its error.
func faultOf(did syntax.DID, err error) Fault {
	f := Fault{DID: did, What: err.Error(), Do: skipIt(did)}
	if own, ok := errors.AsType[*faulty](err); ok {
		f.What, f.Do = own.what, own.do
	} else if errors.Is(err, errProof) {
		f.Do = "fetch its repository from a host that has it, with --from-relay URL; or " + f.Do
	}
	return f
}

// IsDamaged reports whether err is the fault of one account.
func IsDamaged(err error) bool { return errors.Is(err, errProof) }

// Fault is something of one account that cannot be taken over.
type Fault struct {
	// DID is the account, or the name of what has none.
	DID  syntax.DID `json:"did"`
	What string     `json:"what"`
	// Do is what an operator can do about it.
	Do string `json:"do"`
}

func (f Fault) String() string { return f.DID.String() + ": " + f.What + "; " + f.Do }

// skipIt is what can be done about an account that cannot be taken over.
func skipIt(did syntax.DID) string {
	return "restore it from a backup of the old server, or leave it out with --skip " + did.String()
}

// Refusal is a reason not to begin, and what to do about it.
type Refusal struct {
	Problem string `json:"problem"`
	Do      string `json:"do"`
}

// Refusals are all reasons not to begin.
type Refusals []Refusal

func (r Refusals) Error() string {
	lines := []string{"nothing was taken over:"}
	for _, one := range r {
		lines = append(lines, "  "+one.Problem+": "+one.Do)
	}
	return strings.Join(lines, "\n")
}
