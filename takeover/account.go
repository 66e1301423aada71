package takeover

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
)

// graceOfDeletion is how long an account is kept at least whose deletion is taken over, so
// that its owner can still say no.
const graceOfDeletion = 7 * 24 * time.Hour

// accounts reads the source's database of accounts as it is stored here. Accounts that are
// skipped, or that cannot be stored, are left out; the latter are faults of the report.
func (t *TakeOver) accounts(r *Report) (out Accounts, err error) {
	list, bad, err := t.Source.Accounts()
	if err != nil {
		return out, err
	}
	for _, f := range bad {
		r.fault(f)
	}
	r.Accounts.Found = len(list) + len(bad)
	if err := t.skips(list, bad, r); err != nil {
		return out, err
	}
	list = slices.DeleteFunc(list, func(a Account) bool {
		skip := t.Settings.Skip[a.DID]
		if skip {
			r.Skipped = append(r.Skipped, a.DID)
		}
		return skip
	})
	known := make(map[syntax.DID]bool, len(list))
	for _, a := range list {
		known[a.DID] = true
	}
	documents, err := t.documents(known)
	if err != nil {
		return out, err
	}
	invites, uses, err := t.Source.Invites()
	if err != nil {
		return out, err
	}
	out.Invites, out.InviteUses = invites, usesOf(invites, uses)
	invited := map[string]InviteUse{}
	for _, u := range uses {
		if u.UsedAt.After(invited[u.UsedBy].UsedAt) {
			invited[u.UsedBy] = u
		}
	}
	names := namesOf(list, documents)
	for _, a := range list {
		row, f := t.accountRow(a, names, documents[a.DID], r)
		if f != nil {
			r.fault(*f)
			known[a.DID] = false
			continue
		}
		row.InvitedWith = invited[a.DID.String()].Code
		out.Rows = append(out.Rows, row)
	}
	return out, t.besideAccounts(&out, known, r)
}

// skips refuses to leave out what is neither an account nor an actor.
func (t *TakeOver) skips(list []Account, bad []Fault, r *Report) error {
	known, handles := map[syntax.DID]bool{}, map[string]syntax.DID{}
	for _, a := range list {
		known[a.DID], handles[strings.ToLower(a.Handle)] = true, a.DID
	}
	for _, f := range bad {
		known[f.DID] = true
	}
	strays, err := t.Source.Strays(known)
	if err != nil {
		return err
	}
	for _, name := range strays {
		known[syntax.DID(name)] = true
	}
	for _, did := range slices.Sorted(maps.Keys(t.Settings.Skip)) {
		do := "name the DID of an account, or leave it away"
		if is := handles[strings.ToLower(did.String())]; is != "" {
			do = "use --skip " + is.String()
		}
		if !known[did] {
			r.Refusals = append(r.Refusals, Refusal{Problem: "--skip " + did.String() + ": there is no such account", Do: do})
		}
	}
	if len(r.Refusals) > 0 {
		return r.Refusals
	}
	return nil
}

// documents returns the cached DID documents of these accounts, if they can be kept.
func (t *TakeOver) documents(of map[syntax.DID]bool) (map[syntax.DID][]byte, error) {
	out := map[syntax.DID][]byte{}
	err := t.Source.Documents(func(did string, document []byte) error {
		if !of[syntax.DID(did)] {
			return nil
		}
		if kept, err := identity.Kept(syntax.DID(did), document); err == nil && identity.Presentable(kept) {
			out[syntax.DID(did)] = kept
		}
		return nil
	})
	return out, err
}

// usesOf drops uses of codes that are gone, and more uses than a code has had.
func usesOf(invites []Invite, uses []InviteUse) (out []InviteUse) {
	there := map[string]int{}
	for i, v := range invites {
		there[v.Code] = i
	}
	count := map[string]int64{}
	for _, u := range uses {
		i, ok := there[u.Code]
		if !ok {
			continue
		}
		count[u.Code]++
		invites[i].Available = max(invites[i].Available, count[u.Code])
		out = append(out, u)
	}
	return out
}

// names are the handles of the accounts, and who has which handle and address.
type names struct {
	handle    map[syntax.DID]syntax.Handle
	of        map[syntax.Handle][]syntax.DID
	addresses map[string][]syntax.DID
}

