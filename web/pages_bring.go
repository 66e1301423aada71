package web

import "nestbox/moving"

// Bring takes in what an account had elsewhere. Decision: prove, replace, discard. The file
// comes with the form Upload.
type Bring struct {
	Frame
	// Closed: nothing can be brought in now. NotEmpty: not before the account is deactivated.
	Closed, NotEmpty bool
	// Proven: the person has proven themselves, so a file can be sent.
	Proven bool
	// Most is how many bytes a file may have.
	Most Bytes
	// Now is what is here, and may be replaced.
	Now moving.Holdings
	// File is what was sent; nil if there is none.
	File   *BroughtFile
	Upload Form
}

// BroughtFile is a file that was sent.
type BroughtFile struct {
	moving.File

	// Problem is why it cannot be brought in.
	Problem Text
}

// Busy reports whether it is being worked on.
func (f *BroughtFile) Busy() bool { return f.Phase == moving.Examining || f.Phase == moving.Bringing }

// OddRecords returns how many records could not be written here.
func (f *BroughtFile) OddRecords() int { return int(f.Odd) }

// Total returns the size of the file.
func (f *BroughtFile) Total() Bytes { return Bytes(f.Size) }

// Why returns why a blob is refused, in words.
func (*BroughtFile) Why(r moving.Reason) Text { return Msg("bring.why-" + string(r)) }

// Unnamed returns how many blobs are refused beside those that are named.
func (f *BroughtFile) Unnamed() int { return f.RefusedAll - len(f.Refused) }

func (*Bring) template() string { return "bring" }
func (*Bring) title() Text      { return Msg("bring.title") }
