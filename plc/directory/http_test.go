package directory_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

const (
	jsonKind  = "application/json; charset=utf-8"
	didKind   = "application/did+ld+json; charset=utf-8"
	linesKind = "application/jsonlines"
)

func message(format string, args ...any) string {
	return fmt.Sprintf(`{"message":%q}`, fmt.Sprintf(format, args...))
}

// want compares a whole answer.
func (a answer) want(t *testing.T, what string, status int, kind, body string) {
	t.Helper()
	if a.status != status || a.kind != kind || a.body != body {
		t.Errorf("%s:\ngot  %d %s %s\nwant %d %s %s", what, a.status, a.kind, a.body, status, kind, body)
	}
}

// TestRoutes goes through the life of one identity and asks every route at each step.
func TestRoutes(t *testing.T) {
	c := newClock()
	s := serve(t, open(t, t.TempDir(), c))
	id := newIdentity(t, "alice.test")
	routes := []string{"", "/data", "/log", "/log/last", "/log/audit"}
	path := "/" + id.did.String()

	s.get("/_health").want(t, "health", 200, jsonKind, `{"version":"nestbox"}`)
	for _, r := range routes {
		s.get(path+r).want(t, "before it is registered: "+r, 404, jsonKind, message("DID not registered: %s", id.did))
		s.get("/nonsense"+r).want(t, "of nonsense: "+r, 404, jsonKind, message("DID not registered: nonsense"))
	}

	s.post(id.did, id.genesis).want(t, "genesis", 200, "text/plain; charset=utf-8", "OK")
	moved := move(t, id.genesis, "https://two.example.com", id.weak)
	c.Advance(time.Hour)
	s.post(id.did, moved).want(t, "move", 200, "text/plain; charset=utf-8", "OK")

	doc, err := plc.Document(id.did, moved)
	if err != nil {
		t.Fatal(err)
	}
	s.get(path).want(t, "document", 200, didKind, string(doc))
	data := moved.Regular
	s.get(path+"/data").want(t, "data", 200, jsonKind, fmt.Sprintf(`{"did":%q,"verificationMethods":%s,"rotationKeys":%s,"alsoKnownAs":%s,"services":%s}`,
		id.did, encode(t, data.VerificationMethods), encode(t, data.RotationKeys), encode(t, data.AlsoKnownAs), encode(t, data.Services)))
	s.get(path+"/log").want(t, "log", 200, jsonKind, "["+encode(t, &id.genesis)+","+encode(t, &moved)+"]")
	s.get(path+"/log/last").want(t, "last", 200, jsonKind, encode(t, &moved))
	s.get(path+"/log/audit").want(t, "audit", 200, jsonKind, "["+
		entry(t, id.did, id.genesis, false, "2026-03-01T12:00:00.001Z")+","+entry(t, id.did, moved, false, "2026-03-01T13:00:00.002Z")+"]")

	// A recovery: the operations that it undoes are in the audit log only.
	recovered := move(t, id.genesis, "https://three.example.com", id.strong)
	s.post(id.did, recovered).want(t, "recovery", 200, "text/plain; charset=utf-8", "OK")
	s.get(path+"/log").want(t, "log", 200, jsonKind, "["+encode(t, &id.genesis)+","+encode(t, &recovered)+"]")
	s.get(path+"/log/last").want(t, "last", 200, jsonKind, encode(t, &recovered))
	if a := s.get(path + "/log/audit"); !strings.Contains(a.body, entry(t, id.did, moved, true, "2026-03-01T13:00:00.002Z")) {
		t.Errorf("the audit log has no nullified operation: %s", a.body)
	}

	// A tombstone: no document any more, but its log.
	end := tombstone(t, recovered, id.weak)
	s.post(id.did, end).want(t, "tombstone", 200, "text/plain; charset=utf-8", "OK")
	for _, r := range []string{"", "/data"} {
		s.get(path+r).want(t, "after the tombstone: "+r, 410, jsonKind, message("DID not available: %s", id.did))
	}
	s.get(path+"/log/last").want(t, "last", 200, jsonKind, encode(t, &end))
}

// entry returns an operation as the audit log and the export show it.
func entry(t *testing.T, did syntax.DID, op didplc.OpEnum, nullified bool, at string) string {
	t.Helper()
	return fmt.Sprintf(`{"did":%q,"operation":%s,"cid":%q,"nullified":%v,"createdAt":%q}`, did, encode(t, &op), cidOf(op), nullified, at)
}

// TestLegacyData: an identity of the old form is shown in today's.
func TestLegacyData(t *testing.T) {
	s := serve(t, open(t, t.TempDir(), newClock()))
	recovery, recoveryDID := newKey(t)
	_, signingDID := newKey(t)
	op := &didplc.LegacyOp{Type: "create", SigningKey: signingDID, RecoveryKey: recoveryDID, Handle: "alice.test", Service: "https://pds.example.com"}
	if err := op.Sign(recovery); err != nil {
		t.Fatal(err)
	}
	did, err := op.DID()
	if err != nil {
		t.Fatal(err)
	}
	if a := s.post(syntax.DID(did), didplc.OpEnum{Legacy: op}); a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	s.get("/"+did+"/data").want(t, "data", 200, jsonKind, fmt.Sprintf(
		`{"did":%q,"verificationMethods":{"atproto":%q},"rotationKeys":[%q,%q],"alsoKnownAs":["at://alice.test"],"services":{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":"https://pds.example.com"}}}`,
		did, signingDID, recoveryDID, signingDID))
	if a := s.get("/" + did); a.status != http.StatusOK || !strings.Contains(a.body, `"at://alice.test"`) {
		t.Errorf("document: %+v", a)
	}
}

