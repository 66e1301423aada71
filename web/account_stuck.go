package web

import (
	"time"

	"nestbox/signin"
)

// Stuck says why an owner cannot prove what an act wants, before and after they try: no code
// can be mailed, and no second step is old enough.
type Stuck struct {
	// NoAddress: the account has no address. Else the server sends no mail.
	NoAddress bool
	// From is when the owner's second step is old enough; zero if there is none.
	From time.Time
}

// stuck returns why the owner cannot prove what an action wants; nil if they can.
func (p *AccountPages) stuck(q *query, action signin.Action, f signin.Factors) *Stuck {
	st := p.SignIns.StandingOf(q.account, f)
	if st.Possible(action, f) || st.Allows(action, proofs(q)) {
		return nil
	}
	s := &Stuck{NoAddress: p.Codes.Templates != nil}
	made := make([]time.Time, 0, len(f.Passkeys)+1)
	if f.TOTP != nil {
		made = append(made, f.TOTP.ConfirmedAt)
	}
	for i := range f.Passkeys {
		made = append(made, f.Passkeys[i].MadeAt)
	}
	for _, at := range made {
		if from := at.Add(signin.MinFactorAge); s.From.IsZero() || from.Before(s.From) {
			s.From = from
		}
	}
	return s
}

// stuckAt is stuck for a page that has not looked at the factors.
func (p *AccountPages) stuckAt(q *query, action signin.Action) (*Stuck, error) {
	o, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return nil, err
	}
	return p.stuck(q, action, o.Factors), nil
}
