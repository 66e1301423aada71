// Package prefs keeps what apps remember for an account: the preferences of
// app.bsky.actor.getPreferences, private, whatever app they come from.
//
// Invariants: they are replaced as a whole, in one durable transaction, so that two
// apps that write at the same time do not mix; what a caller may not see stays as it
// is when that caller writes.
package prefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/dagcbor"
	"nestbox/lexicon"
)

// namespace is the namespace of the preferences that this server keeps: a type is in
// it, or equals it.
const namespace = "app.bsky"

// Types with rules of their own.
const (
	// personalDetails has the owner's date of birth: only sessions of the password see
	// it.
	personalDetails = "app.bsky.actor.defs#personalDetailsPref"
	// declaredAge is derived from it, and cannot be written.
	declaredAge = "app.bsky.actor.defs#declaredAgePref"
)

const (
	// MaxSize is how many bytes of JSON an account's preferences may take, and maxCount
	// how many there may be.
	MaxSize  = 256 << 10
	maxCount = 1000
	// appSize and appCount are the part of that for apps: the rest is left to sessions
	// of the password, so that an app cannot keep them from writing.
	appSize  = MaxSize / 4 * 3
	appCount = maxCount / 4 * 3
)

// Errors of Store and Service.
var (
	ErrNoAccount = errors.New("no such account")
	// ErrTooMany: the preferences are more, or larger, than one account may have.
	ErrTooMany = errors.New("preferences are too many or too large")
	// errMalformed: a preference of a known kind does not follow its Lexicon. The text
	// gives the reason.
	errMalformed = errors.New("malformed preference")
)

// Store keeps preferences. They are deleted with their account.
type Store interface {
	// Preferences returns the preferences of an account, in their order; there may be
	// none. ErrNoAccount.
	Preferences(ctx context.Context, did syntax.DID) ([]jsontext.Value, error)
	// ReplacePreferences replaces an account's preferences by the result of decide, in
	// one durable transaction. An error of decide changes nothing and is returned.
	// ErrNoAccount.
	ReplacePreferences(ctx context.Context, did syntax.DID, decide func(now []jsontext.Value) ([]jsontext.Value, error)) error
}

// Service is the domain.
type Service struct {
	Store Store
	// Lexicons has the known kinds of preferences.
	Lexicons *lexicon.Catalogue
	Now      func() time.Time
}

// typeOf returns a preference's type, "" if it has none, or is not an object.
func typeOf(pref jsontext.Value) string {
	var v struct {
		Type string `json:"$type"`
	}
	if json.Unmarshal(pref, &v) != nil {
		return ""
	}
	return v.Type
}

func inNamespace(kind string) bool {
	rest, ok := strings.CutPrefix(kind, namespace)
	return ok && (rest == "" || rest[0] == '.')
}

// visible returns the preferences that a session may see. full means that it is a
// session of the account's own password. Every session sees what is derived from the
// date of birth.
func visible(all []jsontext.Value, full bool, now time.Time) (out []jsontext.Value) {
	out = []jsontext.Value{}
	for _, p := range all {
		if full || typeOf(p) != personalDetails {
			out = append(out, p)
		}
	}
	for _, p := range all {
		var v struct {
			Type  string `json:"$type"`
			Birth string `json:"birthDate"`
		}
		if json.Unmarshal(p, &v) != nil || v.Type != personalDetails {
			continue
		}
		if born, err := syntax.ParseDatetimeLenient(v.Birth); err == nil {
			out = append(out, ageOf(born.Time(), now))
		}
		break
	}
	return out
}

// ageOf returns the declaredAgePref of a person with that date of birth.
func ageOf(born, now time.Time) jsontext.Value {
	born, now = born.UTC(), now.UTC()
	years := now.Year() - born.Year()
	if now.Month() < born.Month() || now.Month() == born.Month() && now.Day() < born.Day() {
		years--
	}
	v := struct {
		Type string `json:"$type"`
		Is13 bool   `json:"isOverAge13"`
		Is16 bool   `json:"isOverAge16"`
		Is18 bool   `json:"isOverAge18"`
	}{declaredAge, years >= 13, years >= 16, years >= 18}
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // a struct of booleans encodes
	}
	return raw
}

// check returns errMalformed if a preference's kind is known and it does not follow
// its Lexicon. place is its place in the request.
func check(c *lexicon.Catalogue, pref jsontext.Value, place string) error {
	kind := typeOf(pref)
	if known, _ := c.ValidateObject(kind, nil); !known {
		return nil
	}
	v, err := dagcbor.FromJSON(pref)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", errMalformed, place, err)
	}
	_, err = c.ValidateObject(kind, v)
	if fault, ok := errors.AsType[*lexicon.InvalidError](err); ok {
		return fmt.Errorf("%w: %s", errMalformed, fault.At(place))
	}
	return err
}

// checkNew is check for all preferences of a put that were not there before. An app
// sends back preferences that it does not know: an old one must not keep its owner
// from changing others.
func checkNew(c *lexicon.Catalogue, now, put []jsontext.Value) error {
	var kept map[string]bool
	for i, p := range put {
		err := check(c, p, fmt.Sprintf("$.preferences[%d]", i))
		if err == nil {
			continue
		}
		if kept == nil {
			kept = make(map[string]bool, len(now))
			for _, was := range now {
				kept[canonical(was)] = true
			}
		}
		if !kept[canonical(p)] {
			return err
		}
	}
	return nil
}

// canonical returns the one text of a JSON value, whatever its white space and the
// order of its members.
func canonical(v jsontext.Value) string {
	v = slices.Clone(v)
	if err := v.Canonicalize(); err != nil {
		return string(v)
	}
	return string(v)
}

// replace returns the preferences after a put: those that its session may not see
// stay, the others are replaced.
func replace(now, put []jsontext.Value, full bool) ([]jsontext.Value, error) {
	var next []jsontext.Value
	if !full {
		for _, p := range now {
			if typeOf(p) == personalDetails {
				next = append(next, p)
			}
		}
	}
	for _, p := range put {
		if typeOf(p) != declaredAge {
			next = append(next, slices.Clone(p))
		}
	}
	size, count := MaxSize, maxCount
	if !full {
		size, count = max(appSize, sizeOf(now)), max(appCount, len(now))
	}
	if len(next) > count || sizeOf(next) > size {
		return nil, ErrTooMany
	}
	return next, nil
}

// sizeOf returns how many bytes preferences take.
func sizeOf(all []jsontext.Value) (size int) {
	for _, p := range all {
		size += len(p)
	}
	return size
}
