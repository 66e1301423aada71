package prefs_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"nestbox/internal/costtest"
	"nestbox/internal/pdstest"
	"nestbox/lexicon"
	"nestbox/prefs"
)

const (
	adult    = `{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true}`
	saved    = `{"$type":"app.bsky.actor.defs#savedFeedsPrefV2","items":[{"id":"3jui7kd54zh2y","type":"timeline","value":"following","pinned":true}]}`
	personal = `{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"2010-11-25T00:00:00.000Z"}`
)

// declared returns the preference that is derived from a birth date.
func declared(over13, over16, over18 bool) string {
	return fmt.Sprintf(`{"$type":"app.bsky.actor.defs#declaredAgePref","isOverAge13":%t,"isOverAge16":%t,"isOverAge18":%t}`, over13, over16, over18)
}

func put(t *testing.T, s *pdstest.InProcess, auth, list string) pdstest.Answer {
	t.Helper()
	return s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "app.bsky.actor.putPreferences", Auth: auth, Body: `{"preferences":` + list + `}`})
}

func mustPut(t *testing.T, s *pdstest.InProcess, auth string, list ...string) {
	t.Helper()
	if a := put(t, s, auth, "["+strings.Join(list, ",")+"]"); a.Status != http.StatusOK {
		t.Fatalf("put: %d %s", a.Status, a.Body)
	}
}

// is fails the test unless a session sees these preferences.
func is(t *testing.T, s *pdstest.InProcess, what, auth string, want ...string) {
	t.Helper()
	a := s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "app.bsky.actor.getPreferences", Auth: auth})
	var out struct{ Preferences []json.RawMessage }
	a.Decode(t, &out)
	var got []string
	for _, p := range out.Preferences {
		got = append(got, string(p))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || out.Preferences == nil {
		t.Errorf("%s: %s, want %s", what, a.Body, want)
	}
}

func appPassword(t *testing.T, s *pdstest.InProcess, owner pdstest.Session) string {
	t.Helper()
	var made struct{ Password string }
	s.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(owner.AccessJwt),
		Body: map[string]any{"name": "app", "privileged": true},
	}).Decode(t, &made)
	return pdstest.Bearer(s.SignIn(t, owner.Handle, made.Password).AccessJwt)
}

// TestPreferences: preferences that a session may not see stay when it writes; every
// session sees the age derived from a birth date, which is not kept.
func TestPreferences(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Now: func() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }})
	alice := s.SignUp(t, "alice")
	full, app := pdstest.Bearer(alice.AccessJwt), appPassword(t, s, alice)
	is(t, s, "none yet", full)
	mustPut(t, s, full, saved, personal, adult)
	age := declared(true, false, false) // 15, and 16 tomorrow
	is(t, s, "the owner", full, saved, personal, adult, age)
	is(t, s, "an app", app, saved, adult, age)

	mustPut(t, s, app, adult, age)
	is(t, s, "the owner, after an app wrote", full, personal, adult, age)
	put(t, s, app, "["+personal+","+personal+"]").WantError(t, 400, "InvalidRequest",
		"Do not have authorization to set preferences: app.bsky.actor.defs#personalDetailsPref, app.bsky.actor.defs#personalDetailsPref")
	is(t, s, "after a refusal", full, personal, adult, age)
	mustPut(t, s, full, saved, declared(true, true, true))
	is(t, s, "an age that nobody declared", full, saved)
	mustPut(t, s, full)
	is(t, s, "emptied", full)
}

func TestPreferencesRefused(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := pdstest.Bearer(s.SignUp(t, "alice").AccessJwt)
	mustPut(t, s, alice, adult)
	many := strings.TrimSuffix(strings.Repeat(adult+",", 1001), ",")
	for list, want := range map[string]string{
		`[{"enabled":true}]`:                    "Preference is missing a $type",
		`["text"]`:                              "Preference is missing a $type",
		`[{"$type":5}]`:                         "Preference is missing a $type",
		`[{"$type":"com.example.pref"}]`:        "Some preferences are not in the app.bsky namespace",
		`[{"$type":"app.bskyish.pref"}]`:        "Some preferences are not in the app.bsky namespace",
		`[` + adult + `,{"$type":"app.other"}]`: "Some preferences are not in the app.bsky namespace",
		`null`:                                  "Expected array value type (got null) at $.preferences",
		`[` + many + `]`:                        "Preferences are too many or too large: at most 1000, and 262144 bytes",
	} {
		put(t, s, alice, list).WantError(t, 400, "InvalidRequest", want)
	}
	if a := put(t, s, alice, `"none"`); a.Status != 400 {
		t.Errorf("no list: %d %s", a.Status, a.Body)
	}
	if a := put(t, s, alice, `["`+strings.Repeat("x", 150<<10)+`"]`); a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %d %s", a.Status, a.Body)
	}
	for pref, want := range map[string]string{
		`{"$type":"app.bsky.actor.defs#adultContentPref"}`:                      `malformed preference: Missing required key "enabled" at $.preferences[1]`,
		`{"$type":"app.bsky.actor.defs#adultContentPref","enabled":"yes"}`:      `malformed preference: Expected boolean value type (got "yes") at $.preferences[1].enabled`,
		`{"$type":"app.bsky.actor.defs#savedFeedsPrefV2","items":[{"id":"x"}]}`: `malformed preference: Missing required key "type" at $.preferences[1].items[0]`,
	} {
		put(t, s, alice, "["+adult+","+pref+"]").WantError(t, 400, "InvalidRequest", want)
	}
	put(t, s, "", "[]").WantError(t, 401, "AuthMissing", "Authentication Required")
	s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "app.bsky.actor.getPreferences"}).WantError(t, 401, "AuthMissing", "Authentication Required")
	is(t, s, "after all that", alice, adult)
}

