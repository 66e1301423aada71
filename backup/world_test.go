package backup_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/blob"
	"nestbox/blob/disk"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/lexicon"
	"nestbox/repo"
	"nestbox/store/storetest"
	"nestbox/verify"
)

// world is a data directory with an account that writes records and uploads blobs.
type world struct {
	tb    testing.TB
	dir   string
	db    *storetest.Database
	repos *repo.Service
	blobs *blob.Service
	files *disk.Files
	key   atcrypto.PrivateKey
	who   *account.Account

	mu sync.Mutex
	at time.Time
}

// SigningKey implements repo.Keys.
func (w *world) SigningKey(context.Context, int64) (atcrypto.PrivateKey, error) { return w.key, nil }

// now is a clock that a test moves.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

// repoAccounts finds accounts in the store.
type repoAccounts struct{ account.Store }

func (d repoAccounts) Find(ctx context.Context, name syntax.AtIdentifier) (repo.Account, error) {
	a, err := account.Find(ctx, d.Store, name.Normalize().String())
	if err != nil {
		return repo.Account{}, err
	}
	return repo.Account{ID: a.ID, DID: a.DID, Handle: a.Handle, Document: a.Document, Status: string(a.Status())}, nil
}

type blobAccounts struct{ account.Store }

func (b blobAccounts) Find(ctx context.Context, did syntax.DID) (blob.Account, error) {
	a, err := b.ByDID(ctx, did)
	if err != nil {
		return blob.Account{}, err
	}
	return blob.Account{ID: a.ID}, nil
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir(), at: time.Now().UTC()}
	w.db = storetest.Open(tb, storetest.Options{Dir: w.dir})
	var err error
	if w.key, err = atcrypto.GeneratePrivateKeyK256(); err != nil {
		tb.Fatal(err)
	}
	public, err := w.key.PublicKey()
	if err != nil {
		tb.Fatal(err)
	}
	w.who, err = storetest.AddAccount(tb.Context(), w.db.Stores, hosting.Pending{
		DID: "did:web:alice.test", Handle: "alice.test", SigningKey: public.DIDKey(), CreatedAt: w.at,
	})
	if err != nil {
		tb.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w.repos = &repo.Service{Store: w.db.Repos, Accounts: repoAccounts{w.db.Accounts}, Keys: w, Lexicons: lexicon.Known(), Now: time.Now, Log: log}
	if err := w.repos.Backfill(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if w.files, err = disk.Open(filepath.Join(w.dir, "blobs"), ""); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.files.Close(); err != nil {
			tb.Error(err)
		}
	})
	keys := 0
	w.blobs = &blob.Service{
		Store: w.db.Blobs, Files: w.files, Accounts: blobAccounts{w.db.Accounts}, UploadLimit: 1 << 30, Unused: time.Hour, Unreferenced: time.Hour,
		NewKey: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			keys++
			return fmt.Sprintf("%c%cKEY%06d", 'A'+keys%7, 'A'+keys%3, keys)
		},
		Now: w.now, Log: log,
	}
	for name, content := range map[string]string{"keyring.json": `{"keys":[]}`, "admin_password": "secret\n", "notes": "not in a backup"} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return w
}

// reopen closes the database and opens it again, as a restart does.
func (w *world) reopen() {
	w.db.Reopen()
	w.repos.Store, w.repos.Accounts = w.db.Repos, repoAccounts{w.db.Accounts}
	w.blobs.Store, w.blobs.Accounts = w.db.Blobs, blobAccounts{w.db.Accounts}
}

// noise returns text that hardly shrinks.
func noise(n int) string {
	raw := make([]byte, 0, n/2+8)
	for len(raw)*2 < n {
		raw = binary.BigEndian.AppendUint64(raw, rand.Uint64())
	}
	return hex.EncodeToString(raw)[:n]
}

// write makes or changes records; each step is made by kind, for each key.
func (w *world) write(ctx context.Context, kind string, keys []int, size int) error {
	var steps []jsontext.Value
	for _, n := range keys {
		step, err := json.Marshal(map[string]any{
			"$type": "com.atproto.repo.applyWrites#" + kind, "collection": "com.example.post", "rkey": fmt.Sprintf("post-%06d", n),
			"value": map[string]any{"$type": "com.example.post", "text": noise(size)},
		})
		if err != nil {
			return err
		}
		steps = append(steps, step)
	}
	_, err := w.repos.ApplyWrites(ctx, auth.NewScoped(auth.StandardCaller{Access: auth.Access{DID: w.who.DID}}),
		repo.ApplyWritesInput{Repo: w.who.DID.String(), Writes: steps})
	return err
}

