package takeover

import (
	"reflect"
	"testing"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
)

// FuzzEventOf reads messages of any bytes. What is accepted is sent as the same message with
// its time and its number, in canonical form.
func FuzzEventOf(f *testing.F) {
	const did, at, seq = "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "2026-01-02T03:04:05.678Z", int64(77)
	for _, message := range []map[string]any{
		{"did": did, "handle": "alice.test"},
		{"did": did, "active": false, "status": "takendown"},
		{"did": did, "rev": "3jui7kd54zh2y", "blocks": []byte{1, 2}},
		{"zz": int64(1)},
		{"a": nil, "seq": int64(5), "time": "x", "tzzz": true},
	} {
		body, err := dagcbor.Encode(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	head, err := dagcbor.Encode(map[string]any{"t": string(event.KindIdentity), "op": int64(1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := EventOf(SourceEvent{Seq: seq, DID: did, Type: "identity", Body: body, At: at})
		if err != nil {
			return
		}
		v, err := dagcbor.Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := v.(map[string]any)
		want["seq"], want["time"] = seq, at
		got, err := dagcbor.Decode(e.Frame(seq)[len(head):])
		if err != nil || !reflect.DeepEqual(got, any(want)) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
	})
}
