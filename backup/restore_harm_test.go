package backup_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/blob/disk"
	"nestbox/store/storetest"
)

// harmedStore is a store that has a snapshot with the files 0 to 3, and a segment of the log with the
// files 4 and 5. The identity opens it.
type harmedStore struct {
	*world

	tb  testing.TB
	dir string
	s   *backup.Service
	id  *age.X25519Identity
}

// eachStore calls check with a harmedStore, one that is encrypted and one that is not.
func eachStore(t *testing.T, check func(t *testing.T, h *harmedStore)) {
	t.Helper()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted %t", encrypted), func(t *testing.T) {
			t.Parallel()
			h := &harmedStore{world: newWorld(t), tb: t, dir: t.TempDir(), id: newIdentity(t)}
			settings := filepath.Join(h.world.dir, "last_settings.json")
			if err := os.WriteFile(settings, []byte("settings of "+t.Name()), 0o600); err != nil {
				t.Fatal(err)
			}
			h.s = h.service(openFolder(t, h.dir))
			if encrypted {
				h.s.Recipients = []age.Recipient{h.id.Recipient()}
			}
			follow(t, h.world, h.s)
			h.files(0, 4)
			snapshot(t, h.s)
			h.files(4, 6)
			send(t, h.world, h.s)
			check(t, h)
		})
	}
}

func (h *harmedStore) files(from, to int) {
	h.tb.Helper()
	for n := from; n < to; n++ {
		if err := h.use(h.tb.Context(), n, fmt.Sprintf("file %d", n)); err != nil {
			h.tb.Fatal(err)
		}
	}
}

// path returns the path of the only object that a pattern matches.
func (h *harmedStore) path(pattern string) string {
	h.tb.Helper()
	found, err := filepath.Glob(filepath.Join(h.dir, filepath.FromSlash(pattern)))
	if err != nil || len(found) != 1 {
		h.tb.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// restored restores the newest state, and returns the faults that a verification of it finds.
func (h *harmedStore) restored(what string, to backup.Target) (said string, dir string, replay *backup.Replay) {
	h.tb.Helper()
	to.Dir, to.Named = filepath.Join(h.tb.TempDir(), "restored"), storetest.BlobFiles
	to.Then = func(done *backup.Replay) error { replay = done; return nil }
	m, err := backup.Latest(h.tb.Context(), h.s.Depot, h.s.Now())
	if err == nil {
		err = (&backup.Reader{Depot: h.s.Depot, Identities: []age.Identity{h.id}}).Restore(h.tb.Context(), m, to)
	}
	if err != nil {
		h.tb.Fatalf("%s: %v", what, err)
	}
	err = verifyDir(h.tb.Context(), to.Dir, disk.Look(filepath.Join(to.Dir, "blobs"), ""), func(line string) { said += line + "\n" })
	if err != nil {
		h.tb.Fatalf("%s: %v", what, err)
	}
	return said, to.Dir, replay
}

// blobFiles returns the names of the files in a folder of blobs.
func blobFiles(tb testing.TB, dir string) (names []string) {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	return names
}

// TestBlobHarm: blobs that are damaged or missing in a store cost a restore nothing but themselves, and
// the verification names each of them.
func TestBlobHarm(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, h *harmedStore) {
		check := func(what string) {
			t.Helper()
			said, dir, replay := h.restored(what, backup.Target{})
			if strings.Count(said, "\n") != 2 || !strings.Contains(said, "KEY000001: it is missing") || !strings.Contains(said, "KEY000005: it is missing") {
				t.Errorf("%s: %q", what, said)
			}
			if got := blobFiles(t, dir); len(got) != 4 || strings.Contains(fmt.Sprint(got), "KEY000001") || strings.Contains(fmt.Sprint(got), "KEY000005") {
				t.Errorf("%s: %q are there", what, got)
			}
			if lastEvent(t, dir) != lastEvent(t, h.world.dir) || replay.Gap != "" {
				t.Errorf("%s: %+v", what, replay)
			}
		}
		first, second := h.path("blobs/*/*KEY000001*"), h.path("blobs/*/*KEY000005*")
		flip(t, first)
		flip(t, second)
		check("damaged")
		for _, path := range []string{first, second} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		check("missing")
		snapshot(t, h.s) // the blobs are sent again
		if said, _, _ := h.restored("mended", backup.Target{}); said != "" {
			t.Errorf("mended: %s", said)
		}
		for _, name := range []string{"KEY000001", "KEY000005"} {
			flip(t, h.path("blobs/*/*"+name+"*"))
		}
		check("damaged, without segments")
	})
}