// namesOf finds each account's handle: its own, or the one that its DID document says if it
// has none, or another account has it.
func namesOf(list []Account, documents map[syntax.DID][]byte) names {
	n := names{map[syntax.DID]syntax.Handle{}, map[syntax.Handle][]syntax.DID{}, map[string][]syntax.DID{}}
	own := map[syntax.Handle]int{}
	parse := func(a Account) syntax.Handle {
		h, err := syntax.ParseHandle(a.Handle)
		if err != nil {
			return ""
		}
		return h.Normalize()
	}
	for _, a := range list {
		if h := parse(a); h != "" {
			own[h]++
		}
	}
	for _, a := range list {
		h := parse(a)
		if said := handleIn(a.DID, documents[a.DID]); said != "" && h != said && (h == "" || own[h] > 1) && own[said] == 0 {
			h = said
		}
		n.handle[a.DID] = h
		if h != "" {
			n.of[h] = append(n.of[h], a.DID)
		}
		if a.Email != "" {
			key := account.EmailKey(a.Email)
			n.addresses[key] = append(n.addresses[key], a.DID)
		}
	}
	return n
}

// handleIn returns the handle that a DID document names, empty for none.
func handleIn(did syntax.DID, document []byte) syntax.Handle {
	if len(document) == 0 {
		return ""
	}
	d, err := identity.ParseDocument(did, document)
	if err != nil {
		return ""
	}
	return d.Handle().Normalize()
}

// accountRow maps one account.
func (t *TakeOver) accountRow(a Account, n names, document []byte, r *Report) (AccountRow, *Fault) {
	fault := func(format string, args ...any) *Fault {
		return &Fault{DID: a.DID, What: fmt.Sprintf(format, args...), Do: skipIt(a.DID)}
	}
	shared := func(format string, of []syntax.DID, nsid string) *Fault {
		return &Fault{
			DID: a.DID, What: fmt.Sprintf(format, others(of, a.DID)),
			Do: "let the old server change that of one of them (" + nsid + "), or leave one out with --skip " + a.DID.String(),
		}
	}
	handle := n.handle[a.DID]
	switch {
	case !a.HasAccount:
		return AccountRow{}, fault("it has no address and no password here, as accounts behind an entryway have none")
	case handle == "":
		return AccountRow{}, fault("its handle %q is not one, and its DID document names none", a.Handle)
	case len(n.of[handle]) > 1:
		return AccountRow{}, shared("its handle "+handle.String()+" is also that of %s", n.of[handle], "com.atproto.admin.updateAccountHandle")
	case a.Email == "":
		return AccountRow{}, fault("it has no e-mail address")
	case len(n.addresses[account.EmailKey(a.Email)]) > 1:
		return AccountRow{}, shared("its e-mail address is also that of %s", n.addresses[account.EmailKey(a.Email)],
			"com.atproto.admin.updateAccountEmail")
	}
	if handle.String() != strings.ToLower(a.Handle) {
		r.remark("%s: its handle %q is replaced by that of its DID document, %s", a.DID, a.Handle, handle)
	}
	row := AccountRow{PasswordHash: a.PasswordHash, Document: document, Account: account.Account{
		DID: a.DID, Handle: handle, Email: a.Email, CreatedAt: a.CreatedAt, EmailConfirmedAt: a.EmailConfirmedAt,
		DeactivatedAt: a.DeactivatedAt,
	}}
	row.InvitesDisabled = a.InvitesDisabled
	if row.CreatedAt.IsZero() {
		row.CreatedAt = t.Now().UTC().Truncate(time.Millisecond)
		r.remark("%s: the time of its making cannot be read, so it is made now", a.DID)
	}
	if a.TakenDown {
		row.TakenDownAt, row.TakedownRef = takedownOf(a.TakedownRef, t.Now())
	}
	if row.DeleteAfter = t.deletion(a, r); !row.DeleteAfter.IsZero() && t.Letters != nil {
		for _, m := range t.Letters(&row.Account) {
			r.letters = append(r.letters, Letter{a.DID, m})
		}
	}
	return row, nil
}

