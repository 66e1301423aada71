package plc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"
)

// document is a DID document in the form of the PLC directory.
type document struct {
	Context            []string             `json:"@context"`
	ID                 string               `json:"id"`
	AlsoKnownAs        []string             `json:"alsoKnownAs"`
	VerificationMethod []verificationMethod `json:"verificationMethod"`
	Service            []service            `json:"service"`
}

type verificationMethod struct {
	ID                 string `json:"id"`
	Type               string `json:"type"`
	Controller         string `json:"controller"`
	PublicKeyMultibase string `json:"publicKeyMultibase"`
}

type service struct {
	ID              string `json:"id"`
	Type            string `json:"type"`
	ServiceEndpoint string `json:"serviceEndpoint"`
}

// Document returns the DID document, JSON, that an operation results in. Members are
// in a stable order. A tombstone has no document.
func Document(did syntax.DID, op didplc.OpEnum) ([]byte, error) {
	regular := op.Regular
	if op.Legacy != nil {
		r := op.Legacy.RegularOp()
		regular = &r
	}
	if regular == nil {
		return nil, improper("a tombstone has no document")
	}
	doc := document{
		Context:     []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"},
		ID:          did.String(),
		AlsoKnownAs: append([]string{}, regular.AlsoKnownAs...),
		// Empty lists are lists, not null.
		VerificationMethod: []verificationMethod{}, Service: []service{},
	}
	for _, name := range slices.Sorted(maps.Keys(regular.VerificationMethods)) {
		key := regular.VerificationMethods[name]
		if suite := suiteOf(key); suite != "" && !slices.Contains(doc.Context, suite) {
			doc.Context = append(doc.Context, suite)
		}
		doc.VerificationMethod = append(doc.VerificationMethod, verificationMethod{
			ID: did.String() + "#" + name, Type: methodMultikey, Controller: did.String(),
			PublicKeyMultibase: strings.TrimPrefix(key, keyPrefix),
		})
	}
	for _, id := range slices.Sorted(maps.Keys(regular.Services)) {
		s := regular.Services[id]
		doc.Service = append(doc.Service, service{ID: "#" + id, Type: s.Type, ServiceEndpoint: s.Endpoint})
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode DID document: %w", err)
	}
	return raw, nil
}

// suiteOf returns the context of a key's kind; a verification method may have a key
// of a kind that atproto does not use, which has no context.
func suiteOf(key string) string {
	if len(key) > maxKeyText {
		return ""
	}
	pub, err := atcrypto.ParsePublicDIDKey(key)
	if err != nil {
		return ""
	}
	if _, ok := pub.(*atcrypto.PublicKeyP256); ok {
		return "https://w3id.org/security/suites/ecdsa-2019/v1"
	}
	return "https://w3id.org/security/suites/secp256k1-2019/v1"
}

// DocumentOf returns the document of an identity from what its host knows.
func DocumentOf(did syntax.DID, d Data) ([]byte, error) {
	return Document(did, didplc.OpEnum{Regular: &didplc.RegularOp{
		VerificationMethods: map[string]string{methodAtproto: d.SigningKey},
		AlsoKnownAs:         []string{aliasPrefix + d.Handle.String()},
		Services:            map[string]didplc.OpService{servicePDS: {Type: typePDS, Endpoint: d.PDS}},
	}})
}
