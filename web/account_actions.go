package web

import (
	"nestbox/account"
	"nestbox/request"
	"nestbox/signin"
)

// actionsShown is how many of the last acts the security page lists.
const actionsShown = 10

// actions returns the last acts that asked for two proofs, or changed what is asked for,
// the newest first.
func (p *AccountPages) actions(q *query) (out []SecurityAction, err error) {
	trail, err := p.Accounts.Trail(q.r.Context(), q.account.ID, account.TrailLimit)
	if err != nil {
		return nil, err
	}
	for i := range trail {
		e := &trail[i]
		text, ok := actionOf(e)
		if !ok {
			continue
		}
		one := SecurityAction{Text: text, At: e.At, Network: e.Network, Program: request.ClientName(e.UserAgent)}
		if e.By == account.ActorAdmin { // where the operator was says nothing
			one = SecurityAction{Text: Msg("action.by-operator", "action", text), At: e.At}
		}
		if out = append(out, one); len(out) == actionsShown {
			break
		}
	}
	return out, nil
}

// actionOf returns an entry of the trail in words, false if it is no such act.
func actionOf(e *account.Entry) (Text, bool) {
	switch e.Kind { //nolint:exhaustive // the others are none
	case account.EntryPasswordChanged, account.EntryEmailChanged, account.EntryFactorOn, account.EntryFactorOff, account.EntryTOTPOn,
		account.EntryTOTPOff, account.EntryRecoveryMade, account.EntryRecoveryUsed, account.EntryFactorsOff, account.EntryCodeGiven,
		account.EntryRotationKeys:
		return Msg("action." + string(e.Kind)), true
	case account.EntryExported, account.EntryImported:
		return eventWords(*e), true
	case account.EntryPasskeyAdded, account.EntryPasskeyRenamed, account.EntryPasskeyRemoved:
		return Msg("action."+string(e.Kind), "name", Stranger(e.Reason)), true
	case account.EntryPasskeySecondOn, account.EntryPasskeySecondOff, account.EntrySwitched:
		w, on, ok := signin.ParseSwitched(e.Reason)
		state := "action.turned-off"
		if on {
			state = "action.turned-on"
		}
		return Msg(state, "setting", Msg("security."+string(w))), ok
	default:
		return Text{}, false
	}
}
