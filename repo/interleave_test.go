package repo_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/account"
	moderation "nestbox/admin"
	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// meeting is a person whose records and blobs two changes meet at.
type meeting struct {
	*person

	first   int64 // the number of the newest event before both
	uploads int
}

// The keys of the records, and the picture that they refer to.
const (
	oldPost = "3jui7kd54zh2y"
	newPost = "3jui7kd54zh2z"
	image   = "image/png"
)

func pictureCID() cid.Cid { return dagcbor.RawCID(sha256.Sum256([]byte("picture"))) }

// answerName is the name of an error as a client sees it, "" for success.
func answerName(err error) string {
	if e, ok := errors.AsType[*xrpc.Error](err); ok {
		return e.Name
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// uploading is uploadBlob of the picture.
func (m *meeting) uploading() string { return m.uploadingAs(image) }

// uploadingAs is uploading by a client that declares a type.
func (m *meeting) uploadingAs(mimeType string) string {
	ctx := m.w.t.Context()
	m.uploads++
	b := blob.Blob{CID: pictureCID(), Size: 70, MimeType: mimeType, Key: fmt.Sprintf("K%d", m.uploads), CreatedAt: m.w.start()}
	err := m.w.Blobs.Intend(ctx, b.Key, b.CreatedAt)
	if err == nil {
		_, err = m.w.Blobs.Add(ctx, m.id, b, 0)
	}
	return answerName(err)
}

// start is a time at which everything in these tests has happened.
func (w *world) start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func (m *meeting) creating(key, record string) func() string {
	return func() string {
		_, err := m.create(post, &key, record)
		return answerName(err)
	}
}

func (m *meeting) putting(key, record string) func() string {
	return func() string {
		_, err := m.put(post, key, record)
		return answerName(err)
	}
}

func (m *meeting) removing(key string) func() string {
	return func() string {
		_, err := m.remove(post, key)
		return answerName(err)
	}
}

// collecting is the sweep, long after everything.
func (m *meeting) collecting() string {
	n, _, err := m.w.Blobs.Collect(m.w.t.Context(), m.w.start().Add(time.Hour), m.w.start().Add(time.Hour))
	return fmt.Sprint(n, err)
}

func (m *meeting) setting(c account.StatusChange) func() string {
	return func() string {
		e := account.Entry{At: m.w.start(), Kind: account.EntryTakedown, By: account.ActorAdmin}
		_, err := m.w.World.Accounts.SetStatus(m.w.t.Context(), m.id, c, e)
		return answerName(err)
	}
}

// takingDown takes a record or a blob down.
func (m *meeting) takingDown(subject string) func() string {
	return func() string {
		return answerName(m.w.Admin.SetTakedown(m.w.t.Context(), m.did, moderation.Takedown{Subject: subject, Ref: "case"}, true, moderation.Action{At: m.w.start()}))
	}
}

func (m *meeting) deleting() string {
	return answerName(m.w.World.Accounts.Delete(m.w.t.Context(), m.id, m.w.start()))
}

// state describes the records, the blob, what is taken down, and the events.
func (m *meeting) state() string {
	ctx := m.w.t.Context()
	var out []string
	for _, key := range []string{oldPost, newPost} {
		c, err := m.w.Admin.Content(ctx, m.did, post+"/"+key)
		out = append(out, fmt.Sprintf("%s there %t down %t %v", key, c.CID.Defined(), c.Takedown != nil, err))
	}
	c, err := m.w.Admin.Content(ctx, m.did, pictureCID().String())
	out = append(out, fmt.Sprintf("picture there %t down %t %v", c.CID.Defined(), c.Takedown != nil, err))
	b, err := m.w.Blobs.Get(ctx, m.id, pictureCID())
	expected, there, cerr := m.w.Blobs.Count(ctx, m.id)
	out = append(out, fmt.Sprintf("shown %q %v, %d of %d there, %v", b.MimeType, err, there, expected, cerr))
	garbage, err := m.w.Blobs.Garbage(ctx, m.w.start().Add(time.Hour), "", 10)
	out = append(out, fmt.Sprintf("%d files are garbage, %v", len(garbage), err))
	a, err := m.w.World.Accounts.ByDID(ctx, m.did)
	if err == nil {
		out = append(out, fmt.Sprintf("status %q", a.Status()))
	} else {
		out = append(out, err.Error())
	}
	for _, e := range m.w.events(m.first) {
		out = append(out, string(e.Kind))
	}
	return fmt.Sprintf("%q", out)
}

// meet holds each pair of changes to their serial orders. prepare makes what was there
// before.
func meet(t *testing.T, prepare func(m *meeting), pairs map[string]func(m *meeting) (one, other func() string)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				w := newWorldBefore(t, before)
				m := &meeting{person: w.person("alice")}
				prepare(m)
				for _, e := range w.events(0) {
					m.first = e.Seq
				}
				one, other := pairs[name](m)
				return storetest.Changes{One: one, Other: other, State: m.state}
			})
		})
	}
}

func must(t testing.TB, answers ...string) {
	t.Helper()
	for _, got := range answers {
		if got != "" {
			t.Fatal(got)
		}
	}
}

