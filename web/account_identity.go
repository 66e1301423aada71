package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/plc"
	"nestbox/request"
	"nestbox/signin"
)

// showIdentity is GET …/identity.
func (p *AccountPages) showIdentity(q *query) error { return p.askIdentity(q, http.StatusOK) }

// askIdentity shows the page with what the directory says now. What was typed as a key is
// never shown again: it may be a private one.
func (p *AccountPages) askIdentity(q *query, status int, problems ...Problem) error {
	page := &Identity{Above: q.typed("place") == "above"}
	c, err := p.Hosting.ShowControl(q.r.Context(), q.account)
	switch {
	case errors.Is(err, hosting.ErrNotPLC):
		if page.Document, err = p.recommended(q.account); err != nil {
			return err
		}
	case errors.Is(err, identity.ErrNotRegistered):
		page.Ended = true
	case err != nil:
		if _, many := errors.AsType[request.ErrTooMany](err); many || errors.Is(err, identity.ErrBusy) || q.r.Context().Err() != nil {
			return err
		}
		p.unanswered(q, err)
		page.Silent, status = true, http.StatusServiceUnavailable
	default:
		if c.LogErr != nil {
			request.Note(q.r.Context(), slog.String("plc_log", c.LogErr.Error()))
		}
		p.fillIdentity(page, &c)
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// recommended returns the document that the owner of a did:web serves, set for people.
func (p *AccountPages) recommended(a *account.Account) (string, error) {
	document, err := p.Hosting.RecommendedDocument(a)
	if err != nil {
		return "", err
	}
	var pretty bytes.Buffer
	err = json.Indent(&pretty, document, "", "  ")
	return pretty.String(), err
}

func (p *AccountPages) fillIdentity(page *Identity, c *hosting.Control) {
	page.Keys, page.Ours, page.Fits, page.Head = keyRows(c.Keys), c.Ours, c.Fits, c.Head
	page.Full, page.Total, page.LogMissing = len(c.Keys) >= hosting.MaxRotationKeys, c.Total, c.LogErr != nil
	for i := range c.Steps {
		s := &c.Steps[i]
		step := IdentityStep{At: s.CreatedAt, Undone: s.Nullified}
		if s.First {
			step.Changes = append(step.Changes, Msg("identity.first", "handle", Host(s.After.Handle), "server", Name(s.After.PDS)))
		}
		for _, d := range s.Changes {
			step.Changes = append(step.Changes, changeWords(c, d))
		}
		if len(step.Changes) == 0 {
			step.Changes = []Text{Msg("identity.nothing")}
		}
		if s.Signer != "" {
			step.By = Msg("identity.signed", "key", keyWords(c, s.Signer))
		}
		switch {
		case !s.UndoUntil.After(p.Now()):
		case len(s.UndoBy) == 0:
			step.Undo = Msg("identity.undo-nobody")
		default:
			var keys List
			for _, k := range s.UndoBy {
				keys = append(keys, keyWords(c, k))
			}
			step.Undo = Msg("identity.undo", "time", s.UndoUntil, "keys", keys)
		}
		page.Steps = append(page.Steps, step)
	}
}

// keyRows returns rotation keys as pages show them.
func keyRows(keys []hosting.RotationKey) (rows []KeyRow) {
	server := slices.IndexFunc(keys, func(k hosting.RotationKey) bool { return k.Holder == hosting.HeldByServer })
	for i, k := range keys {
		rows = append(rows, KeyRow{Key: k.Key, Holder: string(k.Holder), Owns: i < server, Since: k.Since, Added: k.Added})
	}
	return rows
}

// keyWords returns who has a key, in a sentence.
func keyWords(c *hosting.Control, key string) Text {
	short := strings.TrimPrefix(key, "did:key:")
	const shown = 6 // characters of each end
	if len(short) > 2*shown {
		short = short[:shown] + "…" + short[len(short)-shown:]
	}
	switch c.Holder(key) {
	case hosting.HeldByServer:
		return Msg("identity.by-server")
	case hosting.HeldByOperator:
		return Msg("identity.by-operator")
	case hosting.HeldByOwner:
		return Msg("identity.by-owner", "key", Codes{short})
	case hosting.HeldByUnknown:
	}
	return Msg("identity.by-unknown", "key", Codes{short})
}

// changeWords returns what an operation changed as a sentence.
func changeWords(c *hosting.Control, d plc.Difference) Text {
	came, went := d.New != "", d.Old != ""
	name, _, _ := strings.Cut(d.New+d.Old, " ") // of a method or a service
	switch d.Part {
	case plc.PartHandle:
		switch {
		case came && went:
			return Msg("identity.handle-changed", "old", Host(d.Old), "new", Host(d.New))
		case came:
			return Msg("identity.handle-set", "new", Host(d.New))
		default:
			return Msg("identity.handle-gone", "old", Host(d.Old))
		}
	case plc.PartHost:
		switch {
		case came && went:
			return Msg("identity.host-changed", "old", Name(d.Old), "new", Name(d.New))
		case came:
			return Msg("identity.host-set", "new", Name(d.New))
		default:
			return Msg("identity.host-gone", "old", Name(d.Old))
		}
	case plc.PartSigningKey:
		return Msg("identity.signing-changed")
	case plc.PartKey:
		if came {
			return Msg("identity.key-added", "key", keyWords(c, d.New))
		}
		return Msg("identity.key-removed", "key", keyWords(c, d.Old))
	case plc.PartKeyOrder:
		return Msg("identity.key-order")
	case plc.PartAlias:
		if came {
			return Msg("identity.alias-added", "name", Name(d.New))
		}
		return Msg("identity.alias-removed", "name", Name(d.Old))
	case plc.PartMethod:
		return Msg("identity.method-changed", "name", Name(name))
	case plc.PartService:
		return Msg("identity.service-changed", "name", Name(name))
	case plc.PartEnd:
	}
	return Msg("identity.ended")
}

// rotation returns the change that a form asks for; its key, if it is to be added, must be one:
// the errors of plc.PublicKey. One that is to be removed must be named: plc.ErrKeyForm.
func rotation(q *query) (change hosting.RotationChange, err error) {
	switch {
	case q.typed("decision") == "remove":
		change.Remove = q.typed("remove")
	case q.typed("decision") == "send" && q.typed("change") == "remove":
		change.Remove = q.typed("key")
	default:
		change.Above = q.typed("place") == "above"
		change.Add, err = plc.PublicKey(q.typed("key"))
		return change, err
	}
	if change.Remove == "" {
		return change, plc.ErrKeyForm
	}
	return change, nil
}

// changeIdentity is POST …/identity: it shows a change, or sends the one that was shown.
func (p *AccountPages) changeIdentity(q *query) error {
	send := p.steppedUp(signin.RotationKeys, Msg("act.rotation-keys"), p.sendIdentity)
	if q.typed("step") == "step-up" {
		return send(q)
	}
	change, err := rotation(q)
	if err != nil {
		return p.identityFailed(q, err)
	}
	if q.typed("decision") == "send" {
		return send(q)
	}
	plan, err := p.Hosting.PlanRotation(q.r.Context(), q.account, change)
	if err == nil && len(plan.After) == len(plan.Keys) {
		return q.done(q.r.URL.Path, "identity") // it is so already
	}
	if err != nil {
		return p.identityFailed(q, err)
	}
	return p.showRotation(q, change, &plan)
}

// showRotation shows a change before it is sent, as a difference.
func (p *AccountPages) showRotation(q *query, change hosting.RotationChange, plan *hosting.RotationPlan) error {
	page := &IdentityChange{
		Change: "add", Key: change.Add, Place: "below", Head: plan.Head, Keys: keyRows(plan.After), Host: p.Browsers.Origin,
	}
	before := keyRows(plan.Keys)
	if change.Remove != "" {
		page.Change, page.Key = "remove", change.Remove
		page.Keys = before
	}
	i := slices.IndexFunc(page.Keys, func(k KeyRow) bool { return k.Key == page.Key })
	row := &page.Keys[i]
	switch {
	case change.Remove == "" && change.Above:
		row.Mark, page.Place, page.Danger = "added", "above", true
		page.Warnings = []Text{Msg("identity.warn-above"), Msg("identity.warn-yours")}
	case change.Remove == "":
		row.Mark = "added"
		page.Warnings = []Text{Msg("identity.warn-below"), Msg("identity.warn-yours")}
	default:
		row.Mark, page.Danger = "removed", true
		if row.Owns {
			page.Warnings = []Text{Msg("identity.warn-remove-above", "time", p.Now().Add(plc.RecoveryWindow).UTC().Truncate(time.Minute))}
		}
		if row.Holder == string(hosting.HeldByOperator) {
			page.Warnings = append(page.Warnings, Msg("identity.warn-remove-operator"))
		}
		page.Warnings = append(page.Warnings, Msg("identity.warn-remove"))
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// sendIdentity sends the change that was shown, after the step-up.
func (p *AccountPages) sendIdentity(q *query) error {
	change, err := rotation(q)
	if err == nil {
		err = p.Hosting.ChangeRotation(q.r.Context(), q.account, q.typed("head"), change)
	}
	if err != nil {
		return p.identityFailed(q, err)
	}
	return q.done(q.r.URL.Path, "identity")
}

// identityFailed shows the page, as it is now, with why a change was not made.
func (p *AccountPages) identityFailed(q *query, err error) error {
	for _, known := range []struct {
		status int
		fault
	}{
		{http.StatusUnprocessableEntity, fault{plc.ErrKeyPrivate, "key", "identity.key-private"}},
		{http.StatusUnprocessableEntity, fault{plc.ErrKeyForm, "key", "identity.key-form"}},
		{http.StatusUnprocessableEntity, fault{plc.ErrKeyKind, "key", "identity.key-kind"}},
		{http.StatusUnprocessableEntity, fault{hosting.ErrKeyThere, "key", "identity.key-there"}},
		{http.StatusUnprocessableEntity, fault{hosting.ErrKeyRoom, "", "identity.key-room"}},
		{http.StatusUnprocessableEntity, fault{hosting.ErrKeySigning, "key", "identity.key-signing"}},
		{http.StatusUnprocessableEntity, fault{hosting.ErrKeyServer, "", "identity.key-server"}},
		{http.StatusConflict, fault{hosting.ErrHeadMoved, "", "identity.moved"}},
		{http.StatusConflict, fault{account.ErrStatusConflict, "", "identity.busy"}},
		{http.StatusConflict, fault{hosting.ErrUnfit, "", "identity.unfit"}},
		{http.StatusConflict, fault{hosting.ErrNoControl, "", "identity.no-control"}},
		{http.StatusConflict, fault{identity.ErrRefused, "", "identity.refused"}},
	} {
		if problem, ok := problemOf(err, []fault{known.fault}); ok {
			return p.askIdentity(q, known.status, problem)
		}
	}
	if errors.Is(err, hosting.ErrNotPLC) || errors.Is(err, identity.ErrNotRegistered) {
		return q.to(q.r.URL.Path)
	}
	if _, many := errors.AsType[request.ErrTooMany](err); many || q.r.Context().Err() != nil {
		return err
	}
	text := Msg("identity.unsure") // it may have arrived
	if errors.Is(err, identity.ErrUnreached) {
		text = Msg("identity.unreached")
	}
	p.unanswered(q, err)
	return p.askIdentity(q, http.StatusServiceUnavailable, Problem{Text: text})
}

// unanswered notes why the directory did not help, and says when to try again.
func (p *AccountPages) unanswered(q *query, err error) {
	request.Fail(q.r.Context(), http.StatusServiceUnavailable, "Unavailable", err)
	q.w.Header().Set("Retry-After", request.ErrTooMany{Wait: busyWait}.RetryAfter())
}
