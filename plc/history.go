package plc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	didplc "github.com/did-method-plc/go-didplc"
)

// ReadLog reads a DID's whole log as a directory writes it at /log/audit, JSON. It does not
// check the signatures: the directory has.
func ReadLog(raw []byte) ([]Entry, error) {
	var lines []struct {
		Operation json.RawMessage `json:"operation"`
		CID       string          `json:"cid"`
		Nullified bool            `json:"nullified"`
		CreatedAt time.Time       `json:"createdAt"`
	}
	if err := json.Unmarshal(raw, &lines); err != nil {
		return nil, fmt.Errorf("read the log of a DID: %w", err)
	}
	log := make([]Entry, 0, len(lines))
	for i, line := range lines {
		op, err := Parse(line.Operation)
		if err != nil {
			return nil, fmt.Errorf("read entry %d of the log of a DID: %w", i, err)
		}
		log = append(log, Entry{op, line.CID, line.CreatedAt, line.Nullified})
	}
	return log, nil
}

// Part is what a Difference is of.
type Part string

// The parts of an identity.
const (
	PartHandle     Part = "handle"
	PartHost       Part = "host"
	PartSigningKey Part = "signing-key"
	PartKey        Part = "rotation-key"
	PartKeyOrder   Part = "rotation-order" // Old and New are empty
	PartAlias      Part = "alias"
	PartMethod     Part = "method"
	PartService    Part = "service"
	PartEnd        Part = "end" // a tombstone; Old and New are empty
)

// Difference is one thing that an operation changes. Old is empty if it adds, New if it
// removes.
type Difference struct {
	Part     Part
	Old, New string
}

// Compare returns what changes of an identity from one operation to another: what people
// know first, then the rotation keys, then the rest. A tombstone that is undone is compared
// as an identity without anything.
func Compare(before, after didplc.OpEnum) (out []Difference) {
	if after.Tombstone != nil {
		return []Difference{{Part: PartEnd}}
	}
	was, _ := regular(before) // the zero value of a tombstone
	is, _ := regular(after)
	one := func(part Part, was, is string) {
		if was != is {
			out = append(out, Difference{part, was, is})
		}
	}
	old, _ := DataOf(before)
	now, _ := DataOf(after)
	one(PartHandle, old.Handle.String(), now.Handle.String())
	one(PartHost, old.PDS, now.PDS)
	one(PartSigningKey, old.SigningKey, now.SigningKey)
	out = append(out, compareKeys(was.RotationKeys, is.RotationKeys)...)
	out = append(out, compareSets(PartAlias, aliasesBut(was.AlsoKnownAs), aliasesBut(is.AlsoKnownAs))...)
	for _, name := range names(was.VerificationMethods, is.VerificationMethods, methodAtproto) {
		one(PartMethod, named(name, was.VerificationMethods[name]), named(name, is.VerificationMethods[name]))
	}
	for _, name := range names(was.Services, is.Services, "") {
		a, b := was.Services[name], is.Services[name]
		if name == servicePDS { // its address is PartHost
			if a.Type != b.Type && a.Endpoint == b.Endpoint {
				one(PartService, named(name, a.Type), named(name, b.Type))
			}
			continue
		}
		one(PartService, named(name, strings.TrimSpace(a.Type+" "+a.Endpoint)), named(name, strings.TrimSpace(b.Type+" "+b.Endpoint)))
	}
	return out
}

// named returns what goes by a name, "" if that is nothing.
func named(name, value string) string {
	if value == "" {
		return ""
	}
	return name + " " + value
}

// names returns the keys of two maps but one, in order.
func names[V any](a, b map[string]V, but string) []string {
	all := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(name string) bool { return name == but })
}

// aliasesBut returns the aliases without the first handle.
func aliasesBut(aliases []string) []string {
	first := slices.IndexFunc(aliases, func(a string) bool { return strings.HasPrefix(a, aliasPrefix) })
	if first < 0 {
		return aliases
	}
	return slices.Concat(aliases[:first], aliases[first+1:])
}

func compareKeys(was, is []string) []Difference {
	out := compareSets(PartKey, was, is)
	kept := func(list, other []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(k string) bool { return !slices.Contains(other, k) })
	}
	if !slices.Equal(kept(was, is), kept(is, was)) {
		out = append(out, Difference{Part: PartKeyOrder})
	}
	return out
}

func compareSets(part Part, was, is []string) (out []Difference) {
	for _, one := range is {
		if !slices.Contains(was, one) {
			out = append(out, Difference{Part: part, New: one})
		}
	}
	for _, one := range was {
		if !slices.Contains(is, one) {
			out = append(out, Difference{Part: part, Old: one})
		}
	}
	return out
}

// Step is an operation of a log as people read it.
type Step struct {
	Entry

	// First: it made the identity; After is what it says.
	First bool
	After Data
	// Changes are what it changed of the operation that it follows.
	Changes []Difference
	// Signer is the rotation key that signed it; empty if none of those that could did.
	Signer string
	// UndoBy are the keys that could undo it, the strongest first, until UndoUntil: none for
	// the first operation, and for one that is undone.
	UndoBy    []string
	UndoUntil time.Time
}

// History returns the newest operations of a log, limit at most, the newest first.
func History(log []Entry, limit int) []Step {
	at := make(map[string]int, len(log))
	for i, e := range log {
		at[e.CID] = i
	}
	var out []Step
	for _, e := range slices.Backward(log) {
		if len(out) == limit {
			break
		}
		s := Step{Entry: e}
		s.After, _ = DataOf(e.Operation)
		op := e.Operation.AsOperation()
		i, follows := at[op.PrevCIDStr()]
		keys := op.EquivalentRotationKeys()
		if s.First = op.IsGenesis(); !s.First && follows {
			before := log[i].Operation
			s.Changes, keys = Compare(before, e.Operation), before.AsOperation().EquivalentRotationKeys()
		}
		if signer, err := didplc.VerifySignatureAny(op, keys); err == nil && (s.First || follows) {
			s.Signer = keys[signer]
			if !s.First && !e.Nullified {
				s.UndoBy, s.UndoUntil = keys[:signer], e.CreatedAt.Add(RecoveryWindow)
			}
		}
		out = append(out, s)
	}
	return out
}

// Since returns when a rotation key last came into an identity that has it now, zero if the
// log does not tell.
func Since(log []Entry, key string) (since time.Time) {
	for _, e := range slices.Backward(log) {
		if e.Nullified {
			continue
		}
		if !slices.Contains(e.Operation.AsOperation().EquivalentRotationKeys(), key) {
			break
		}
		since = e.CreatedAt
	}
	return since
}

// Head returns the CID of an operation, by which the next one names it.
func Head(op didplc.OpEnum) string { return op.AsOperation().CID().String() }
