package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The folders of a store.
const (
	snapshotsFolder = "snapshots" // manifests, as JSON
	packsFolder     = "packs"     // chunks of databases
	objectsFolder   = "objects"   // maps, logs, lists of blobs, small files
	blobsFolder     = "blobs"     // files of blobs, by key
)

// manifestForm is the number of the form of a store that this program writes.
const manifestForm = 1

// maxManifest bounds a manifest, in bytes.
const maxManifest = 64 << 20

// Manifest describes a snapshot.
type Manifest struct {
	Form int `json:"form"`
	// At is when the state was that of the snapshot.
	At      time.Time `json:"at"`
	Host    string    `json:"host"`
	DID     string    `json:"did"`
	Version string    `json:"version"`
	State
	// Recipients are the public keys that everything but the list of blobs is encrypted to.
	Recipients []string `json:"recipients,omitempty"`
	// HeldSize is the size of the database's file, in bytes, before Log is applied.
	HeldSize int64 `json:"heldSize"`
	// Database is the map of the database's file, Log the pages that are newer, if there are
	// any.
	Database Stored  `json:"database"`
	Log      *Stored `json:"log,omitempty"`
	// Packs are what the map refers to.
	Packs []Stored `json:"packs"`
	// Blobs is the list of the blobs' files.
	Blobs     Stored `json:"blobs"`
	BlobCount int64  `json:"blobCount"`
	BlobBytes int64  `json:"blobBytes"`
	// Gone is how many of the blobs had no file on the server itself.
	Gone  int64  `json:"gone,omitempty"`
	Files []Kept `json:"files"`
	// KeysApart: the keys are not in the snapshot. KeysID names them in their file.
	KeysApart bool   `json:"keysApart,omitempty"`
	KeysID    string `json:"keysID,omitempty"`
	// Sent is how many bytes went to the store for it, Took how long, in milliseconds.
	Sent int64 `json:"sent"`
	Took int64 `json:"took"`

	// Name is the name of the manifest in the store.
	Name string `json:"-"`
	// Ahead names a snapshot of a later time that the store had when this one was made.
	Ahead string `json:"-"`

	raw []byte // what the store has
}

// Kept is a file in a snapshot.
type Kept struct {
	Name string `json:"name"`
	Stored
}

// MarshalJSON implements json.Marshaler: Stored has a name, too.
func (k Kept) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"file": k.Name, "object": k.Stored})
}

