package directory

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

// TestBroken: after a failed append the file's content is unknown, so the directory
// accepts nothing more until it is opened again.
func TestBroken(t *testing.T) {
	folder := t.TempDir()
	d, err := Open(folder, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	did, op, err := plc.Create(plc.Data{RotationKeys: []string{pub.DIDKey()}, SigningKey: pub.DIDKey(), Handle: "a.test", PDS: "https://a.example"}, k)
	if err != nil {
		t.Fatal(err)
	}
	writable := d.file
	if d.file, err = os.Open(filepath.Join(folder, "operations.jsonl")); err != nil {
		t.Fatal(err)
	}
	genesis := didplc.OpEnum{Regular: op}
	if err := d.Submit(did, genesis); err == nil {
		t.Fatal("a write to a file opened for reading succeeded")
	}
	if len(d.Log(did)) != 0 {
		t.Error("what was not stored is in the log")
	}
	d.file = writable
	if err := d.Submit(did, genesis); err == nil {
		t.Error("the directory went on after a failed append")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(folder, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(again.Submit(did, genesis), again.Close()); err != nil {
		t.Errorf("opened again: %v", err)
	}
}
