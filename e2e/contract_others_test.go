package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// site makes a request outside of /xrpc/; host replaces the Host header.
func site(t *testing.T, s subject, method, path, host string) pdstest.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.Base+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	return roundTrip(t, req)
}

// TestSite checks the server's answers outside of XRPC, to every origin.
func TestSite(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for _, c := range []struct {
			method, path, host string
			status             int
			contains           string
		}{
			{"GET", "/", "", 200, "AT Protocol"},
			{"GET", "/robots.txt", "", 200, "User-agent: *"},
			{"GET", "/xrpc/_health", "", 200, `"version"`},
			{"POST", "/xrpc/_health", "", 400, `"invalid xrpc path"`},
			{"GET", "/.well-known/did.json", "", 200, `"did:web:localhost"`},
			{"GET", "/.well-known/atproto-did", "alice.test", 200, made.DID},
			{"GET", "/.well-known/atproto-did", "ALICE.test:443", 200, made.DID},
			{"GET", "/.well-known/atproto-did", "bob.test", 404, "User not found"},
			{"GET", "/.well-known/atproto-did", "", 404, "User not found"},
			{"HEAD", "/", "", 200, ""},
			{"POST", "/", "", 405, ""},
			{"OPTIONS", "/", "", 204, ""},
			{"OPTIONS", "/.well-known/atproto-did", "", 204, ""},
			{"GET", "/nowhere", "", 404, ""},
		} {
			t.Run(c.method+" "+c.path+" "+c.host, func(t *testing.T) {
				a := site(t, s, c.method, c.path, c.host)
				wantStatus(t, a, c.status)
				wantHeader(t, a, "Access-Control-Allow-Origin", "*")
				if !strings.Contains(string(a.Body), c.contains) {
					t.Errorf("%q lacks %q", a.Body, c.contains)
				}
			})
		}
	})
}

// TestHandles: a handle resolves to its DID as long as its account is public.
func TestHandles(t *testing.T) {
	srv := pdstest.Start(t, pdstest.Options{})
	s := subject{srv.Client, srv.DataDir}
	made := s.SignUp(t, "alice")
	found := func(t *testing.T, want bool) {
		t.Helper()
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.identity.resolveHandle?handle=Alice.test"})
		known := site(t, s, "GET", "/.well-known/atproto-did", "alice.test")
		if !want {
			a.WantError(t, 400, "HandleNotFound", "Unable to resolve handle")
			wantStatus(t, known, http.StatusNotFound)
			return
		}
		if got := string(a.Body); got != `{"did":"`+made.DID+`"}` || string(known.Body) != made.DID {
			t.Errorf("%s, %s", got, known.Body)
		}
	}
	found(t, true)
	s.command(t, "account.suspend", map[string]string{"account": made.DID}, nil)
	found(t, true)
	s.command(t, "account.unsuspend", map[string]string{"account": made.DID}, nil)
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(made.AccessJwt), Body: "{}"})
	found(t, false)
	s.post(t, "com.atproto.server.activateAccount", made.AccessJwt)
	found(t, true)
	s.takedown(t, made.DID, true)
	found(t, false)
	s.takedown(t, made.DID, false)
	found(t, true)

	for query, message := range map[string]string{
		"":                                 `Missing required key "handle" at $`,
		"?x=alice.test":                    `Missing required key "handle" at $`,
		"?handle=alice":                    "Invalid handle format at $.handle",
		"?handle=alice.test&handle=b.test": "Expected string value type (got array) at $.handle",
	} {
		s.Do(t, pdstest.Request{NSID: "com.atproto.identity.resolveHandle" + query}).WantError(t, 400, "InvalidRequest", message)
	}
}