// UnmarshalJSON implements json.Unmarshaler.
func (k *Kept) UnmarshalJSON(raw []byte) error {
	var in struct {
		File   string `json:"file"`
		Object Stored `json:"object"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	k.Name, k.Stored = in.File, in.Object
	return nil
}

// Encrypted reports whether the snapshot is encrypted.
func (m *Manifest) Encrypted() bool { return strings.HasSuffix(m.Database.Name, sealed) }

// Size is that of the database, in bytes.
func (m *Manifest) Size() int64 { return int64(m.PageSize) * int64(m.PageCount) }

// objects returns everything that the snapshot needs, besides the files of blobs.
func (m *Manifest) objects() []Stored {
	all := append(slices.Clone(m.Packs), m.Database, m.Blobs)
	if m.Log != nil {
		all = append(all, *m.Log)
	}
	for _, f := range m.Files {
		all = append(all, f.Stored)
	}
	return all
}

// ShownTime is the form of a time that is shown to people who may name it for a restore: all of it is there,
// so that it is not before what it is of.
const ShownTime = "2006-01-02T15:04:05.000Z07:00"

// nameTime is the form of a time in the name of a manifest.
const nameTime = "20060102T150405.000Z"

// encode returns a manifest's bytes and sets its name, which has their hash.
func (m *Manifest) encode() ([]byte, error) {
	raw, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	raw = append(raw, '\n')
	m.raw = raw
	m.Name = snapshotsFolder + "/" + m.At.UTC().Format(nameTime) + "-" + sumOf(raw) + ".json"
	return raw, nil
}

// nameOf returns time and hash of a manifest's name. ok is false for another object.
func nameOf(name string) (at time.Time, sum string, ok bool) {
	base, isHere := strings.CutPrefix(name, snapshotsFolder+"/")
	base, isJSON := strings.CutSuffix(base, ".json")
	when, sum, cut := strings.Cut(base, "-")
	at, err := time.Parse(nameTime, when)
	return at, sum, isHere && isJSON && cut && err == nil && len(sum) == hex.EncodedLen(sha256.Size)
}

// Names returns the names of the store's manifests, the oldest first.
func Names(ctx context.Context, d Depot) (names []string, err error) {
	err = d.List(ctx, snapshotsFolder+"/", func(o Object) error {
		if _, _, ok := nameOf(o.Name); ok {
			names = append(names, o.Name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the snapshots of %s: %w", d, err)
	}
	slices.Sort(names)
	return names, nil
}

// Load reads a manifest: ErrDamaged if it is not what its name says.
func Load(ctx context.Context, d Depot, name string) (*Manifest, error) {
	body, err := d.Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read %s from %s: %w", name, d, unreadable(err))
	}
	raw, err := io.ReadAll(io.LimitReader(body, maxManifest))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("read %s from %s: %w", name, d, unreadable(err))
	}
	return decodeManifest(name, raw)
}

// decodeManifest reads what encode returned: ErrDamaged if it is not what the name says.
func decodeManifest(name string, raw []byte) (m *Manifest, err error) {
	_, want, _ := nameOf(name)
	if sumOf(raw) != want {
		return nil, fmt.Errorf("%s: %w: its bytes are not those that were written", name, ErrDamaged)
	}
	m = &Manifest{Name: name, raw: raw}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	if m.Form == manifestForm {
		err = m.check()
	} else {
		err = fmt.Errorf("%s: it was written by another version of nestbox, %s: use that one", name, m.Version)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// check compares a manifest with its name, and looks at the names that it has: those who can
// write to the store must not lead a restore out of it.
func (m *Manifest) check() error {
	if at, _, _ := nameOf(m.Name); !at.Equal(m.At) {
		return fmt.Errorf("%s: %w: it is of another time, %s", m.Name, ErrDamaged, m.At.Format(time.RFC3339Nano))
	}
	for _, f := range m.Files {
		if err := checkName(f.Name); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	for _, o := range m.objects() {
		folder, _, _ := strings.Cut(o.Name, "/")
		sum, err := hex.DecodeString(o.hash())
		known := folder == packsFolder || folder == objectsFolder
		plain := strings.TrimSuffix(o.Name, sealed)
		if !known || err != nil || len(sum) != sha256.Size || plain != folder+"/"+o.hash() || o.Size < 0 {
			return fmt.Errorf("%s: %w: it has an object named %q", m.Name, ErrDamaged, o.Name)
		}
	}
	return nil
}

// Listed is a manifest of a store, or why it cannot be read.
type Listed struct {
	*Manifest

	Name string
	// Made is when it was made, as its name has it.
	Made time.Time
	Err  error
}

// List returns what the store has, the oldest first.
func List(ctx context.Context, d Depot) ([]Listed, error) {
	names, err := Names(ctx, d)
	if err != nil {
		return nil, err
	}
	var out []Listed
	for _, name := range names {
		m, err := Load(ctx, d, name)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		made, _, _ := nameOf(name)
		out = append(out, Listed{m, name, made, err})
	}
	return out, nil
}

// ErrNoSnapshot: the store has no snapshot that could be restored.
var ErrNoSnapshot = errors.New("there is no snapshot")

// latest returns the index of the newest of some names that is not younger than now: a clock
// that was ahead once may have made one of the future. If all are younger, it is the last.
func latest(names []string, now time.Time) int {
	for i, name := range slices.Backward(names) {
		if at, _, _ := nameOf(name); !at.After(now) {
			return i
		}
	}
	return len(names) - 1
}

// candidates returns the names of the snapshots that a restore may begin with, the oldest first: those
// that are not younger than at, or if that is zero than now. If all are younger than now, it is all.
func candidates(ctx context.Context, d Depot, at, now time.Time) ([]string, error) {
	names, err := Names(ctx, d)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: %w", d, ErrNoSnapshot)
	}
	if at.IsZero() {
		return names[:latest(names, now)+1], nil
	}
	first, _, _ := nameOf(names[0])
	if first.After(at) {
		return nil, fmt.Errorf("%s: %w of that time or before: the oldest is of %s", d, ErrNoSnapshot, first.Format(ShownTime))
	}
	return names[:latest(names, at)+1], nil
}