// TestPreferencesAtOnce: two apps that write at the same time do not mix.
func TestPreferencesAtOnce(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := pdstest.Bearer(s.SignUp(t, "alice").AccessJwt)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			pref := fmt.Sprintf(`{"$type":"app.bsky.pref","n":%d}`, i)
			if a := put(t, s, alice, "["+pref+","+pref+"]"); a.Status != http.StatusOK {
				t.Errorf("%d %s", a.Status, a.Body)
			}
		})
	}
	all.Wait()
	var out struct{ Preferences []struct{ N int } }
	s.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "app.bsky.actor.getPreferences", Auth: alice}).Decode(t, &out)
	if len(out.Preferences) != 2 || out.Preferences[0] != out.Preferences[1] {
		t.Errorf("%+v", out)
	}
}

// TestPreferencesKept: an unknown kind is kept as it is, and an old preference that is
// malformed does not keep its owner from changing others.
func TestPreferencesKept(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := pdstest.Bearer(s.SignUp(t, "alice").AccessJwt)
	unknown := `{"$type":"app.bsky.actor.defs#futurePref","enabled":"whatever","share":0.5}`
	mustPut(t, s, alice, adult, unknown)
	is(t, s, "an unknown kind", alice, adult, unknown)
}

// TestMalformedKept: a malformed preference is accepted only if the account has it
// already.
func TestMalformedKept(t *testing.T) {
	old := jsontext.Value(`{"$type":"app.bsky.actor.defs#adultContentPref","enabled":"yes"}`)
	same := jsontext.Value(`{ "enabled": "yes", "$type": "app.bsky.actor.defs#adultContentPref" }`)
	other := jsontext.Value(`{"$type":"app.bsky.actor.defs#adultContentPref","enabled":"no"}`)
	if err := prefs.CheckNew(lexicon.Known(), []jsontext.Value{old}, []jsontext.Value{same}); err != nil {
		t.Errorf("what was there: %v", err)
	}
	if err := prefs.CheckNew(lexicon.Known(), []jsontext.Value{old}, []jsontext.Value{other}); err == nil {
		t.Error("another one is taken")
	}
}

// TestPreferencesCost: the cost of checking preferences follows their size.
func TestPreferencesCost(t *testing.T) {
	item := `{"id":"3kabc","type":"feed","value":"at://did:plc:x/app.bsky.feed.generator/x","pinned":true}`
	for name, text := range map[string]func(n int) string{
		"many items": func(n int) string {
			return `{"$type":"app.bsky.actor.defs#savedFeedsPrefV2","items":[` + strings.Repeat(item+",", n) + item + `]}`
		},
		"many members": func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, `,"m%d":%d`, i, i)
			}
			return `{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true` + b.String() + `}`
		},
		"deep": func(n int) string {
			return `{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true,"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
		},
	} {
		t.Run(name, func(t *testing.T) {
			costtest.Linear(t, 1000, func(n int) func() {
				put := []jsontext.Value{jsontext.Value(text(n))}
				return func() { _ = prefs.CheckNew(lexicon.Known(), put, put) }
			})
		})
	}
}

// TestPreferencesLeftToTheOwner: an app that fills the preferences leaves room for
// the owner's own sessions, and can still write what is there.
func TestPreferencesLeftToTheOwner(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	full, app := pdstest.Bearer(alice.AccessJwt), appPassword(t, s, alice)
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(adult+",", n), ",") + "]" }
	n := 0
	for _, more := range []int{400, 200, 100, 50, 25, 10, 1} {
		for put(t, s, app, list(n+more)).Status == http.StatusOK {
			n += more
		}
	}
	if n != 750 {
		t.Errorf("an app wrote %d preferences, want 750", n)
	}
	if a := put(t, s, full, list(n+200)); a.Status != http.StatusOK {
		t.Errorf("the owner: %d %s", a.Status, a.Body)
	}
	if a := put(t, s, app, list(n+200)); a.Status != http.StatusOK {
		t.Errorf("an app that writes what is there: %d %s", a.Status, a.Body)
	}
	put(t, s, app, list(n+201)).WantError(t, 400, "InvalidRequest", "Preferences are too many or too large: at most 1000, and 262144 bytes")
}