// TestOperator: every fault of the operator's credential has the same answer; a
// fault of a measure is reported before anything is done.
func TestOperator(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for _, auth := range []string{
			"", "Basic", "Basic !!", "Foo x", basic("admin"), basic("admin:wrong"), basic("root:admin"), basic("admin:admin\x00"),
			pdstest.Bearer(made.AccessJwt), pdstest.Bearer("admin"),
		} {
			a := s.Do(t, pdstest.Request{NSID: "com.atproto.admin.getAccountInfo?did=" + made.DID, Auth: auth})
			want := wireError{401, "AuthenticationRequired", "Authentication Required"}
			if strings.HasPrefix(auth, "Bearer ") { // treated as a moderation service's, and none is trusted
				want = wireError{401, "UntrustedIss", "Untrusted issuer"}
			}
			want.want(t, a)
			a = s.Do(t, pdstest.Request{NSID: "com.atproto.admin.deleteAccount", Auth: auth, Body: map[string]string{"did": made.DID}})
			wireError{401, "AuthenticationRequired", "Authentication Required"}.want(t, a)
		}
		s.takedown(t, made.DID, true)
		subject := `"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + made.DID + `"}`
		for body, message := range map[string]string{
			`{}`:                                     `Missing required key "subject" at $`,
			`{"subject":{"did":"` + made.DID + `"}}`: `Missing required key "$type" at $.subject`,
			`{"subject":{"$type":"x.y.z"}}`:          "Invalid subject (x.y.z)",
			`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"x"},"takedown":{"applied":false}}`: "Invalid DID at $.subject.did",
			`{` + subject + `,"takedown":{}}`:                               `Missing required key "applied" at $.takedown`,
			`{` + subject + `,"takedown":{"applied":"no"}}`:                 "Expected boolean value type (got string) at $.takedown.applied",
			`{` + subject + `,"takedown":false}`:                            "Expected object value type (got boolean) at $.takedown",
			`{` + subject + `,"takedown":null}`:                             "Expected object value type (got null) at $.takedown",
			`{` + subject + `,"takedown":{"applied":true,"applied":false}}`: "Malformed JSON: duplicate object member name",
		} {
			a := s.Do(t, pdstest.Request{NSID: updateStatus, Auth: basic("admin:admin"), Body: body})
			a.WantError(t, 400, "InvalidRequest", message)
		}
		// Nothing of that lifted the takedown.
		takenDown.want(t, s.GetSession(t, made.AccessJwt))
	})
}

// TestInvites: codes are for accounts, one if no number is given.
func TestInvites(t *testing.T) {
	srv := pdstest.Start(t, pdstest.Options{})
	s := subject{srv.Client, srv.DataDir}
	const many = "com.atproto.server.createInviteCodes"
	var out struct {
		Codes []struct {
			Account string
			Codes   []string
		}
	}
	s.admin(t, many, `{"useCount":1}`).Decode(t, &out)
	if len(out.Codes) != 1 || out.Codes[0].Account != "admin" || len(out.Codes[0].Codes) != 1 {
		t.Errorf("one code for nobody: %+v", out)
	}
	s.admin(t, many, `{"useCount":1,"codeCount":3,"forAccounts":["did:web:a.example","did:web:b.example"]}`).Decode(t, &out)
	if len(out.Codes) != 2 || out.Codes[1].Account != "did:web:b.example" || len(out.Codes[1].Codes) != 3 {
		t.Errorf("three codes for two accounts: %+v", out)
	}
	if a := s.admin(t, many, `{"useCount":1,"forAccounts":[]}`); string(a.Body) != `{"codes":[]}` {
		t.Errorf("for no accounts: %s", a.Body)
	}
	for _, body := range []string{`{"useCount":1,"codeCount":0}`, `{"useCount":0}`, `{"useCount":1,"forAccounts":["alice"]}`, `{"useCount":1.5}`} {
		wantStatus(t, s.Do(t, pdstest.Request{NSID: many, Auth: basic("admin:admin"), Body: body}), http.StatusBadRequest)
	}
}

// TestAppPasswordList: the newest first, and never a password.
func TestAppPasswordList(t *testing.T) {
	srv := pdstest.Start(t, pdstest.Options{})
	s := subject{srv.Client, srv.DataDir}
	made := s.SignUp(t, "alice")
	first := s.appPassword(t, made.AccessJwt, "first", false)
	s.appPassword(t, made.AccessJwt, "second", true)
	a := s.Do(t, pdstest.Request{NSID: "com.atproto.server.listAppPasswords", Auth: pdstest.Bearer(made.AccessJwt)})
	var list struct{ Passwords []map[string]any }
	if err := json.Unmarshal(a.Body, &list); err != nil || len(list.Passwords) != 2 {
		t.Fatalf("%v: %s", err, a.Body)
	}
	if list.Passwords[0]["name"] != "second" || list.Passwords[0]["privileged"] != true || list.Passwords[1]["name"] != "first" {
		t.Errorf("%s", a.Body)
	}
	if slices.ContainsFunc(list.Passwords, func(p map[string]any) bool { return p["password"] != nil }) || strings.Contains(string(a.Body), first) {
		t.Errorf("a password is told: %s", a.Body)
	}
}
