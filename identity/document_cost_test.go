package identity_test

import (
	"strings"
	"testing"

	"nestbox/identity"
	"nestbox/internal/costtest"
)

// TestDocumentCost: to read a DID document, and what it says, costs what its size
// says.
func TestDocumentCost(t *testing.T) {
	const did = "did:plc:44ybard66vv44zksje25o7dz"
	key := func(kind, text string) string {
		return `{"id":"#atproto","type":"` + kind + `","publicKeyMultibase":"` + text + `"}`
	}
	for name, members := range map[string]func(n int) string{
		"a long key": func(n int) string {
			return `"verificationMethod":[` + key("Multikey", "z"+strings.Repeat("2", n)) + `]`
		},
		"a long old key": func(n int) string {
			return `"verificationMethod":[` + key("EcdsaSecp256k1VerificationKey2019", "z"+strings.Repeat("2", n)) + `]`
		},
		"many keys": func(n int) string {
			return `"verificationMethod":[` + strings.Repeat(`{"id":"#x"},`, n/12) + `{"id":"#x"}]`
		},
		"many aliases": func(n int) string {
			return `"alsoKnownAs":[` + strings.Repeat(`"https://a",`, n/12) + `"at://a.example.com"]`
		},
		"a long alias": func(n int) string { return `"alsoKnownAs":["at://` + strings.Repeat("a.", n/2) + `com"]` },
		"deep":         func(n int) string { return `"x":` + strings.Repeat("[", n/2) + strings.Repeat("]", n/2) },
		"a service deep": func(n int) string {
			return `"service":[{"serviceEndpoint":` + strings.Repeat("[", n/2) + strings.Repeat("]", n/2) + `}]`
		},
	} {
		t.Run(name, func(t *testing.T) {
			costtest.Linear(t, 100_000, func(n int) func() {
				raw := []byte(`{"id":"` + did + `",` + members(n) + `}`)
				return func() {
					d, err := identity.ParseDocument(did, raw)
					if err != nil {
						return
					}
					d.Handle()
					d.SigningKey()
					d.PDS()
				}
			})
		})
	}
}
