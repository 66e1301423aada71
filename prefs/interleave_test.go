package prefs_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/lexicon"
	"nestbox/prefs"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// TestPutsMeet: preferences that an app and the owner replace at the same time, or while
// the account is deleted, end as one after the other: an app never removes what only the
// owner's sessions see.
func TestPutsMeet(t *testing.T) {
	t.Parallel()
	const did = syntax.DID("did:plc:meeting")
	build := func(other string) func(t *testing.T, before func()) storetest.Changes {
		return func(t *testing.T, before func()) storetest.Changes {
			db := storetest.Open(t, storetest.Options{Before: before})
			a, err := storetest.AddAccount(t.Context(), db.Stores, hosting.Pending{DID: did, Handle: "alice.test", Email: "a@example.com", CreatedAt: time.UnixMilli(1000)})
			if err != nil {
				t.Fatal(err)
			}
			s := &prefs.Service{Store: db.Prefs, Lexicons: lexicon.Known(), Now: func() time.Time { return time.UnixMilli(2000) }}
			puts := func(scope auth.Scope, list ...string) func() string {
				return func() string {
					var in prefs.PutPreferencesInput
					for _, p := range list {
						in.Preferences = append(in.Preferences, jsontext.Value(p))
					}
					_, err := s.Put(t.Context(), auth.StandardCaller{Access: auth.Access{DID: did, Scope: scope}}, in)
					if e, ok := errors.AsType[*xrpc.Error](err); ok {
						return e.Name
					}
					return fmt.Sprint(err)
				}
			}
			if got := puts(auth.ScopeAccess, personal)(); got != "<nil>" {
				t.Fatal(got)
			}
			changes := map[string]func() string{
				"the owner":    puts(auth.ScopeAccess, saved),
				"another app":  puts(auth.ScopeAppPass),
				"the deletion": func() string { return fmt.Sprint(storetest.Leave(t.Context(), db.Stores, a.ID, time.UnixMilli(2000))) },
			}
			return storetest.Changes{One: puts(auth.ScopeAppPass, adult), Other: changes[other], State: func() string {
				list, err := db.Prefs.Preferences(t.Context(), did)
				return fmt.Sprintf("%s %v", list, err)
			}}
		}
	}
	for _, other := range []string{"the owner", "another app", "the deletion"} {
		t.Run(other, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, build(other))
		})
	}
}
