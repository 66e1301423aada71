package moving

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"nestbox/dagcbor"
)

const owner = "did:plc:alice"

// entry is a file of an archive of a test.
type entry struct {
	name, content string
	deflate       bool
	// unlisted is not in the manifest; listed, if it is set, is the content that it names.
	unlisted bool
	listed   string
}

// pack returns an archive, with a manifest that may be changed.
func pack(t testing.TB, change func(map[string]any), entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	files := []any{}
	write := func(e entry) {
		method := zip.Store
		if e.deflate {
			method = zip.Deflate
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: e.name, Method: method})
		if err == nil {
			_, err = io.WriteString(w, e.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range entries {
		write(e)
		if e.unlisted {
			continue
		}
		content := e.content
		if e.listed != "" {
			content = e.listed
		}
		sum := sha256.Sum256([]byte(content))
		files = append(files, map[string]any{"name": e.name, "size": len(content), "sha256": hex.EncodeToString(sum[:])})
	}
	m := map[string]any{"version": 1, "did": owner, "files": files}
	if change != nil {
		change(m)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if m["version"] != nil {
		write(entry{name: "manifest.json", content: string(raw)})
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readWhole opens an archive and reads all that is in it.
func readWhole(raw []byte) error {
	a, err := openArchive(bytes.NewReader(raw), int64(len(raw)), owner)
	if err != nil {
		return err
	}
	if _, err := a.preferences(); err != nil {
		return err
	}
	if err := a.readTypes(); err != nil {
		return err
	}
	all := []*packed{a.repo}
	for _, b := range a.blobs {
		all = append(all, b.packed)
	}
	for _, p := range all {
		if p == nil {
			continue
		}
		r, err := p.open()
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
	return nil
}

// TestHostileArchives: whatever an archive claims, it is read within bounds or refused.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	set := func(name string, v any) func(map[string]any) { return func(m map[string]any) { m[name] = v } }
	good := entry{name: "repo.car", content: "a repository"}
	blob := "blobs/" + dagcbor.RawCID(sha256.Sum256([]byte("a picture"))).String() + ".png"
	zeros := strings.Repeat("\x00", 80<<20)
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"good":                 {pack(t, nil, good, entry{name: blob, content: "a picture"}, entry{name: "preferences.json", content: `{"preferences":[{ "$type" : "a" }]}`}, entry{name: "blobs.json", content: "[\n{\"cid\":\"x\",\"type\":\"image/png\"}\n]\n", deflate: true}), nil},
		"packed again":         {pack(t, nil, entry{name: "repo.car", content: "a repository", deflate: true}), nil},
		"what is not listed":   {pack(t, nil, good, entry{name: "more/x.txt", unlisted: true}, entry{name: "more/", unlisted: true}), nil},
		"junk, not listed":     {pack(t, nil, good, entry{name: "junk", content: zeros[:2<<20], unlisted: true}), ErrArchive},
		"empty":                {nil, ErrArchive},
		"no zip":               {[]byte("PK\x03\x04 but no more"), ErrArchive},
		"cut":                  {pack(t, nil, good)[:60], ErrArchive},
		"no manifest":          {pack(t, func(m map[string]any) { delete(m, "version") }, good), ErrArchive},
		"a later version":      {pack(t, set("version", 2), good), ErrNewer},
		"no version":           {pack(t, set("version", 0), good), ErrArchive},
		"another account":      {pack(t, set("did", "did:plc:bob"), good), ErrOther},
		"files are no list":    {pack(t, set("files", "x"), good), ErrArchive},
		"no hash":              {pack(t, set("files", []any{map[string]any{"name": "repo.car", "size": 12}}), good), ErrArchive},
		"a negative size":      {pack(t, set("files", []any{map[string]any{"name": "repo.car", "size": -1, "sha256": strings.Repeat("00", 32)}}), good), ErrArchive},
		"listed twice":         {pack(t, func(m map[string]any) { m["files"] = append(m["files"].([]any), m["files"].([]any)[0]) }, good), ErrArchive},
		"listed and not there": {pack(t, set("files", []any{map[string]any{"name": "repo.car", "size": 1, "sha256": strings.Repeat("00", 32)}})), ErrDamaged},
		"twice":                {pack(t, nil, good, entry{name: "repo.car", content: "another", unlisted: true}), ErrArchive},
		"up":                   {pack(t, nil, good, entry{name: "../../etc/passwd", unlisted: true}), ErrArchive},
		"up within":            {pack(t, nil, good, entry{name: "blobs/../../x", unlisted: true}), ErrArchive},
		"absolute":             {pack(t, nil, good, entry{name: "/etc/passwd", unlisted: true}), ErrArchive},
		"backslashes":          {pack(t, nil, good, entry{name: `..\x`, unlisted: true}), ErrArchive},
		"a drive":              {pack(t, nil, good, entry{name: `C:x`, unlisted: true}), ErrArchive},
		"no name":              {pack(t, nil, good, entry{name: "", unlisted: true}), ErrArchive},
		"another hash":         {pack(t, nil, entry{name: "repo.car", content: "a repository", listed: "a repositorx"}), ErrDamaged},
		"longer":               {pack(t, nil, entry{name: "repo.car", content: "a repository", listed: "a repo"}), ErrDamaged},
		"shorter":              {pack(t, nil, entry{name: "repo.car", content: "a repository", listed: "a repository, and more"}), ErrDamaged},
		"a bomb":               {pack(t, nil, entry{name: "repo.car", content: zeros, deflate: true}), ErrBomb},
		"large preferences":    {pack(t, nil, entry{name: "preferences.json", content: zeros[:maxPreferences+1], deflate: true}), ErrBomb},
		"a large manifest":     {pack(t, set("more", strings.Repeat(" ", maxManifest)), good), ErrBomb},
		"preferences, no JSON": {pack(t, nil, entry{name: "preferences.json", content: "x"}), ErrArchive},
		"blobs, no JSON":       {pack(t, nil, entry{name: blob, content: "a picture"}, entry{name: "blobs.json", content: "[x"}), ErrArchive},
		"blobs, another hash":  {pack(t, nil, entry{name: blob, content: "a picture"}, entry{name: "blobs.json", content: "[]", listed: "[ "}), ErrDamaged},
	} {
		if err := readWhole(c.raw); !errors.Is(err, c.want) || err == nil != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestManyFiles: the list of files of an archive is read only so far.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	var entries []entry
	for i := range 200_000 {
		entries = append(entries, entry{name: "x/" + strconv.Itoa(i), unlisted: true})
	}
	if err := readWhole(pack(t, nil, entries...)); !errors.Is(err, ErrBomb) {
		t.Errorf("200,000 files: %v", err)
	}
	if err := readWhole(pack(t, nil, entries[:70_000]...)); err != nil { // more than a ZIP could have without zip64
		t.Errorf("70,000 files: %v", err)
	}
}

// TestDamagedArchives: an archive of which bytes were changed is refused or read; what is read
// of a file is what the manifest says.
func TestDamagedArchives(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(1, 2))
	for _, whole := range [][]byte{
		pack(t, nil, entry{name: "repo.car", content: "a repository"}),
		pack(t, nil, entry{name: "preferences.json", content: `{"preferences":[{}]}`, deflate: true}),
	} {
		for range 1000 {
			raw := bytes.Clone(whole)
			for range 1 + dice.IntN(3) {
				raw[dice.IntN(len(raw))] = byte(dice.Uint32())
			}
			a, err := openArchive(bytes.NewReader(raw), int64(len(raw)), owner)
			if err != nil || a.repo == nil {
				continue
			}
			r, err := a.repo.open()
			if err != nil {
				continue
			}
			content, err := io.ReadAll(r)
			if err == nil && sha256.Sum256(content) != a.repo.sum {
				t.Errorf("%q was read, and is not what the manifest says", content)
			}
		}
	}
}
