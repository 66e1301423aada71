package plc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

func TestCreate(t *testing.T) {
	owner, server, signing := newP256Key(t), newKey(t), newKey(t)
	d := plc.Data{
		RotationKeys: []string{owner.did, server.did, owner.did}, SigningKey: signing.did,
		Handle: "alice.test", PDS: "https://pds.example.com",
	}
	did, op, err := plc.Create(d, server)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := syntax.ParseDID(did.String()); err != nil || !strings.HasPrefix(did.String(), "did:plc:") || len(did) != 32 {
		t.Errorf("DID %q", did)
	}
	if want := []string{owner.did, server.did}; !slices.Equal(op.RotationKeys, want) {
		t.Errorf("rotation keys %q, want %q: the earlier the mightier, none twice", op.RotationKeys, want)
	}
	if op.Prev != nil {
		t.Errorf("prev = %q", *op.Prev)
	}
	got, ok := plc.DataOf(didplc.OpEnum{Regular: op})
	d.RotationKeys = d.RotationKeys[:2]
	if !ok || fmt.Sprint(got) != fmt.Sprint(d) {
		t.Errorf("DataOf = %+v, want %+v", got, d)
	}
	log, err := plc.Append(did, nil, didplc.OpEnum{Regular: op}, day0)
	if err != nil || len(log) != 1 {
		t.Errorf("Append = %v, %v", log, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	server := newKey(t)
	for name, change := range map[string]func(*plc.Data){
		"no rotation key":         func(d *plc.Data) { d.RotationKeys = nil },
		"eleven rotation keys":    func(d *plc.Data) { d.RotationKeys = newKeys(t, 11) },
		"a rotation key is none":  func(d *plc.Data) { d.RotationKeys = []string{"did:key:zZZZ"} },
		"the signing key is none": func(d *plc.Data) { d.SigningKey = "z123" },
		"a long URL":              func(d *plc.Data) { d.PDS = "https://" + strings.Repeat("a", 512) },
		"no URL":                  func(d *plc.Data) { d.PDS = "" },
		"a long handle":           func(d *plc.Data) { d.Handle = syntax.Handle(strings.Repeat("a", 260)) },
	} {
		d := data(server)
		change(&d)
		if _, _, err := plc.Create(d, server); !errors.Is(err, plc.ErrOperation) {
			t.Errorf("%s: %v, want ErrOperation", name, err)
		}
	}
}

func newKeys(t *testing.T, n int) []string {
	t.Helper()
	var keys []string
	for range n {
		keys = append(keys, newKey(t).did)
	}
	return keys
}

// TestAmendHost: the host changes, and nothing else.
func TestAmendHost(t *testing.T) {
	owner, server := newKey(t), newKey(t)
	_, genesis, err := plc.Create(data(owner, server), server)
	if err != nil {
		t.Fatal(err)
	}
	genesis.Services["labeler"] = didplc.OpService{Type: "Labeler", Endpoint: "https://label.example.com"}
	last := sign(t, genesis, server)
	before := string(encode(t, last))
	moved, err := plc.Amend(last, plc.Data{PDS: "https://new.example.com"}, server)
	if err != nil {
		t.Fatal(err)
	}
	if now := string(encode(t, last)); now != before {
		t.Errorf("Amend changed the operation that it follows:\n%s\n%s", before, now)
	}
	if *moved.Prev != cidOf(last) || moved.Services["atproto_pds"].Endpoint != "https://new.example.com" || len(moved.Services) != 2 ||
		!slices.Equal(moved.RotationKeys, genesis.RotationKeys) || !slices.Equal(moved.AlsoKnownAs, genesis.AlsoKnownAs) {
		t.Errorf("moved to %+v", moved)
	}
	did := syntax.DID(mustDID(t, last))
	log, err := plc.Append(did, nil, last, day0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = plc.Append(did, log, didplc.OpEnum{Regular: moved}, day0.Add(1)); err != nil {
		t.Errorf("the log does not take it: %v", err)
	}
	if _, err := plc.Amend(tombstone(t, last, server), plc.Data{PDS: "https://new.example.com"}, server); !errors.Is(err, plc.ErrOperation) {
		t.Errorf("a tombstone: %v", err)
	}
}

func mustDID(t *testing.T, op didplc.OpEnum) string {
	t.Helper()
	did, err := op.AsOperation().DID()
	if err != nil {
		t.Fatal(err)
	}
	return did
}

// TestAmendLegacy: a genesis operation of the old form is carried over into
// today's, with its recovery key first.
func TestAmendLegacy(t *testing.T) {
	recovery, signing := newKey(t), newKey(t)
	last := legacy(t, recovery, signing)
	moved, err := plc.Amend(last, plc.Data{PDS: "https://new.example.com"}, recovery)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := plc.DataOf(didplc.OpEnum{Regular: moved})
	if !ok || !slices.Equal(d.RotationKeys, []string{recovery.did, signing.did}) || d.SigningKey != signing.did ||
		d.Handle != "alice.test" || d.PDS != "https://new.example.com" || moved.Type != "plc_operation" {
		t.Errorf("moved to %+v", moved)
	}
	did := syntax.DID(mustDID(t, last))
	log, err := plc.Append(did, nil, last, day0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plc.Append(did, log, didplc.OpEnum{Regular: moved}, day0.Add(1)); err != nil {
		t.Error(err)
	}
}

// legacy returns a genesis operation of the old form.
func legacy(t testing.TB, recovery, signing key) didplc.OpEnum {
	t.Helper()
	return sign(t, &didplc.LegacyOp{
		Type: "create", SigningKey: signing.did, RecoveryKey: recovery.did, Handle: "alice.test", Service: "https://pds.example.com",
	}, signing)
}

// TestDecode is the table of faults of a signed operation. Each row changes one good
// operation, and signs it again, so that nothing but its form is wrong.
func TestDecode(t *testing.T) {
	k := newKey(t)
	regular := func(change func(*didplc.RegularOp)) []byte {
		_, op, err := plc.Create(data(k), k)
		if err != nil {
			t.Fatal(err)
		}
		change(op)
		return encode(t, sign(t, op, k))
	}
	type op = didplc.RegularOp
	many := func(n int, set func(name string)) {
		for i := range n {
			set(fmt.Sprint("n", i))
		}
	}
	good := map[string][]byte{
		"as made":          regular(func(*op) {}),
		"legacy":           encode(t, legacy(t, newKey(t), k)),
		"tombstone":        encode(t, tombstone(t, legacy(t, k, k), k)),
		"without methods":  regular(func(o *op) { o.VerificationMethods = map[string]string{} }),
		"without services": regular(func(o *op) { o.Services = map[string]didplc.OpService{} }),
		"without aliases":  regular(func(o *op) { o.AlsoKnownAs = []string{} }),
		"an unusual key": regular(func(o *op) {
			o.VerificationMethods["other"] = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
		}),
		"ten rotation keys": regular(func(o *op) { o.RotationKeys = newKeys(t, 10) }),
		"ten methods": regular(func(o *op) {
			many(9, func(name string) { o.VerificationMethods[name] = k.did })
		}),
	}
	for name, raw := range good {
		got, err := plc.Decode(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if string(encode(t, got)) != string(raw) {
			t.Errorf("%s: decoded %s, encoded %s", name, raw, encode(t, got))
		}
	}
	bad := map[string][]byte{
		"no object":           []byte(`[]`),
		"no JSON":             []byte(`{`),
		"null":                []byte(`null`),
		"nothing":             nil,
		"empty":               []byte(`{}`),
		"no type":             edit(t, good["as made"], func(m map[string]any) { delete(m, "type") }),
		"unknown type":        edit(t, good["as made"], func(m map[string]any) { m["type"] = "plc_other" }),
		"type is no string":   edit(t, good["as made"], func(m map[string]any) { m["type"] = 5 }),
		"unknown member":      edit(t, good["as made"], func(m map[string]any) { m["more"] = 1 }),
		"member in capitals":  edit(t, good["as made"], func(m map[string]any) { m["Prev"] = nil }),
		"prev is missing":     edit(t, good["as made"], func(m map[string]any) { delete(m, "prev") }),
		"sig is missing":      edit(t, good["as made"], func(m map[string]any) { delete(m, "sig") }),
		"sig is empty":        edit(t, good["as made"], func(m map[string]any) { m["sig"] = "" }),
		"sig is null":         edit(t, good["as made"], func(m map[string]any) { m["sig"] = nil }),
		"services is null":    regular(func(o *op) { o.Services = nil }),
		"methods is null":     regular(func(o *op) { o.VerificationMethods = nil }),
		"aliases is null":     regular(func(o *op) { o.AlsoKnownAs = nil }),
		"rotation is null":    regular(func(o *op) { o.RotationKeys = nil }),
		"no rotation key":     regular(func(o *op) { o.RotationKeys = []string{} }),
		"11 rotation keys":    regular(func(o *op) { o.RotationKeys = newKeys(t, 11) }),
		"rotation key twice":  regular(func(o *op) { o.RotationKeys = []string{k.did, k.did} }),
		"Ed25519 rotates":     regular(func(o *op) { o.RotationKeys = []string{"did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"} }),
		"method is no key":    regular(func(o *op) { o.VerificationMethods["atproto"] = "did:web:example.com" }),
		"method without name": regular(func(o *op) { o.VerificationMethods[""] = k.did }),
		"method's long name":  regular(func(o *op) { o.VerificationMethods[strings.Repeat("a", 33)] = k.did }),
		"eleven methods":      regular(func(o *op) { many(10, func(n string) { o.VerificationMethods[n] = k.did }) }),
		"eleven services":     regular(func(o *op) { many(10, func(n string) { o.Services[n] = didplc.OpService{Type: "T", Endpoint: "e"} }) }),
		"eleven aliases":      regular(func(o *op) { many(10, func(n string) { o.AlsoKnownAs = append(o.AlsoKnownAs, n) }) }),
		"alias twice":         regular(func(o *op) { o.AlsoKnownAs = []string{"at://a.test", "at://a.test"} }),
		"empty alias":         regular(func(o *op) { o.AlsoKnownAs = []string{""} }),
		"long alias":          regular(func(o *op) { o.AlsoKnownAs = []string{"at://" + strings.Repeat("a", 254)} }),
		"service without URL": regular(func(o *op) { o.Services["atproto_pds"] = didplc.OpService{Type: "T"} }),
		"service's long URL":  regular(func(o *op) { o.Services["a"] = didplc.OpService{Type: "T", Endpoint: strings.Repeat("a", 513)} }),
		"service's long type": regular(func(o *op) { o.Services["a"] = didplc.OpService{Type: strings.Repeat("a", 257), Endpoint: "e"} }),
		"over 7,500 bytes": regular(func(o *op) {
			many(9, func(n string) {
				o.Services[n] = didplc.OpService{Type: strings.Repeat("a", 256), Endpoint: strings.Repeat("a", 512)}
				o.AlsoKnownAs = append(o.AlsoKnownAs, n+strings.Repeat("a", 200))
			})
		}),
		"tombstone of nothing": edit(t, good["tombstone"], func(m map[string]any) { m["prev"] = "" }),
		"tombstone with keys":  edit(t, good["tombstone"], func(m map[string]any) { m["rotationKeys"] = []string{k.did} }),
		"legacy's bad key":     edit(t, good["legacy"], func(m map[string]any) { m["signingKey"] = "did:key:z" }),
		"legacy's null handle": edit(t, good["legacy"], func(m map[string]any) { m["handle"] = nil }),
		"a number for a key":   edit(t, good["as made"], func(m map[string]any) { m["rotationKeys"] = []int{1} }),
	}
	for name, raw := range bad {
		if op, err := plc.Decode(raw); !errors.Is(err, plc.ErrOperation) {
			t.Errorf("%s: Decode(%s) = %+v, %v; want ErrOperation", name, raw, op, err)
		}
	}
}

// edit changes the members of an operation without signing it again.
func edit(t *testing.T, raw []byte, change func(map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestStored: an operation from a directory is read and carried on whatever its
// content, as long as its kind is clear; what we add to it is valid.
func TestStored(t *testing.T) {
	k, other := newKey(t), newKey(t)
	const unusual = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
	type op = didplc.RegularOp
	for name, change := range map[string]func(*op){
		"a rotation key twice":  func(o *op) { o.RotationKeys = []string{other.did, k.did, other.did, k.did} },
		"no rotation key":       func(o *op) { o.RotationKeys = []string{} },
		"11 rotation keys":      func(o *op) { o.RotationKeys = newKeys(t, 11) },
		"a rotation key unlike": func(o *op) { o.RotationKeys = []string{k.did, unusual, "x"} },
		"an empty alias":        func(o *op) { o.AlsoKnownAs = []string{"", "at://alice.test", ""} },
		"a nameless method":     func(o *op) { o.VerificationMethods[""] = "x" },
		"a service without URL": func(o *op) { o.Services["x"] = didplc.OpService{} },
	} {
		_, first, err := plc.Create(data(k), k)
		if err != nil {
			t.Fatal(err)
		}
		change(first)
		raw := encode(t, sign(t, first, k))
		if _, err := plc.Decode(raw); !errors.Is(err, plc.ErrOperation) {
			t.Errorf("%s: a new one is taken: %v", name, err)
		}
		last, err := plc.Parse(raw)
		if err != nil || string(encode(t, last)) != string(raw) {
			t.Errorf("%s: %v, read as %s, was %s", name, err, encode(t, last), raw)
			continue
		}
		amended, err := plc.Amend(last, plc.Data{Handle: "new.test", SigningKey: other.did, PDS: "https://new.example.com"}, k)
		if err != nil || string(encode(t, last)) != string(raw) {
			t.Errorf("%s: amend: %v", name, err)
			continue
		}
		var keys []string
		for _, key := range first.RotationKeys {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		first.AlsoKnownAs[slices.Index(first.AlsoKnownAs, "at://alice.test")] = "at://new.test"
		first.VerificationMethods["atproto"] = other.did
		first.Services["atproto_pds"] = didplc.OpService{Type: "AtprotoPersonalDataServer", Endpoint: "https://new.example.com"}
		if !slices.Equal(amended.RotationKeys, keys) || !slices.Equal(amended.AlsoKnownAs, first.AlsoKnownAs) ||
			!maps.Equal(amended.VerificationMethods, first.VerificationMethods) || !maps.Equal(amended.Services, first.Services) {
			t.Errorf("%s: amended to %+v", name, amended)
		}
		for what, d := range map[string]plc.Data{
			"handle": {Handle: syntax.Handle(strings.Repeat("a", 260))}, "key": {SigningKey: "z123"}, "host": {PDS: "https://" + strings.Repeat("a", 512)},
		} {
			if _, err := plc.Amend(last, d, k); !errors.Is(err, plc.ErrOperation) {
				t.Errorf("%s: a wrong %s: %v", name, what, err)
			}
		}
		if _, err := plc.Update(last, plc.Change{AlsoKnownAs: []string{"at://new.test", ""}}, k); !errors.Is(err, plc.ErrOperation) {
			t.Errorf("%s: an empty alias: %v", name, err)
		}
	}
	// One key as both keys of a legacy identity.
	moved, err := plc.Amend(legacy(t, k, k), plc.Data{PDS: "https://new.example.com"}, k)
	if err != nil || !slices.Equal(moved.RotationKeys, []string{k.did}) {
		t.Errorf("legacy: %+v, %v", moved, err)
	}
}

func TestCheckRotationKey(t *testing.T) {
	for _, k := range []string{newKey(t).did, newP256Key(t).did} {
		if err := plc.CheckRotationKey(k); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	for _, k := range []string{"", "did:key:", "did:key:z", "did:plc:abc", "zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w", "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"} {
		if err := plc.CheckRotationKey(k); !errors.Is(err, plc.ErrOperation) {
			t.Errorf("%q: %v, want ErrOperation", k, err)
		}
	}
}

// FuzzDecode: every parsed operation encodes to one with the same CID, and only
// parsed input is decoded.
func FuzzDecode(f *testing.F) {
	k := newKey(f)
	_, op, err := plc.Create(data(k), k)
	if err != nil {
		f.Fatal(err)
	}
	genesis := didplc.OpEnum{Regular: op}
	f.Add(encode(f, genesis))
	f.Add(encode(f, legacy(f, k, k)))
	f.Add(encode(f, tombstone(f, genesis, k)))
	f.Add([]byte(`{"type":"create","prev":null,"sig":"a","type":"plc_tombstone"}`))
	f.Add([]byte(`{"type":"plc_operation","rotationKeys":null,"verificationMethods":{},"alsoKnownAs":[],"services":{},"prev":null,"sig":"\ud800"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		op, err := plc.Parse(raw)
		if decoded, derr := plc.Decode(raw); derr != nil && !errors.Is(derr, plc.ErrOperation) || derr == nil && (err != nil || cidOf(op) != cidOf(decoded)) {
			t.Fatalf("Decode(%q): %+v, %v; parsed %+v, %v", raw, decoded, derr, op, err)
		}
		if err != nil {
			if !errors.Is(err, plc.ErrOperation) {
				t.Fatalf("Parse(%q): %v is not ErrOperation", raw, err)
			}
			return
		}
		again, err := plc.Parse(encode(t, op))
		if err != nil {
			t.Fatalf("Parse(%q) encodes to %s, which is refused: %v", raw, encode(t, op), err)
		}
		if cidOf(op) != cidOf(again) {
			t.Fatalf("Parse(%q) has CID %s, parsed again %s", raw, cidOf(op), cidOf(again))
		}
	})
}

// TestAmendKey: the key of the repository changes, and nothing else; a legacy
// operation is carried over.
func TestAmendKey(t *testing.T) {
	owner, server, next := newKey(t), newKey(t), newKey(t)
	_, genesis, err := plc.Create(data(owner, server), server)
	if err != nil {
		t.Fatal(err)
	}
	genesis.VerificationMethods["label"] = owner.did
	for name, last := range map[string]didplc.OpEnum{"regular": sign(t, genesis, server), "legacy": legacy(t, server, owner)} {
		before := string(encode(t, last))
		was, _ := plc.DataOf(last)
		op, err := plc.Amend(last, plc.Data{SigningKey: next.did}, server)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		now, ok := plc.DataOf(didplc.OpEnum{Regular: op})
		was.SigningKey = next.did
		if !ok || now.SigningKey != next.did || now.Handle != was.Handle || now.PDS != was.PDS || *op.Prev != cidOf(last) || string(encode(t, last)) != before {
			t.Errorf("%s: %+v, was %+v", name, now, was)
		}
		if name == "regular" && op.VerificationMethods["label"] != owner.did {
			t.Errorf("%s: %+v", name, op.VerificationMethods)
		}
	}
	if _, err := plc.Amend(tombstone(t, sign(t, genesis, server), server), plc.Data{SigningKey: next.did}, server); !errors.Is(err, plc.ErrOperation) {
		t.Errorf("a tombstone: %v", err)
	}
}

// TestAmendHandle: the handle takes the place of the first one, other aliases stay
// where they are, and none occurs twice.
func TestAmendHandle(t *testing.T) {
	owner, server := newKey(t), newKey(t)
	for what, c := range map[string]struct{ was, want []string }{
		"another":           {[]string{"at://alice.test"}, []string{"at://new.test"}},
		"none":              {nil, []string{"at://new.test"}},
		"other aliases":     {[]string{"https://a.example", "at://alice.test", "at://second.test"}, []string{"https://a.example", "at://new.test", "at://second.test"}},
		"only other ones":   {[]string{"https://a.example"}, []string{"at://new.test", "https://a.example"}},
		"it is the second":  {[]string{"at://alice.test", "at://new.test"}, []string{"at://new.test"}},
		"it is the first":   {[]string{"at://new.test", "at://second.test"}, []string{"at://new.test", "at://second.test"}},
		"it is all of them": {[]string{"at://new.test"}, []string{"at://new.test"}},
	} {
		_, genesis, err := plc.Create(data(owner, server), server)
		if err != nil {
			t.Fatal(err)
		}
		genesis.AlsoKnownAs = c.was
		op, err := plc.Amend(sign(t, genesis, server), plc.Data{Handle: "new.test"}, server)
		if err != nil || !slices.Equal(op.AlsoKnownAs, c.want) || !maps.Equal(op.Services, genesis.Services) || !maps.Equal(op.VerificationMethods, genesis.VerificationMethods) {
			t.Errorf("%s: %+v, %v, want %q", what, op, err, c.want)
		}
	}
}
