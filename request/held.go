package request

// ErrHeld is the error of a change that the server does not take until its operator has done
// something.
type ErrHeld struct {
	// Message is what the client gets, Why what the operator finds in the log.
	Message, Why string
}

func (e ErrHeld) Error() string { return e.Why }
