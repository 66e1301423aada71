package server_test

import (
	"fmt"
	"net/http"
	"testing"

	"nestbox/internal/pdstest"
)

// TestDoors: guesses at an account's password and codes count together, at whichever
// door they are made, and only against the network that made them.
func TestDoors(t *testing.T) {
	const strangers, owner, code = "198.51.100.%d", "192.0.2.1", "AAAAA-BBBBB"
	doors := map[string]func(did, password string) pdstest.Request{
		"createSession": func(did, password string) pdstest.Request {
			return pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": did, "password": password}}
		},
		"deleteAccount": func(did, password string) pdstest.Request {
			return pdstest.Request{NSID: "com.atproto.server.deleteAccount", Body: map[string]string{"did": did, "password": password, "token": code}}
		},
	}
	right := map[string]int{"createSession": http.StatusOK, "deleteAccount": http.StatusBadRequest} // the code is wrong
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_RATE_LIMITS_ENABLED=true", "PDS_TRUSTED_PROXIES=127.0.0.0/8,::1/128"}})
	n := 0
	for spent, spend := range doors {
		for other, open := range doors {
			n++ // each pair has an account and a network of its own
			account, from := s.SignUp(t, fmt.Sprintf("person%d", n)), fmt.Sprintf(strangers, n)
			t.Run(spent+", then "+other, func(t *testing.T) {
				try := func(addr string, r pdstest.Request) int {
					t.Helper()
					r.Method, r.Header = http.MethodPost, http.Header{"X-Forwarded-For": {addr}}
					return s.Do(t, r).Status
				}
				const guesses = 30 // as the session contract has it
				for i := range guesses {
					if got := try(from, spend(account.DID, "wrong")); got != http.StatusUnauthorized {
						t.Fatalf("guess %d: %d", i+1, got)
					}
				}
				for _, password := range []string{"wrong", pdstest.Password} {
					if got := try(from, open(account.DID, password)); got != http.StatusTooManyRequests {
						t.Errorf("%q after the guesses: %d, want 429", password, got)
					}
				}
				if got := try(owner, open(account.DID, pdstest.Password)); got != right[other] {
					t.Errorf("the owner elsewhere: %d, want %d", got, right[other])
				}
			})
		}
	}
}
