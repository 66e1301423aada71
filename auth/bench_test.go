package auth_test

import (
	"testing"

	"nestbox/auth"
)

func BenchmarkMintPair(b *testing.B) {
	k := ring(b)
	b.ReportAllocs()
	for b.Loop() {
		mint(b, k)
	}
}

func BenchmarkVerifyAccess(b *testing.B) {
	k := ring(b)
	now, token := noon(), mint(b, k).Access
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.VerifyAccess(token, audience, now, auth.ScopeAccess); err != nil {
			b.Fatal(err)
		}
	}
}
