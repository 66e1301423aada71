package repo_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
	"nestbox/repo"
	"nestbox/xrpc"
)

// wire is a client of a whole server.
type wire struct {
	*pdstest.InProcess

	t    *testing.T
	auth string
}

func (w wire) post(nsid string, body any) pdstest.Answer {
	w.t.Helper()
	return w.Do(w.t, pdstest.Request{Method: "POST", NSID: nsid, Auth: w.auth, Body: body})
}

func (w wire) get(nsid string, params url.Values) pdstest.Answer {
	w.t.Helper()
	return w.Do(w.t, pdstest.Request{Method: "GET", NSID: nsid + "?" + params.Encode()})
}

// wantBody fails the test unless the answer's body is exactly want.
func (w wire) wantBody(a pdstest.Answer, want string) {
	w.t.Helper()
	if a.Status != 200 || string(a.Body) != want {
		w.t.Errorf("\n got %d %s\nwant %s", a.Status, a.Body, want)
	}
}

// TestWire: the endpoints as a client sees them, byte for byte if that matters.
func TestWire(t *testing.T) {
	dir := t.TempDir()
	before := pdstest.Start(t, pdstest.Options{Dir: dir})
	who := before.SignUp(t, "alice")
	before.Stop()
	// An account that is older than repositories gets its own at the start.
	w := wire{pdstest.Start(t, pdstest.Options{Dir: dir}), t, pdstest.Bearer(who.AccessJwt)}

	const create, apply, list = "com.atproto.repo.createRecord", "com.atproto.repo.applyWrites", "com.atproto.repo.listRecords"
	type object = map[string]any
	made := w.post(create, object{"repo": "alice.test", "collection": foo, "rkey": "a", "record": object{"n": 1}})
	var out repo.RecordOutput
	made.Decode(t, &out)
	w.wantBody(made, `{"uri":"at://`+who.DID+`/com.example.foo/a","cid":"`+out.CID+`","commit":{"cid":"`+out.Commit.CID+`","rev":"`+out.Commit.Rev.String()+`"},"validationStatus":"unknown"}`)
	record := `{"uri":"at://` + who.DID + `/com.example.foo/a","cid":"` + out.CID + `","value":{"n":1,"$type":"com.example.foo"}}`
	w.wantBody(w.get("com.atproto.repo.getRecord", url.Values{"repo": {who.DID}, "collection": {foo}, "rkey": {"a"}, "cid": {out.CID}}), record)
	w.wantBody(w.get(list, url.Values{"repo": {"alice.test"}, "collection": {foo}}), `{"records":[`+record+`],"cursor":"a"}`)
	w.wantBody(w.get(list, url.Values{"repo": {"alice.test"}, "collection": {foo}, "cursor": {"a"}}), `{"records":[]}`)
	w.wantBody(w.post("com.atproto.repo.putRecord", object{"repo": who.DID, "collection": foo, "rkey": "a", "record": object{"n": 1}}),
		`{"uri":"at://`+who.DID+`/com.example.foo/a","cid":"`+out.CID+`","validationStatus":"unknown"}`)
	w.wantBody(w.post("com.atproto.repo.deleteRecord", object{"repo": who.DID, "collection": foo, "rkey": "none"}), `{}`)

	batch := w.post(apply, object{"repo": who.DID, "validate": false, "writes": []object{
		{"$type": apply + "#create", "collection": foo, "rkey": "b", "value": object{}}, {"$type": apply + "#delete", "collection": foo, "rkey": "a"},
	}})
	var both repo.ApplyWritesOutput
	batch.Decode(t, &both)
	w.wantBody(batch, `{"commit":{"cid":"`+both.Commit.CID+`","rev":"`+both.Commit.Rev.String()+`"},"results":[`+
		`{"$type":"`+apply+`#createResult","uri":"at://`+who.DID+`/com.example.foo/b","cid":"`+both.Results[0].CID+`"},{"$type":"`+apply+`#deleteResult"}]}`)

	var described repo.DescribeRepoOutput
	w.get("com.atproto.repo.describeRepo", url.Values{"repo": {"alice.test"}}).Decode(t, &described)
	if described.Handle != "alice.test" || described.DID.String() != who.DID || !described.HandleIsCorrect ||
		len(described.Collections) != 1 || !strings.Contains(string(described.DIDDoc), who.DID) {
		t.Errorf("%+v", described)
	}

	w.auth = ""
	w.post(create, object{"repo": who.DID, "collection": foo, "record": object{}}).WantError(t, 401, "AuthMissing", "Authentication Required")
	w.auth = pdstest.Bearer(who.AccessJwt)
	w.post("com.atproto.repo.putRecord", object{"repo": who.DID, "collection": foo, "rkey": "b", "record": object{"n": 1}, "swapRecord": nil}).
		WantError(t, 400, "InvalidSwap", "Record was at "+both.Results[0].CID)
	w.post(create, `{"repo":"`+who.DID+`","collection":"com.example.foo","record":{"a":1,"a":2}}`).
		WantError(t, 400, "InvalidRequest", "Malformed JSON: duplicate object member name")
	w.get(list, url.Values{"repo": {who.DID}, "collection": {foo}, "limit": {"101"}}).
		WantError(t, 400, "InvalidRequest", "integer too big (maximum 100, got 101) at $.limit")
}

// TestBodyLimits: a body that carries records may be large, no other may.
func TestBodyLimits(t *testing.T) {
	dir := t.TempDir()
	before := pdstest.Start(t, pdstest.Options{Dir: dir})
	who := before.SignUp(t, "alice")
	before.Stop()
	w := wire{pdstest.Start(t, pdstest.Options{Dir: dir}), t, pdstest.Bearer(who.AccessJwt)}
	const apply = "com.atproto.repo.applyWrites"
	large := map[string]any{"t": ""}
	for nsid, c := range map[string]struct {
		body  map[string]any
		limit int
	}{
		"com.atproto.repo.createRecord": {map[string]any{"repo": who.DID, "collection": foo, "record": large}, repo.MaxWriteBody},
		"com.atproto.repo.putRecord":    {map[string]any{"repo": who.DID, "collection": foo, "rkey": "k", "record": large}, repo.MaxWriteBody},
		apply: {map[string]any{"repo": who.DID, "writes": []any{
			map[string]any{"$type": apply + "#create", "collection": foo, "value": large},
		}}, repo.MaxWriteBody},
		"com.atproto.repo.deleteRecord": {map[string]any{"repo": who.DID, "collection": foo, "rkey": "k"}, xrpc.DefaultMaxBody},
	} {
		raw, err := json.Marshal(c.body)
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		fill := func(size int) string { // to a body of size bytes
			if !strings.Contains(text, `"t":""`) {
				return text + strings.Repeat(" ", size-len(text))
			}
			return strings.Replace(text, `"t":""`, `"t":"`+strings.Repeat("x", size-len(text))+`"`, 1)
		}
		if a := w.post(nsid, fill(c.limit)); a.Status != 200 {
			t.Errorf("%s, %d bytes: %d %s", nsid, c.limit, a.Status, a.Body)
		}
		w.post(nsid, fill(c.limit+1)).WantError(t, 413, "PayloadTooLarge", "request entity too large")
	}
}
