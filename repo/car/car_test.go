package car_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo/car"
)

func readAll(r io.Reader) (roots []cid.Cid, blocks []car.Block, err error) {
	c, err := car.NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	for {
		b, err := c.Next()
		if errors.Is(err, io.EOF) {
			return c.Roots(), blocks, nil
		}
		if err != nil {
			return c.Roots(), blocks, err
		}
		blocks = append(blocks, b)
	}
}

func sample() (cid.Cid, []byte) {
	first := dagcbor.AppendText(nil, "first")
	root := dagcbor.CID(first)
	file := car.AppendBlock(car.AppendHeader(nil, root), root, first)
	second := dagcbor.AppendText(nil, strings.Repeat("x", 1000))
	return root, car.AppendBlock(file, dagcbor.CID(second), second)
}

func TestRoundTrip(t *testing.T) {
	root, file := sample()
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(file), "byte by byte": iotest.OneByteReader(bytes.NewReader(file))} {
		roots, blocks, err := readAll(r)
		if err != nil || len(roots) != 1 || roots[0] != root || len(blocks) != 2 || blocks[0].CID != root {
			t.Errorf("%s: roots %s, %d blocks, %v", name, roots, len(blocks), err)
		}
	}
	// Every cut is noticed, except between two blocks, where a file may end.
	whole := len(car.AppendBlock(car.AppendHeader(nil, root), root, dagcbor.AppendText(nil, "first")))
	header := len(car.AppendHeader(nil, root))
	for n := range file {
		if _, _, err := readAll(bytes.NewReader(file[:n])); !errors.Is(err, car.ErrForm) && n != whole && n != header {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	broken := errors.New("the disk is on fire")
	if _, _, err := readAll(io.MultiReader(bytes.NewReader(file[:80]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, car.ErrForm) {
		t.Errorf("a failing stream: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	root, file := sample()
	header := func(v any) []byte {
		b, err := dagcbor.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
	}
	data := dagcbor.AppendText(nil, "first")
	changed := bytes.Clone(file)
	changed[len(changed)-1] ^= 1
	start := car.AppendHeader(nil, root)
	for name, b := range map[string][]byte{
		"empty":                   {},
		"not a CAR file":          []byte("<!DOCTYPE html><html></html>"),
		"version 2":               header(map[string]any{"roots": []any{root}, "version": 2}),
		"pragma of version 2":     header(map[string]any{"version": 2}),
		"no roots":                header(map[string]any{"version": 1}),
		"root that is text":       header(map[string]any{"roots": []any{"x"}, "version": 1}),
		"header is a list":        header([]any{}),
		"header field too many":   header(map[string]any{"roots": []any{root}, "version": 1, "x": 1}),
		"huge header":             binary.AppendUvarint(nil, 1<<30),
		"changed byte":            changed,
		"block of nothing":        append(bytes.Clone(start), 0),
		"block with half a CID":   append(bytes.Clone(start), 3, 1, 0x71, 0x12),
		"huge block":              binary.AppendUvarint(bytes.Clone(start), car.MaxBlock+100),
		"length of 10 bytes":      append(bytes.Clone(start), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"length in a longer form": append(append(bytes.Clone(start), byte(36+len(data))|0x80, 0x00), (root.KeyString() + string(data))...),
	} {
		if roots, blocks, err := readAll(bytes.NewReader(b)); !errors.Is(err, car.ErrForm) {
			t.Errorf("%s: roots %s, %d blocks, %v; want ErrForm", name, roots, len(blocks), err)
		}
	}
}

// TestRealRepositories reads exports of real repositories from indigo's module.
func TestRealRepositories(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"greenground.repo.car", "paul_staging.repo.car"} {
		file, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "testing", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		roots, blocks, err := readAll(bytes.NewReader(file))
		if err != nil || len(roots) != 1 || len(blocks) < 4 {
			t.Errorf("%s: roots %s, %d blocks, %v", name, roots, len(blocks), err)
			continue
		}
		again := car.AppendHeader(nil, roots[0])
		for _, b := range blocks {
			again = car.AppendBlock(again, b.CID, b.Data)
		}
		if !bytes.Equal(again, file) {
			t.Errorf("%s does not come back byte for byte", name)
		}
	}
}

// FuzzReader: every block read has the hash in its CID, and writing the blocks again
// gives a file that reads the same: but for blocks that the reader passes over, the
// same bytes.
func FuzzReader(f *testing.F) {
	root, file := sample()
	f.Add(file)
	f.Add(car.AppendHeader(nil, root))
	f.Add(car.AppendBlock(file, cid.NewCidV1(cid.Raw, root.Hash()[:2]), []byte("passed over")))
	f.Fuzz(func(t *testing.T, b []byte) {
		roots, blocks, err := readAll(bytes.NewReader(b))
		if err != nil && !errors.Is(err, car.ErrForm) {
			t.Fatalf("%v is not ErrForm", err)
		}
		if len(roots) != 1 {
			return
		}
		again := car.AppendHeader(nil, roots[0])
		for _, one := range blocks {
			if dagcbor.IsBlockCID(one.CID) && dagcbor.CID(one.Data) != one.CID {
				t.Fatalf("block %s has another hash", one.CID)
			}
			again = car.AppendBlock(again, one.CID, one.Data)
		}
		if err != nil {
			return
		}
		if len(again) > len(b) || len(again) == len(b) && !bytes.Equal(again, b) {
			t.Fatalf("%x came back as %x", b, again)
		}
		if twice, same, err := readAll(bytes.NewReader(again)); err != nil ||
			!slices.Equal(twice, roots) || !reflect.DeepEqual(same, blocks) {
			t.Fatalf("%x, written again as %x, reads otherwise: %v", b, again, err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	root, file := sample()
	for range 1000 {
		data := dagcbor.AppendInt(nil, rnd.Int64N(dagcbor.MaxInt))
		file = car.AppendBlock(file, dagcbor.CID(data), data)
	}
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if roots, _, err := readAll(bytes.NewReader(file)); err != nil || roots[0] != root {
			b.Fatal(err)
		}
	}
}

// TestPassesOver: a block that nothing in a repository can link to is skipped,
// whatever its bytes are.
func TestPassesOver(t *testing.T) {
	v0, err := cid.Decode("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n")
	if err != nil {
		t.Fatal(err)
	}
	data := dagcbor.AppendText(nil, "x")
	id := dagcbor.CID(data)
	file := car.AppendBlock(car.AppendHeader(nil, id), v0, []byte("of another hash"))
	file = car.AppendBlock(file, id, data)
	r, err := car.NewReader(bytes.NewReader(car.AppendBlock(file, v0, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Next(); err != nil || b.CID != id || !bytes.Equal(b.Data, data) {
		t.Errorf("%s, %v, want %s", b.CID, err, id)
	}
	if b, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("%s, %v behind the last block", b.CID, err)
	}
}