// TestBlobsMeet: uploads, commits that refer to a blob or no longer do, and the sweep end
// as one after the other: no record refers to a blob that is gone, and no blob that a record
// refers to goes.
func TestBlobsMeet(t *testing.T) {
	t.Parallel()
	with := picture(ref(pictureCID(), image, 70))
	t.Run("not there", func(t *testing.T) {
		t.Parallel()
		meet(t, func(*meeting) {}, map[string]func(m *meeting) (one, other func() string){
			"upload, the first reference": func(m *meeting) (one, other func() string) { return m.uploading, m.creating(newPost, with) },
			"two uploads":                 func(m *meeting) (one, other func() string) { return m.uploading, m.uploading },
			"upload, the sweep":           func(m *meeting) (one, other func() string) { return m.uploading, m.collecting },
		})
	})
	t.Run("there, not referred to", func(t *testing.T) {
		t.Parallel()
		prepare := func(m *meeting) { must(m.w.t, m.uploading()) }
		meet(t, prepare, map[string]func(m *meeting) (one, other func() string){
			"the first reference, the sweep": func(m *meeting) (one, other func() string) { return m.creating(newPost, with), m.collecting },
			"the first reference, another one": func(m *meeting) (one, other func() string) {
				return m.creating(newPost, with), m.creating(oldPost, with)
			},
			"the first reference, a new upload": func(m *meeting) (one, other func() string) { return m.creating(newPost, with), m.uploading },
			"the first reference, the deletion": func(m *meeting) (one, other func() string) { return m.creating(newPost, with), m.deleting },
			"the first reference, its takedown": func(m *meeting) (one, other func() string) {
				return m.creating(newPost, with), m.takingDown(pictureCID().String())
			},
			"the first reference, another type": func(m *meeting) (one, other func() string) {
				return m.creating(newPost, with), func() string { return m.uploadingAs("text/plain") }
			},
			"a new upload, the sweep":              func(m *meeting) (one, other func() string) { return m.uploading, m.collecting },
			"a new upload, the blob is taken down": func(m *meeting) (one, other func() string) { return m.uploading, m.takingDown(pictureCID().String()) },
			"a new upload, the deletion":           func(m *meeting) (one, other func() string) { return m.uploading, m.deleting },
		})
	})
	t.Run("there, referred to once", func(t *testing.T) {
		t.Parallel()
		prepare := func(m *meeting) { must(m.w.t, m.uploading(), m.creating(oldPost, with)()) }
		plain := `{"$type":"app.bsky.feed.post","text":"plain","createdAt":"2026-08-01T12:00:00.000Z"}`
		meet(t, prepare, map[string]func(m *meeting) (one, other func() string){
			"the last reference goes, another comes": func(m *meeting) (one, other func() string) { return m.removing(oldPost), m.creating(newPost, with) },
			"the last reference is replaced, one comes": func(m *meeting) (one, other func() string) {
				return m.putting(oldPost, plain), m.creating(newPost, with)
			},
			"the last reference goes, the sweep":    func(m *meeting) (one, other func() string) { return m.removing(oldPost), m.collecting },
			"another comes, the sweep":              func(m *meeting) (one, other func() string) { return m.creating(newPost, with), m.collecting },
			"the last reference goes, a new upload": func(m *meeting) (one, other func() string) { return m.removing(oldPost), m.uploading },
			"the last reference goes twice":         func(m *meeting) (one, other func() string) { return m.removing(oldPost), m.removing(oldPost) },
		})
	})
}

// TestTakedownsMeetWrites: a write and a moderator's measure, or a change of status by the
// owner, end as one after the other: nothing is written to an account that is not active.
func TestTakedownsMeetWrites(t *testing.T) {
	t.Parallel()
	hello := `{"$type":"app.bsky.feed.post","text":"hello","createdAt":"2026-08-01T12:00:00.000Z"}`
	writes := map[string]func(m *meeting) func() string{
		"create": func(m *meeting) func() string { return m.creating(newPost, hello) },
		"put":    func(m *meeting) func() string { return m.putting(oldPost, hello) },
		"delete": func(m *meeting) func() string { return m.removing(oldPost) },
		"batch": func(m *meeting) func() string {
			return func() string {
				_, err := m.apply(step("create", post, newPost, hello), step("delete", post, oldPost, ""))
				return answerName(err)
			}
		},
	}
	measures := map[string]func(m *meeting) func() string{
		"takedown": func(m *meeting) func() string {
			return m.setting(account.StatusChange{Takedown: &account.Applied{Applied: true}})
		},
		"suspension":     func(m *meeting) func() string { return m.setting(account.StatusChange{Suspended: new(true)}) },
		"deactivation":   func(m *meeting) func() string { return m.setting(account.StatusChange{Deactivated: new(true)}) },
		"deletion":       func(m *meeting) func() string { return m.deleting },
		"of the record":  func(m *meeting) func() string { return m.takingDown(post + "/" + oldPost) },
		"of its picture": func(m *meeting) func() string { return m.takingDown(pictureCID().String()) },
	}
	pairs := map[string]func(m *meeting) (one, other func() string){}
	for write, one := range writes {
		for measure, other := range measures {
			pairs[write+", "+measure] = func(m *meeting) (func() string, func() string) { return one(m), other(m) }
		}
	}
	pairs["takedown of the record, deletion"] = func(m *meeting) (one, other func() string) {
		return m.takingDown(post + "/" + oldPost), m.deleting
	}
	prepare := func(m *meeting) {
		must(m.w.t, m.uploading(), m.creating(oldPost, picture(ref(pictureCID(), image, 70)))())
	}
	meet(t, prepare, pairs)
}