// deletion returns when an account is deleted: the source never did, whatever its owner asked
// for, and has set a time for each account that moved in and was not activated.
func (t *TakeOver) deletion(a Account, r *Report) time.Time {
	now := t.Now().UTC().Truncate(time.Millisecond)
	switch {
	case a.DeleteAfter.IsZero() || a.DeactivatedAt.IsZero():
		return time.Time{}
	case !t.Settings.KeepDeleteAfter || !a.DeleteAfter.After(now):
		r.DeleteAfter.Dropped = append(r.DeleteAfter.Dropped, a.DID)
		return time.Time{}
	}
	r.DeleteAfter.Kept = append(r.DeleteAfter.Kept, a.DID)
	if earliest := now.Add(graceOfDeletion); a.DeleteAfter.Before(earliest) {
		return earliest
	}
	return a.DeleteAfter
}

// takedownOf reads a takedown's case: the source writes the time in its place if there was
// none.
func takedownOf(ref string, now time.Time) (at time.Time, name string) {
	if when, err := time.Parse(time.RFC3339Nano, ref); err == nil {
		return when.UTC().Truncate(time.Millisecond), ""
	}
	return now.UTC().Truncate(time.Millisecond), ref
}

// others names the other accounts of a list.
func others(list []syntax.DID, but syntax.DID) string {
	var out []string
	for _, did := range list {
		if did != but {
			out = append(out, did.String())
		}
	}
	return strings.Join(out, ", ")
}

// besideAccounts maps what the accounts have in the same database.
func (t *TakeOver) besideAccounts(out *Accounts, known map[syntax.DID]bool, r *Report) error {
	passwords, err := t.Source.AppPasswords()
	if err != nil {
		return err
	}
	for _, p := range passwords {
		switch stored, there := known[p.DID]; {
		case !there:
			r.Dropped.AppPasswords++
			continue
		case !stored: // the account is a fault
			continue
		}
		out.AppPasswords = append(out.AppPasswords, p)
	}
	codes, err := t.Source.EmailCodes()
	if err != nil {
		return err
	}
	now := t.Now().UTC()
	for _, c := range codes {
		age := now.Sub(c.RequestedAt)
		if code := account.CleanCode(c.Code); known[c.DID] && code != "" && age >= 0 && age < account.CodeLife {
			out.Codes = append(out.Codes, CodeRow{c.DID, t.Codes.Imported(account.Purpose(c.Purpose), code, c.RequestedAt)})
			continue
		}
		r.Dropped.EmailCodes++
	}
	return t.reserved(out, r)
}

// reserved maps the signing keys that were promised.
func (t *TakeOver) reserved(out *Accounts, r *Report) error {
	keys, odd, err := t.Source.ReservedKeys()
	if err != nil {
		return err
	}
	for _, name := range odd {
		r.remark("the reserved key %q is not a key, and is left out", name)
	}
	for _, k := range keys {
		row := KeyRow{ReservedAt: k.ReservedAt}
		key, err := atcrypto.ParsePrivateBytesK256(k.Private)
		if err == nil {
			row.Public, err = publicOf(key)
		}
		if err != nil || strings.HasPrefix(k.Name, "did:key:") && k.Name != row.Public {
			r.remark("the reserved key %q is not the key of its name, and is left out", k.Name)
			continue
		}
		if !strings.HasPrefix(k.Name, "did:key:") {
			row.DID = syntax.DID(k.Name)
		}
		if slices.ContainsFunc(out.Keys, func(o KeyRow) bool { return o.Public == row.Public }) {
			continue // the file of the DID and that of the key are one
		}
		row.Sealed = hosting.SealKey(t.Box, row.DID, key)
		out.Keys = append(out.Keys, row)
	}
	return nil
}

func publicOf(key atcrypto.PrivateKey) (string, error) {
	public, err := key.PublicKey()
	if err != nil {
		return "", err
	}
	return public.DIDKey(), nil
}

// preferencesOf makes one list of an account's preferences, without those that are not JSON.
func preferencesOf(values []string) (list []byte, odd int) {
	var kept []json.RawMessage
	for _, v := range values {
		if !isObject(v) {
			odd++
			continue
		}
		kept = append(kept, json.RawMessage(v))
	}
	if len(kept) == 0 {
		return nil, odd
	}
	list, err := json.Marshal(kept)
	if err != nil {
		return nil, len(values) // each was valid
	}
	return list, odd
}
