package plc_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

// TestDocument compares whole documents with those of the directory.
func TestDocument(t *testing.T) {
	k256, p256 := newKey(t), newP256Key(t)
	const ed25519 = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
	const did = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	multibase := func(k string) string { return strings.TrimPrefix(k, "did:key:") }
	for _, c := range []struct {
		name string
		op   didplc.OpEnum
		want string
	}{
		{
			"of an account",
			didplc.OpEnum{Regular: &didplc.RegularOp{
				VerificationMethods: map[string]string{"atproto": k256.did}, AlsoKnownAs: []string{"at://alice.test"},
				Services: map[string]didplc.OpService{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "https://pds.example.com"}},
			}},
			`{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1","https://w3id.org/security/suites/secp256k1-2019/v1"],` +
				`"id":"` + did.String() + `","alsoKnownAs":["at://alice.test"],` +
				`"verificationMethod":[{"id":"` + did.String() + `#atproto","type":"Multikey","controller":"` + did.String() + `","publicKeyMultibase":"` + multibase(k256.did) + `"}],` +
				`"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"}]}`,
		},
		{
			"P-256, and a key of a kind that atproto does not use",
			didplc.OpEnum{Regular: &didplc.RegularOp{VerificationMethods: map[string]string{"atproto": p256.did, "other": ed25519}}},
			`{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1","https://w3id.org/security/suites/ecdsa-2019/v1"],` +
				`"id":"` + did.String() + `","alsoKnownAs":[],"verificationMethod":[` +
				`{"id":"` + did.String() + `#atproto","type":"Multikey","controller":"` + did.String() + `","publicKeyMultibase":"` + multibase(p256.did) + `"},` +
				`{"id":"` + did.String() + `#other","type":"Multikey","controller":"` + did.String() + `","publicKeyMultibase":"` + multibase(ed25519) + `"}],"service":[]}`,
		},
		{
			"legacy",
			legacy(t, p256, k256),
			`{"@context":["https://www.w3.org/ns/did/v1","https://w3id.org/security/multikey/v1","https://w3id.org/security/suites/secp256k1-2019/v1"],` +
				`"id":"` + did.String() + `","alsoKnownAs":["at://alice.test"],` +
				`"verificationMethod":[{"id":"` + did.String() + `#atproto","type":"Multikey","controller":"` + did.String() + `","publicKeyMultibase":"` + multibase(k256.did) + `"}],` +
				`"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"}]}`,
		},
	} {
		got, err := plc.Document(did, c.op)
		if err != nil || string(got) != c.want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", c.name, got, err, c.want)
		}
	}
	if got, err := plc.Document(did, tombstone(t, legacy(t, k256, k256), k256)); !errors.Is(err, plc.ErrOperation) {
		t.Errorf("document of a tombstone: %s, %v", got, err)
	}
}

// TestDocumentOf: the document that a host makes of its account is the directory's.
func TestDocumentOf(t *testing.T) {
	owner, server := newKey(t), newKey(t)
	d := data(owner, server)
	did, op, err := plc.Create(d, server)
	if err != nil {
		t.Fatal(err)
	}
	want, err := plc.Document(did, didplc.OpEnum{Regular: op})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := plc.DocumentOf(did, d); err != nil || string(got) != string(want) {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestDataOf(t *testing.T) {
	k := newKey(t)
	if d, ok := plc.DataOf(tombstone(t, legacy(t, k, k), k)); ok {
		t.Errorf("a tombstone has data %+v", d)
	}
	d, ok := plc.DataOf(didplc.OpEnum{Regular: &didplc.RegularOp{AlsoKnownAs: []string{"https://a.example", "at://first.test", "at://second.test"}}})
	if !ok || d.Handle != "first.test" {
		t.Errorf("the handle is %q, want the first at:// alias", d.Handle)
	}
	if d, ok := plc.DataOf(didplc.OpEnum{Regular: &didplc.RegularOp{}}); !ok || d.Handle != "" || d.PDS != "" {
		t.Errorf("an empty identity has data %+v", d)
	}
}
