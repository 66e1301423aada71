package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/internal/s3test"
)

func newIdentity(tb testing.TB) *age.X25519Identity {
	tb.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// everything returns all objects of a store with their bytes.
func everything(tb testing.TB, store backup.Depot) map[string][]byte {
	tb.Helper()
	var names []string
	if err := store.List(tb.Context(), "", func(o backup.Object) error { names = append(names, o.Name); return nil }); err != nil {
		tb.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		in, err := store.Get(tb.Context(), name)
		if err != nil {
			tb.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err := errors.Join(err, in.Close()); err != nil {
			tb.Fatal(err)
		}
		all[name] = content
	}
	return all
}

// TestEncrypted: in a bucket, nothing that is secret can be read without the identity; the
// hashes can be compared without it; with it, and only with it, all is restored.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 2000, 1500)
	const marker = "a text that nobody else may read"
	for n := range 6 {
		if err := w.use(t.Context(), n, fmt.Sprintf("%s, file %d%s", marker, n, noise(n*40_000))); err != nil {
			t.Fatal(err)
		}
	}
	store, err := depot.Open("s3://"+s3test.Bucket+"/nest", depot.S3Settings{
		Endpoint: s3test.Start(t), Region: "us-east-1", AccessKey: "key", SecretKey: "secret", PathStyle: true,
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	id := newIdentity(t)
	s := w.service(store)
	s.Recipients = []age.Recipient{id.Recipient()}
	first := snapshot(t, s)
	if err := w.write(t.Context(), "update", []int{7, 900}, 1500); err != nil {
		t.Fatal(err)
	}
	if err := w.use(t.Context(), 100, marker+", later"); err != nil {
		t.Fatal(err)
	}
	second := snapshot(t, s)
	if second.Sent > first.Sent/10 {
		t.Errorf("%d bytes were sent, the first time %d", second.Sent, first.Sent)
	}
	for name, content := range everything(t, store) {
		for _, secret := range []string{marker, `{"keys":[]}`, "secret\n", "SQLite format"} {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s shows %q", name, secret)
			}
		}
	}

	verifyAs := func(ids ...age.Identity) (out backup.Verified, faults []string, err error) {
		v := verification(store, func(line string) { faults = append(faults, line) })
		v.Identities = ids
		out, err = v.Run(t.Context())
		return out, faults, err
	}
	if out, faults, err := verifyAs(); err != nil || len(faults) > 0 || !out.HashesOnly || out.Blobs != 13 {
		t.Errorf("without the identity: %+v, %q, %v", out, faults, err)
	}
	if out, faults, err := verifyAs(id); err != nil || len(faults) > 0 || out.HashesOnly || out.Snapshots != 2 {
		t.Errorf("with the identity: %+v, %q, %v", out, faults, err)
	}
	if _, _, err := verifyAs(newIdentity(t)); !errors.Is(err, backup.ErrIdentity) {
		t.Errorf("with another identity: %v", err)
	}
	for _, ids := range [][]age.Identity{nil, {newIdentity(t)}} {
		err := (&backup.Reader{Depot: store, Identities: ids}).Restore(t.Context(), second, backup.Target{Dir: filepath.Join(t.TempDir(), "x")})
		if !errors.Is(err, backup.ErrIdentity) {
			t.Errorf("%v, want ErrIdentity", err)
		}
	}
	restored := mustRestore(t, &backup.Reader{Depot: store, Identities: []age.Identity{id}}, second, "")
	if got, err := os.ReadFile(filepath.Join(restored, "admin_password")); string(got) != "secret\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}

	// Without its state the server cannot read what it has sent, but the list of the blobs.
	if err := os.RemoveAll(s.State); err != nil {
		t.Fatal(err)
	}
	before := len(everything(t, store))
	third := snapshot(t, s)
	blobs := 0
	for name := range everything(t, store) {
		if strings.HasPrefix(name, "blobs/") {
			blobs++
		}
	}
	if blobs != 7 || len(everything(t, store)) == before {
		t.Errorf("%d blobs, %d objects before", blobs, before)
	}
	mustRestore(t, &backup.Reader{Depot: store, Identities: []age.Identity{id}}, third, "")

	for name, content := range everything(t, store) {
		changed := slices.Clone(content)
		changed[len(changed)/2] ^= 4
		if err := store.Put(t.Context(), name, int64(len(changed)), bytes.NewReader(changed)); err != nil {
			t.Fatal(err)
		}
		if _, faults, err := verifyAs(); err != nil || len(faults) == 0 {
			t.Errorf("%s is damaged: %q, %v", name, faults, err)
		}
		if err := store.Put(t.Context(), name, int64(len(content)), bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecipientChanges: a snapshot that begins to be encrypted, or to be it no more, builds
// on nothing that is otherwise.
func TestRecipientChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 50, 500)
	if err := w.use(t.Context(), 1, "a file"); err != nil {
		t.Fatal(err)
	}
	store := openFolder(t, t.TempDir())
	id := newIdentity(t)
	plain, sealed := w.service(store), w.service(store)
	sealed.Recipients = []age.Recipient{id.Recipient()}
	for i, s := range []*backup.Service{plain, sealed, sealed, plain} {
		m := snapshot(t, s)
		if m.Encrypted() != (s == sealed) {
			t.Errorf("%d: encrypted is %t", i, m.Encrypted())
		}
		for _, o := range m.Packs {
			if strings.HasSuffix(o.Name, ".age") != m.Encrypted() {
				t.Errorf("%d: it has the pack %s", i, o.Name)
			}
		}
		mustRestore(t, &backup.Reader{Depot: store, Identities: []age.Identity{id}}, m, "")
	}
}

// TestKeysApart: the keys go to a file of their own, and are needed for a restore.
func TestKeysApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	s.KeysApart = filepath.Join(t.TempDir(), "keys.json")
	m := snapshot(t, s)
	for name, content := range everything(t, store) {
		if bytes.Contains(content, []byte("secret\n")) || bytes.Contains(content, []byte(`{"keys":[]}`)) {
			t.Errorf("%s has a key", name)
		}
	}
	if fi, err := os.Stat(s.KeysApart); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	r := &backup.Reader{Depot: store}
	if err := r.Restore(t.Context(), m, backup.Target{Dir: filepath.Join(t.TempDir(), "x")}); !errors.Is(err, backup.ErrKeysApart) {
		t.Errorf("%v, want ErrKeysApart", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte(`{"keys":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(t.Context(), m, backup.Target{Dir: filepath.Join(t.TempDir(), "x"), Keys: other}); err == nil {
		t.Error("another file was taken for the keys")
	}
	for _, keys := range []string{"", s.KeysApart} {
		v := verification(store, func(line string) { t.Errorf("fault: %s", line) })
		v.Keys = keys
		if out, err := v.Run(t.Context()); err != nil || out.KeysUnchecked != (keys == "") {
			t.Errorf("verified with %q: %+v, %v", keys, out, err)
		}
	}
	dir := mustRestore(t, r, m, s.KeysApart)
	if got, err := os.ReadFile(filepath.Join(dir, "keyring.json")); string(got) != `{"keys":[]}` || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestParseKeep: what is kept is read as it is written, and nothing else.
func TestParseKeep(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]backup.Keep{
		"": {}, "daily=7": {Daily: 7}, "daily=7,weekly=4,monthly=6": {Daily: 7, Weekly: 4, Monthly: 6}, "monthly=1, daily=0": {Monthly: 1},
	} {
		if got, err := backup.ParseKeep(text); got != want || err != nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"7", "daily", "daily=", "daily=x", "daily=-1", "hourly=3", "daily=0", "daily=7,", "daily=7;weekly=4"} {
		if got, err := backup.ParseKeep(text); err == nil {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

// TestRetain: the newest snapshot of each period stays, and all that it needs. What no
// snapshot needs goes once it is older than a day.
func TestRetain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(0, 100, 1000)
	store := openFolder(t, t.TempDir())
	s := w.service(store)
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) // a Sunday
	s.Now = func() time.Time { return now }
	const days = 45
	var want []string
	for day := days; day >= 0; day-- {
		now = time.Date(2026, 11, 29-day, 12, 0, 0, 0, time.UTC)
		if day%5 == 0 {
			if err := w.use(t.Context(), day, fmt.Sprintf("file of %d days ago", day)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.upload(t.Context(), fmt.Sprintf("of day %d", day)), w.write(t.Context(), "update", []int{day}, 1000)); err != nil {
			t.Fatal(err)
		}
		m := snapshot(t, s)
		w.pass(2 * time.Hour)
		if err := w.blobs.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		switch now.Format(time.DateOnly) {
		case "2026-11-29", "2026-11-28", "2026-11-27", // days
			"2026-11-22",               // the week before; that of this week is a day
			"2026-10-31", "2026-11-30": // the month before
			want = append(want, m.Name)
		}
	}
	s.Keep = backup.Keep{Daily: 3, Weekly: 2, Monthly: 2}
	now = time.Now() // that of the store: nothing is a day old
	before := len(everything(t, store))
	out, err := s.Retain(t.Context())
	if err != nil || out.Snapshots != days+1-len(want) || out.Objects != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	if got, err := backup.Names(t.Context(), store); !slices.Equal(got, want) || err != nil {
		t.Errorf("%q are left, %v, want %q", got, err, want)
	}
	now = now.Add(25 * time.Hour)
	if out, err = s.Retain(t.Context()); err != nil || out.Snapshots != 0 || out.Objects == 0 {
		t.Errorf("%+v, %v", out, err)
	}
	left := everything(t, store)
	if len(left) > before/3 {
		t.Errorf("%d objects are left of %d", len(left), before)
	}
	if n := mustVerify(t, store); n != len(want) {
		t.Errorf("%d snapshots", n)
	}
	snapshot(t, s)
	mustVerify(t, store)
	// Nothing is removed while a manifest cannot be read: it may name anything.
	path := filepath.Join(store.String(), filepath.FromSlash(want[0]))
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(400 * 24 * time.Hour)
	s.Keep = backup.Keep{Monthly: 9}
	if out, err = s.Retain(t.Context()); !errors.Is(err, backup.ErrDamaged) || out != (backup.Retained{}) {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestBaseRemoved: a snapshot whose base is removed by another machine meanwhile is not made,
// since what it has in common with it may be gone.
func TestBaseRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	base := snapshot(t, w.service(openFolder(t, dir)))
	store := &hooked{Folder: openFolder(t, dir), before: func(n int64, name string) error {
		if strings.HasPrefix(name, "put objects/") {
			return os.RemoveAll(filepath.Join(dir, filepath.FromSlash(base.Name)))
		}
		return nil
	}}
	if m, err := w.service(store).Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "removed meanwhile") {
		t.Errorf("%v, %v", m, err)
	}
	snapshot(t, w.service(store.Folder))
	mustVerify(t, store.Folder)
}
