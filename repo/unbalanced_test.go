package repo_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
	"nestbox/xrpc"
)

// mined returns n long keys of records that all belong on the lowest layer: a tree
// of them is one node.
func mined(n int) (rkeys []string) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for len(rkeys) < n {
		var b [250]byte
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if rkey := hex.EncodeToString(b[:]); mst.Layer(foo+"/"+rkey) == 0 {
			rkeys = append(rkeys, rkey)
		}
	}
	return rkeys
}

// TestUnbalancedWrites: who chooses keys by their hash can make a node large, and no
// larger than that; and what it leaves is not remembered.
func TestUnbalancedWrites(t *testing.T) {
	w := newWorld(t)
	store := &counting{Store: w.Store}
	w.Service.Store = store
	alice := w.person("alice")
	rkeys := mined(300)
	batch := func(rkeys []string) (steps []jsontext.Value) {
		for _, rkey := range rkeys {
			steps = append(steps, step("create", foo, rkey, `{}`))
		}
		return steps
	}
	if _, err := alice.apply(batch(rkeys[:200])...); err != nil {
		t.Fatal(err)
	}
	head := alice.head()
	_, err := alice.apply(batch(rkeys[200:])...)
	if e := new(xrpc.Error); !errors.As(err, &e) || e.Status != http.StatusBadRequest || !strings.Contains(e.Message, "the limit is 131072") {
		t.Errorf("a node that grows: %v", err)
	}
	if alice.head().CID != head.CID {
		t.Error("what was refused was written")
	}
	store.views = 0
	for _, rkey := range rkeys[:3] {
		if _, err := alice.remove(foo, rkey); err != nil {
			t.Error(err)
		}
	}
	if store.views < 3 {
		t.Errorf("%d reads for three writes: a large tree was remembered", store.views)
	}
	alice.verifyChain(0)
}

// TestUnbalancedImport: a file with such a tree is refused, for that reason.
func TestUnbalancedImport(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	before := alice.head()
	for n, want := range map[int]error{200: nil, 300: repo.ErrImport} {
		records := map[string]car.Block{}
		for i, rkey := range mined(n) {
			records[foo+"/"+rkey] = block(map[string]any{"n": int64(i)})
		}
		_, err := alice.imports(alice.file(t, records).bytes())
		if !errors.Is(err, want) || (want != nil && !strings.Contains(fmt.Sprint(err), "the limit is 131072")) {
			t.Errorf("%d keys: %v, want %v", n, err, want)
		}
	}
	if alice.head().Records == before.Records {
		t.Error("the smaller one was not imported")
	}
}