func TestRefusals(t *testing.T) {
	c := newClock()
	d := open(t, t.TempDir(), c)
	s := serve(t, d)
	id, other := newIdentity(t, "alice.test"), newIdentity(t, "bob.test")
	if a := s.post(id.did, id.genesis); a.status != http.StatusOK {
		t.Fatalf("genesis: %+v", a)
	}
	moved := move(t, id.genesis, "https://two.example.com", id.weak)
	if a := s.post(id.did, moved); a.status != http.StatusOK {
		t.Fatalf("move: %+v", a)
	}
	for _, r := range []struct {
		name   string
		answer answer
		status int
		says   string
	}{
		{"no DID", s.post("nonsense", id.genesis), 400, "Improperly formatted did"},
		{"another method", s.post("did:web:example.com", id.genesis), 400, "Improperly formatted did"},
		{"no body", s.do(http.MethodPost, "/"+id.did.String(), ""), 400, "improper operation"},
		{"no JSON", s.do(http.MethodPost, "/"+id.did.String(), "{"), 400, "improper operation"},
		{"no operation", s.do(http.MethodPost, "/"+id.did.String(), `{"type":"plc_operation"}`), 400, "is missing"},
		{"a huge body", s.do(http.MethodPost, "/"+id.did.String(), `{"a":"`+strings.Repeat("a", 40<<10)+`"}`), 413, "too large"},
		{"another's genesis", s.post(id.did, other.genesis), 400, "not correctly ordered"},
		{"a genesis under another DID", s.post(other.did, id.genesis), 400, "does not match"},
		{"the same again", s.post(id.did, moved), 400, "invalid signature"},
		{"by a stranger", s.post(id.did, move(t, moved, "https://x.example.com", other.weak)), 400, "invalid signature"},
		{"an unknown predecessor", s.post(id.did, move(t, other.genesis, "https://x.example.com", id.weak)), 400, "not correctly ordered"},
	} {
		if r.answer.status != r.status || r.answer.kind != jsonKind || !strings.Contains(r.answer.body, r.says) {
			t.Errorf("%s: got %+v, want %d and %q", r.name, r.answer, r.status, r.says)
		}
	}
	c.Advance(plc.RecoveryWindow)
	if a := s.post(id.did, move(t, id.genesis, "https://x.example.com", id.strong)); a.status != http.StatusBadRequest || !strings.Contains(a.body, "72 h") {
		t.Errorf("a late recovery: %+v", a)
	}
	if log := d.Log(id.did); len(log) != 2 || log[1].Nullified {
		t.Errorf("refusals left a log of %d", len(log))
	}
	if log := d.Log(other.did); len(log) != 0 {
		t.Errorf("refusals made an identity: %+v", log)
	}
}

func TestExport(t *testing.T) {
	c := newClock()
	s := serve(t, open(t, t.TempDir(), c))
	var lines []string
	var ids []identity
	for _, name := range []syntax.Handle{"a.test", "b.test", "c.test"} {
		id := newIdentity(t, name)
		if a := s.post(id.did, id.genesis); a.status != http.StatusOK {
			t.Fatalf("%+v", a)
		}
		lines = append(lines, entry(t, id.did, id.genesis, false, fmt.Sprintf("2026-03-01T12:00:00.00%dZ", len(lines)+1))+"\n")
		ids = append(ids, id)
	}
	moved := move(t, ids[0].genesis, "https://two.example.com", ids[0].weak)
	if a := s.post(ids[0].did, moved); a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	lines = append(lines, entry(t, ids[0].did, moved, false, "2026-03-01T12:00:00.004Z")+"\n")
	for query, want := range map[string][]string{
		"":                                       lines,
		"?count=2":                               lines[:2],
		"?count=5000":                            lines,
		"?after=2026-03-01T12:00:00.002Z":        lines[2:],
		"?count=1&after=2026-03-01T12:00:00Z":    lines[:1],
		"?after=2026-03-01T13:00:00.002%2B01:00": lines[2:],
		"?after=2027-01-01T00:00:00Z":            nil,
	} {
		s.get("/export"+query).want(t, query, 200, linesKind, strings.Join(want, ""))
	}
	for query, says := range map[string]string{
		"?count=0": "Invalid count parameter", "?count=-1": "Invalid count parameter", "?count=x": "Invalid count parameter",
		"?after=yesterday": "Invalid after parameter",
	} {
		s.get("/export"+query).want(t, query, 400, jsonKind, message("%s", says))
	}
}
