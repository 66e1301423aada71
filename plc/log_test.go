package plc_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

// TestAppend goes through histories of one identity whose rotation keys are strong,
// middle and weak. Each step is signed by a key, follows an earlier step (0 is the
// genesis), comes some time after day0, and is accepted or refused.
func TestAppend(t *testing.T) {
	strong, middle, weak, stranger := newKey(t), newP256Key(t), newKey(t), newKey(t)
	const tomb, again = "tombstone", "genesis"
	type step struct {
		by   key
		prev int
		at   time.Duration
		want error
		kind string // "" is a regular operation
	}
	hour := time.Hour
	for _, c := range []struct {
		name      string
		steps     []step
		nullified string // the steps that no longer stand: n, others -
	}{
		{"every rotation key may go on", []step{{strong, 0, 1, nil, ""}, {middle, 1, 2, nil, ""}, {weak, 2, 3, nil, ""}}, "----"},
		{"a stranger may not", []step{{stranger, 0, 1, plc.ErrSignature, ""}}, "-"},
		{"nothing follows what was never there", []step{{strong, 9, 1, plc.ErrMisordered, ""}}, "-"},
		{"there is one genesis", []step{{strong, 0, 1, plc.ErrMisordered, again}}, "-"},
		{"a mightier key undoes", []step{{weak, 0, 1, nil, ""}, {strong, 0, 2, nil, ""}}, "-n-"},
		{"a mightier key undoes all that follows", []step{{weak, 0, 1, nil, ""}, {strong, 1, 2, nil, ""}, {weak, 2, 3, nil, ""}, {middle, 0, 4, nil, ""}}, "-nnn-"},
		{"the same key does not undo", []step{{middle, 0, 1, nil, ""}, {middle, 0, 2, plc.ErrSignature, ""}}, "--"},
		{"a weaker key does not undo", []step{{middle, 0, 1, nil, ""}, {weak, 0, 2, plc.ErrSignature, ""}}, "--"},
		{"a stranger does not undo", []step{{weak, 0, 1, nil, ""}, {stranger, 0, 2, plc.ErrSignature, ""}}, "--"},
		{"the mightiest cannot be undone", []step{{strong, 0, 1, nil, ""}, {strong, 0, 2, plc.ErrSignature, ""}}, "--"},
		{"72 hours are in time", []step{{weak, 0, hour, nil, ""}, {strong, 0, 73 * hour, nil, ""}}, "-n-"},
		{"a moment more is late", []step{{weak, 0, hour, nil, ""}, {strong, 0, 73*hour + time.Millisecond, plc.ErrLateRecovery, ""}}, "--"},
		{
			"the window begins with the first operation that is undone",
			[]step{{weak, 0, hour, nil, ""}, {weak, 1, 70 * hour, nil, ""}, {strong, 0, 80 * hour, plc.ErrLateRecovery, ""}, {strong, 1, 80 * hour, nil, ""}},
			"--n-",
		},
		{"what was undone has no successors", []step{{weak, 0, 1, nil, ""}, {strong, 0, 2, nil, ""}, {strong, 1, 3, plc.ErrMisordered, ""}}, "-n-"},
		{
			"a recovery can be undone by an even mightier key, and by no other",
			[]step{{weak, 0, 1, nil, ""}, {middle, 0, 2, nil, ""}, {middle, 0, 3, plc.ErrSignature, ""}, {strong, 0, 4, nil, ""}},
			"-nn-",
		},
		{"a tombstone ends it", []step{{weak, 0, 1, nil, tomb}, {strong, 1, 2, plc.ErrMisordered, ""}, {strong, 1, 3, plc.ErrMisordered, tomb}}, "--"},
		{"a tombstone can be undone", []step{{weak, 0, 1, nil, tomb}, {strong, 0, 2, nil, ""}}, "-n-"},
		{"a tombstone cannot be undone late", []step{{weak, 0, 1, nil, tomb}, {strong, 0, 73 * hour, plc.ErrLateRecovery, ""}}, "--"},
		{"a tombstone can undo", []step{{weak, 0, 1, nil, ""}, {strong, 0, 2, nil, tomb}}, "-n-"},
		{"a stranger's tombstone", []step{{stranger, 0, 1, plc.ErrSignature, tomb}}, "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			did, op, err := plc.Create(data(strong, middle, weak), weak)
			if err != nil {
				t.Fatal(err)
			}
			genesis := didplc.OpEnum{Regular: op}
			log, err := plc.Append(did, nil, genesis, day0)
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range c.steps {
				prev := after(t, genesis, "nowhere.test", stranger, stranger)
				if s.prev < len(log) {
					prev = log[s.prev].Operation
				}
				next := genesis
				switch s.kind {
				case "":
					next = after(t, prev, "step"+string(rune('a'+i))+".test", s.by, strong, middle, weak)
				case tomb:
					next = tombstone(t, prev, s.by)
				}
				before := marks(log)
				longer, err := plc.Append(did, log, next, day0.Add(s.at))
				if !errors.Is(err, s.want) || (err == nil) != (s.want == nil) {
					t.Fatalf("step %d: %v, want %v", i+1, err, s.want)
				}
				if marks(log) != before {
					t.Fatalf("step %d changed the log that it was given", i+1)
				}
				if err == nil {
					log = longer
				}
			}
			if got := marks(log); got != c.nullified {
				t.Errorf("nullified %q, want %q", got, c.nullified)
			}
			if err := didplc.VerifyOpLog(entries(did, log)); err != nil {
				t.Errorf("go-didplc does not verify this log: %v", err)
			}
			last, ok := plc.Last(log)
			if want := log[strings.LastIndexByte(c.nullified, '-')]; !ok || last.CID != want.CID {
				t.Errorf("Last = %s, want %s", last.CID, want.CID)
			}
		})
	}
	if last, ok := plc.Last(nil); ok {
		t.Errorf("the last of an empty log is %+v", last)
	}
}

