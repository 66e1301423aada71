package identity_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/identity"
)

// shown reports whether JSON can be a part of an answer.
func shown(raw []byte) error {
	_, err := json.Marshal(struct {
		DIDDoc jsontext.Value `json:"didDoc"`
	}{raw})
	return err
}

// with is a document of didA with one member more.
func with(member string) string { return `{"id":"` + didA.String() + `",` + member + `}` }

func nested(open, end string, deep int) string {
	return strings.Repeat(open, deep) + "1" + strings.Repeat(end, deep)
}

// foreign are documents that a host might serve, and whether clients can be shown them.
func foreign() map[string]bool {
	return map[string]bool{
		with(`"a":"ä € 𝄞"`):                              true,
		with(`"a":"\ud834\udd1e"`):                       true,
		with(`"a":` + nested("[", "]", 31)):              true,
		with(`"a":"` + strings.Repeat("[", 100) + `\""`): true,
		with("\"a\":\"\xff\""):                           false,
		with("\"a\":\"\xc3\""):                           false,
		with("\"\xff\":1"):                               false,
		with(`"a":"\ud800"`):                             false,
		with(`"a":"\udd1e\ud834"`):                       false,
		with(`"a":` + nested("[", "]", 32)):              false,
		with(`"a":` + nested(`{"a":`, "}", 32)):          false,
		with(`"a":` + nested("[", "]", 10_000)):          false,
		with(`"id":"` + didA.String() + `"`):             false,
		with(`"a":{"b":1,"b":2}`):                        false,
		with(`"a":1`) + "{}":                             false,
		with(`"a":01`):                                   false,
		"":                                               false,
		"null":                                           false,
		`["` + didA.String() + `"]`:                      false,
	}
}

// TestForeign: what is kept can be shown, and what could not be shown is refused.
func TestForeign(t *testing.T) {
	for raw, good := range foreign() {
		_, err := identity.ParseDocument(didA, []byte(raw))
		if (err == nil) != good || err != nil && !errors.Is(err, identity.ErrMalformed) {
			t.Errorf("%.80q: %v", raw, err)
		}
		if identity.Presentable([]byte(raw)) != good {
			t.Errorf("%.80q: presentable: %v", raw, !good)
		}
	}
}

// TestKept: of a document that is too large to be kept, what this server reads is.
func TestKept(t *testing.T) {
	small := document(didA, "alice.example.com")
	large := strings.TrimSuffix(strings.TrimSpace(small), "}") + `,"a":"` + strings.Repeat("x", identity.MaxKept) + `"}`
	if kept, err := identity.Kept(didA, []byte(small)); err != nil || string(kept) != small {
		t.Errorf("%s, %v", kept, err)
	}
	was, err := identity.ParseDocument(didA, []byte(large))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := identity.Kept(didA, []byte(large))
	if err != nil || len(kept) > 2000 {
		t.Fatalf("%d bytes, %v", len(kept), err)
	}
	is, err := identity.ParseDocument(didA, kept)
	if err != nil || is.Handle() != was.Handle() || is.SigningKey() != was.SigningKey() || is.PDS() != was.PDS() {
		t.Errorf("%s, %v", kept, err)
	}
	long := `{"id":"` + didA.String() + `","service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://` +
		strings.Repeat("a", identity.MaxKept) + `"}]}`
	if kept, err := identity.Kept(didA, []byte(long)); err != nil || len(kept) > 2000 || !identity.Presentable(kept) {
		t.Errorf("%d bytes, %v", len(kept), err)
	}
}

// FuzzForeign: what is kept of a document, and what is presentable, can be a part of
// an answer.
func FuzzForeign(f *testing.F) {
	var seeds []string
	for raw := range foreign() {
		seeds = append(seeds, raw)
	}
	slices.Sort(seeds)
	for _, raw := range seeds {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if kept, err := identity.Kept(didA, raw); err == nil {
			if err := shown(kept); err != nil || !identity.Presentable(kept) {
				t.Errorf("kept %q of %q: %v", kept, raw, err)
			}
			if d, err := identity.ParseDocument(didA, kept); err != nil {
				t.Errorf("kept %q: %v", kept, err)
			} else if again, err := identity.Kept(didA, d.Raw); err != nil || string(again) != string(kept) {
				t.Errorf("kept %q, then %q: %v", kept, again, err)
			}
		}
		if identity.Presentable(raw) {
			if err := shown(raw); err != nil {
				t.Errorf("%q: %v", raw, err)
			}
		}
	})
}