// TestOwnListHarm: a snapshot's list of its blobs, and its file of settings, cost a restore nothing if they
// are damaged or missing. The settings are named.
func TestOwnListHarm(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, h *harmedStore) {
		check := func(what string, m *backup.Manifest) {
			t.Helper()
			name := ""
			for _, f := range m.Files {
				if f.Name == "last_settings.json" {
					name = f.Stored.Name
				}
			}
			list, settings := h.path(m.Blobs.Name), h.path(name)
			for _, path := range []string{list, settings} {
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				flip(t, path)
				for _, harm := range []string{"it is damaged", "it is missing"} {
					said, dir, replay := h.restored(what, backup.Target{Spare: []string{"last_settings.json"}})
					if said != "" || replay.Gap != "" || lastEvent(t, dir) != lastEvent(t, h.world.dir) || len(blobFiles(t, dir)) != 6 {
						t.Errorf("%s: %s: %q, %+v", what, harm, said, replay)
					}
					_, err := os.Stat(filepath.Join(dir, "last_settings.json"))
					left := len(replay.Without) == 1 && strings.HasPrefix(replay.Without[0], "last_settings.json: ") && strings.Contains(replay.Without[0], harm)
					if left != (path == settings) || (err != nil) != left || len(replay.Without) > 1 {
						t.Errorf("%s: %s: %q, %v", what, harm, replay.Without, err)
					}
					if err := os.Remove(path); err != nil && harm == "it is damaged" {
						t.Fatal(err)
					}
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			flip(t, settings)
			err := (&backup.Reader{Depot: h.s.Depot, Identities: []age.Identity{h.id}}).Restore(t.Context(), m, backup.Target{
				Dir: filepath.Join(t.TempDir(), "restored"), Named: storetest.BlobFiles,
			})
			if !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("%s: a file that is needed: %v", what, err)
			}
			flip(t, settings)
		}
		m, err := backup.Latest(t.Context(), h.s.Depot, h.s.Now())
		if err != nil {
			t.Fatal(err)
		}
		check("with segments", m)
		check("without segments", snapshot(t, h.s))
	})
}

// TestBlobUnreadable: a blob that a disk cannot read any more is damaged. A store that cannot be reached is
// an error: then nothing is left out.
func TestBlobUnreadable(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, h *harmedStore) {
		m, err := backup.Latest(t.Context(), h.s.Depot, h.s.Now())
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(h.dir, h.path("blobs/*/*KEY000005*"))
		if err != nil {
			t.Fatal(err)
		}
		reset := errors.New("connection reset by peer")
		for _, late := range []bool{false, true} {
			for _, fault := range []error{&os.PathError{Op: "read", Path: "a file", Err: syscall.EIO}, reset} {
				r := &backup.Reader{Identities: []age.Identity{h.id}, Depot: &unreadable{openFolder(t, h.dir), filepath.ToSlash(name), late, fault}}
				dir := filepath.Join(t.TempDir(), "restored")
				err := r.Restore(t.Context(), m, backup.Target{Dir: dir, Named: storetest.BlobFiles})
				if errors.Is(fault, reset) {
					if !errors.Is(err, reset) {
						t.Errorf("late: %t: %v", late, err)
					}
					continue
				}
				if err != nil || len(blobFiles(t, dir)) != 5 {
					t.Errorf("late: %t: %v, %q", late, err, blobFiles(t, dir))
				}
			}
		}
	})
}

// TestVerifyListHarm: a verification finds the blobs of the log without their lists, as a restore does, and
// names what is wrong with the lists. A blob that is missing as well it calls missing.
func TestVerifyListHarm(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, h *harmedStore) {
		check := func(what string, want ...string) {
			t.Helper()
			var said []string
			v := verification(h.s.Depot, func(line string) { said = append(said, line) })
			v.Identities = []age.Identity{h.id}
			if _, err := v.Run(t.Context()); err != nil || len(said) != len(want) {
				t.Fatalf("%s: %q, %v", what, said, err)
			}
			for _, text := range want {
				if !strings.Contains(strings.Join(said, "\n"), text) {
					t.Errorf("%s: %q, want %q", what, said, text)
				}
			}
		}
		list := h.path("log/*/*.blobs")
		flip(t, list)
		check("damaged", filepath.Base(list)+": it is damaged")
		if err := os.Remove(list); err != nil {
			t.Fatal(err)
		}
		const missing = "a list of the blobs of the log"
		check("missing", missing)
		if err := os.Remove(h.path("blobs/*/*KEY000005*")); err != nil {
			t.Fatal(err)
		}
		check("with a blob", missing, "KEY000005: it is missing")
	})
}