// marks shows which entries of a log stand (-) and which are nullified (n).
func marks(log []plc.Entry) string {
	out := make([]byte, len(log))
	for i, e := range log {
		out[i] = '-'
		if e.Nullified {
			out[i] = 'n'
		}
	}
	return string(out)
}

// entries returns a log in the form of go-didplc.
func entries(did syntax.DID, log []plc.Entry) []didplc.LogEntry {
	var out []didplc.LogEntry
	for _, e := range log {
		out = append(out, didplc.LogEntry{
			DID: did.String(), Operation: e.Operation, CID: e.CID, Nullified: e.Nullified,
			CreatedAt: e.CreatedAt.Format(time.RFC3339Nano),
		})
	}
	return out
}

func TestAppendGenesis(t *testing.T) {
	owner, server, stranger := newKey(t), newKey(t), newKey(t)
	did, op, err := plc.Create(data(owner, server), server)
	if err != nil {
		t.Fatal(err)
	}
	genesis := didplc.OpEnum{Regular: op}
	other, _, err := plc.Create(data(server), server)
	if err != nil {
		t.Fatal(err)
	}
	old := legacy(t, owner, server)
	oldDID := syntax.DID(mustDID(t, old))
	byStranger := legacy(t, owner, server)
	byStranger = sign(t, byStranger.Legacy, stranger)
	changed := *op
	changed.AlsoKnownAs = []string{"at://mallory.test"}
	for _, c := range []struct {
		name string
		did  syntax.DID
		op   didplc.OpEnum
		want error
	}{
		{"as made", did, genesis, nil},
		{"legacy", oldDID, old, nil},
		{"legacy by a stranger", syntax.DID(mustDID(t, byStranger)), byStranger, plc.ErrSignature},
		{"of another DID", other, genesis, plc.ErrGenesisHash},
		{"legacy of another DID", other, old, plc.ErrGenesisHash},
		{"of a DID that is cut short", did[:len(did)-1], genesis, plc.ErrGenesisHash},
		{"changed after it was signed", did, didplc.OpEnum{Regular: &changed}, plc.ErrSignature},
		{"follows something", did, after(t, genesis, "a.test", server, server), plc.ErrMisordered},
		{"a tombstone", did, tombstone(t, genesis, server), plc.ErrMisordered},
		{"unsigned", did, didplc.OpEnum{Regular: &didplc.RegularOp{Type: "plc_operation", RotationKeys: []string{server.did}}}, plc.ErrOperation},
	} {
		if _, err := plc.Append(c.did, nil, c.op, day0); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}

	// Both keys of a legacy operation rotate; its recovery key is the stronger.
	log, err := plc.Append(oldDID, nil, old, day0)
	if err != nil {
		t.Fatal(err)
	}
	if log, err = plc.Append(oldDID, log, after(t, old, "a.test", server, server), day0.Add(1)); err != nil {
		t.Fatal(err)
	}
	if log, err = plc.Append(oldDID, log, after(t, old, "b.test", owner, server), day0.Add(2)); err != nil || marks(log) != "-n-" {
		t.Errorf("recovery of a legacy identity: %q, %v", marks(log), err)
	}
	if _, err = plc.Append(oldDID, log, sign(t, &didplc.LegacyOp{
		Type: "create", SigningKey: server.did, RecoveryKey: owner.did, Handle: "b.test", Service: "s", Prev: new(cidOf(log[2].Operation)),
	}, server), day0.Add(3)); !errors.Is(err, plc.ErrMisordered) {
		t.Errorf("a legacy operation in the middle: %v", err)
	}
}

