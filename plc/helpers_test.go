package plc_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

// day0 is when the logs of these tests begin.
var day0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// key is a private key with its did:key.
type key struct {
	atcrypto.PrivateKey

	did string
}

func newKey(t testing.TB) key {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return withDID(t, k)
}

func newP256Key(t testing.TB) key {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	return withDID(t, k)
}

func withDID(t testing.TB, k atcrypto.PrivateKey) key {
	t.Helper()
	pub, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key{k, pub.DIDKey()}
}

// data returns an identity with rotation keys in this order.
func data(rotation ...key) plc.Data {
	d := plc.Data{Handle: "alice.test", PDS: "https://pds.example.com"}
	for _, k := range rotation {
		d.RotationKeys = append(d.RotationKeys, k.did)
	}
	d.SigningKey = d.RotationKeys[len(d.RotationKeys)-1]
	return d
}

// sign signs any kind of operation and returns it as one of a log.
func sign(t testing.TB, op didplc.Operation, by key) didplc.OpEnum {
	t.Helper()
	if err := op.Sign(by); err != nil {
		t.Fatal(err)
	}
	switch op := op.(type) {
	case *didplc.RegularOp:
		return didplc.OpEnum{Regular: op}
	case *didplc.LegacyOp:
		return didplc.OpEnum{Legacy: op}
	case *didplc.TombstoneOp:
		return didplc.OpEnum{Tombstone: op}
	default:
		t.Fatalf("unknown kind %T", op)
		return didplc.OpEnum{}
	}
}

// after returns a regular operation behind prev, with a handle that distinguishes it.
func after(t testing.TB, prev didplc.OpEnum, handle string, by key, rotation ...key) didplc.OpEnum {
	t.Helper()
	d := data(rotation...)
	return sign(t, &didplc.RegularOp{
		Type: "plc_operation", RotationKeys: d.RotationKeys, VerificationMethods: map[string]string{"atproto": d.SigningKey},
		AlsoKnownAs: []string{"at://" + handle}, Services: map[string]didplc.OpService{}, Prev: new(cidOf(prev)),
	}, by)
}

func tombstone(t testing.TB, prev didplc.OpEnum, by key) didplc.OpEnum {
	t.Helper()
	return sign(t, &didplc.TombstoneOp{Type: "plc_tombstone", Prev: cidOf(prev)}, by)
}

func cidOf(op didplc.OpEnum) string { return op.AsOperation().CID().String() }

func encode(t testing.TB, op didplc.OpEnum) []byte {
	t.Helper()
	raw, err := json.Marshal(&op)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