// fill makes records, up to 200 at once.
func (w *world) fill(from, to, size int) {
	w.tb.Helper()
	for ; from < to; from += 200 {
		var keys []int
		for n := from; n < min(from+200, to); n++ {
			keys = append(keys, n)
		}
		if err := w.write(w.tb.Context(), "create", keys, size); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// upload keeps a blob to which no record refers, so that Collect removes it in an hour.
func (w *world) upload(ctx context.Context, content string) error {
	_, err := w.blobs.Upload(ctx, w.who.ID, strings.NewReader(content), int64(len(content)), "text/plain", func(string) error { return nil })
	return err
}

// use makes a blob that a record refers to.
func (w *world) use(ctx context.Context, key int, content string) error {
	b, err := w.blobs.Upload(ctx, w.who.ID, strings.NewReader(content), int64(len(content)), "text/plain", func(string) error { return nil })
	if err != nil {
		return err
	}
	step, err := json.Marshal(map[string]any{
		"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.file", "rkey": fmt.Sprintf("file-%06d", key),
		"value": map[string]any{"$type": "com.example.file", "file": map[string]any{
			"$type": "blob", "ref": map[string]string{"$link": b.CID.String()}, "mimeType": b.MimeType, "size": b.Size,
		}},
	})
	if err != nil {
		return err
	}
	_, err = w.repos.ApplyWrites(ctx, auth.NewScoped(auth.StandardCaller{Access: auth.Access{DID: w.who.DID}}),
		repo.ApplyWritesInput{Repo: w.who.DID.String(), Writes: []jsontext.Value{step}})
	return err
}

// service makes backups in store.
func (w *world) service(store backup.Depot) *backup.Service {
	w.tb.Helper()
	return &backup.Service{
		Source: backup.Source{
			Database: w.db, HoldBlobs: w.blobs.HoldFiles, Host: "pds.test", DID: "did:web:pds.test", Version: "test",
			OpenBlob: func(ctx context.Context, key string) (io.ReadCloser, int64, error) {
				file, err := w.files.Open(ctx, key)
				if errors.Is(err, blob.ErrNotFound) {
					return nil, 0, backup.ErrMissing
				}
				if err != nil {
					return nil, 0, err
				}
				size, err := file.Seek(0, io.SeekEnd)
				_, err2 := file.Seek(0, io.SeekStart)
				return file, size, errors.Join(err, err2)
			},
			Files: []backup.File{
				{Name: "keyring.json", Path: filepath.Join(w.dir, "keyring.json"), Key: true},
				{Name: "admin_password", Path: filepath.Join(w.dir, "admin_password"), Key: true},
				{Name: "last_settings.json", Path: filepath.Join(w.dir, "last_settings.json")}, // there is none
			},
		},
		Depot: store, State: filepath.Join(w.dir, "backups", "test"), Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func openFolder(tb testing.TB, dir string) *depot.Folder {
	tb.Helper()
	f, err := depot.OpenFolder(dir, true)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// verification verifies what is in a store; its faults go to fault.
func verification(store backup.Depot, fault func(string)) backup.Verification {
	return backup.Verification{
		Reader: &backup.Reader{Depot: store}, Full: true, Fault: fault, Now: time.Now,
		Check: func(ctx context.Context, dir string, _ bool, blobs *backup.Blobs, fault func(string)) error {
			faults := verifyDir(ctx, dir, storedBlobs{blobs}, fault)
			return faults
		},
	}
}

// verifyDir checks everything in a data directory but its keys.
func verifyDir(ctx context.Context, dir string, blobs blob.Inspector, fault func(string)) error {
	v := verify.Verification{
		Lock: func() (func() error, error) { return durable.Lock(dir) }, Database: storetest.Inspector(dir), Blobs: blobs,
		Keys: func(func(string)) *seal.Box { return nil }, Now: time.Now,
		Fault: fault, Remark: func(string) {}, Progress: func(string) {},
	}
	_, err := v.Run(ctx)
	return err
}

type storedBlobs struct{ *backup.Blobs }

type forward struct{ io.ReadCloser }

func (forward) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }

// Open implements blob.Inspector.
func (s storedBlobs) Open(ctx context.Context, key string) (blob.File, error) {
	in, err := s.Blobs.Open(ctx, key)
	if errors.Is(err, backup.ErrMissing) {
		return nil, blob.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return forward{in}, nil
}

// mustVerify fails the test for each fault of any snapshot of a store, and returns how many
// snapshots it has.
func mustVerify(tb testing.TB, store backup.Depot) int {
	tb.Helper()
	done, err := verification(store, func(line string) { tb.Errorf("verify: %s", line) }).Run(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return done.Snapshots
}

// mustRestore restores a snapshot, and verifies the data directory that it returns.
func mustRestore(tb testing.TB, r *backup.Reader, m *backup.Manifest, keys string) string {
	tb.Helper()
	dir, before := filepath.Join(tb.TempDir(), "restored"), r.Progress
	r.Progress = func(p backup.Step) {
		if p.Done > p.Total {
			tb.Errorf("more than all is done: %+v", p)
		}
		if before != nil {
			before(p)
		}
	}
	defer func() { r.Progress = before }()
	if err := r.Restore(tb.Context(), m, backup.Target{Dir: dir, Keys: keys}); err != nil {
		tb.Fatal(err)
	}
	err := verifyDir(tb.Context(), dir, disk.Look(filepath.Join(dir, "blobs"), ""), func(line string) { tb.Errorf("restored: %s", line) })
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

func snapshot(tb testing.TB, s *backup.Service) *backup.Manifest {
	tb.Helper()
	m, err := s.Snapshot(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return m
}