// TestAppendAgainstLibrary grows random logs and asks go-didplc, which has its own
// rules of recovery, about each step: both accept it, or neither.
func TestAppendAgainstLibrary(t *testing.T) {
	keys := []key{newKey(t), newP256Key(t), newKey(t), newKey(t)}
	taken, refused := 0, 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		pick := func() key { return keys[r.IntN(len(keys))] }
		rotation := func() []key {
			out := append([]key(nil), keys...)
			r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
			return out[:1+r.IntN(len(out))]
		}
		first := rotation()
		did, op, err := plc.Create(data(first...), first[0])
		if err != nil {
			t.Fatal(err)
		}
		now := day0
		log, err := plc.Append(did, nil, didplc.OpEnum{Regular: op}, now)
		if err != nil {
			t.Fatal(err)
		}
		for range 12 {
			now = now.Add(time.Millisecond + time.Duration(r.Int64N(int64(30*time.Hour))).Truncate(time.Millisecond))
			prev := log[max(0, len(log)-1-r.IntN(3))].Operation
			next := after(t, prev, "a.test", pick(), rotation()...)
			if r.IntN(8) == 0 {
				next = tombstone(t, prev, pick())
			}
			longer, err := plc.Append(did, log, next, now)
			if theirs := didplc.VerifyOpLog(entries(did, proposal(log, next, now))); (err == nil) != (theirs == nil) {
				t.Fatalf("seed %d, log %q: Append says %v, go-didplc %v", seed, marks(log), err, theirs)
			}
			if err != nil {
				refused++
				continue
			}
			taken++
			log = longer
			if err := didplc.VerifyOpLog(entries(did, log)); err != nil {
				t.Fatalf("seed %d, log %q: go-didplc: %v", seed, marks(log), err)
			}
		}
	}
	if taken < 50 || refused < 50 {
		t.Errorf("%d steps taken and %d refused: the test shows little", taken, refused)
	}
}

// proposal returns the log with op at its end, as it would be if op were valid.
func proposal(log []plc.Entry, op didplc.OpEnum, now time.Time) []plc.Entry {
	var out []plc.Entry
	undone := false
	for _, e := range log {
		e.Nullified = e.Nullified || undone
		undone = undone || e.CID == op.AsOperation().PrevCIDStr()
		out = append(out, e)
	}
	return append(out, plc.Entry{Operation: op, CID: cidOf(op), CreatedAt: now})
}

// TestPublishedLogs applies the audit logs that come with go-didplc: some are of real
// identities, some are made to be refused.
func TestPublishedLogs(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/did-method-plc/go-didplc").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "testdata", "log_*.json"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d logs, %v", len(files), err)
	}
	// These have operations with no rotation keys, or one key twice: they were
	// accepted once, against today's specification.
	outdated := []string{
		"empty_rotation_keys", "duplicate_rotation_keys", "nullification",
		"invalid_nullification_reused_key", "invalid_nullification_too_slow",
	}
	for _, path := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "log_"), ".json")
		t.Run(name, func(t *testing.T) {
			var want error
			switch {
			case slices.Contains(outdated, name):
				want = plc.ErrOperation
			case strings.HasPrefix(name, "invalid_sig"):
				want = plc.ErrSignature
			case strings.HasPrefix(name, "invalid"):
				want = plc.ErrMisordered
			}
			if err := replay(t, path); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

// replay applies an audit log and compares which operations are nullified.
func replay(t *testing.T, path string) error {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var published []struct {
		DID       syntax.DID
		Operation json.RawMessage
		CID       string
		Nullified bool
		CreatedAt time.Time
	}
	if err := json.Unmarshal(raw, &published); err != nil {
		t.Fatal(err)
	}
	var log []plc.Entry
	for _, p := range published {
		stored, err := plc.Parse(p.Operation)
		if err != nil || cidOf(stored) != p.CID {
			t.Errorf("parsed as %+v, %v; want CID %s", stored, err, p.CID)
		}
		op, err := plc.Decode(p.Operation)
		if err != nil {
			return err
		}
		if log, err = plc.Append(p.DID, log, op, p.CreatedAt); err != nil {
			return err
		}
	}
	for i, p := range published {
		if log[i].CID != p.CID || log[i].Nullified != p.Nullified {
			t.Errorf("operation %d: CID %s, nullified %v; want %s, %v", i, log[i].CID, log[i].Nullified, p.CID, p.Nullified)
		}
	}
	return nil
}
