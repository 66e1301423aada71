package session_test

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"pgregory.net/rapid"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/session"
	"nestbox/xrpc"
)

// A story is a random sequence of what happens to some accounts, their devices
// and the server, together with what the contract says must be true of it:
//   - A client that retries with the newest token it has got is never refused,
//     unless its session was ended by an event of the contract, was made after
//     the backup that was restored, or the token is past its exp. (A backup
//     that is older than a token's life is worth less: see forgotten.)
//   - An ended session never comes back, unless it was ended after the backup
//     that was restored.
//   - The sessions that the store lists are exactly those.
//   - Concurrent refreshes give one successor, and state does not grow.
type story struct {
	*world

	dir     string
	copies  int
	owners  []*owner
	devices []*device
	backups []backup
}

type owner struct {
	*account.Account

	down, gone bool
}

// device is one sign-in, with all refresh tokens that any of its tabs has got, the
// newest last: that of the highest generation. After a restore, an old tab may
// later get one of a lower generation, which does not become the newest.
type device struct {
	owner  *owner
	app    bool
	alive  bool
	sid    string
	got    []string
	access auth.Token
	// forgotten: a backup was restored in which the session looks expired,
	// although the device has got a token since. The collector cannot know.
	forgotten bool
}

func (d *device) newest() string { return d.got[len(d.got)-1] }

// backup is a copy of the database and what was true then.
type backup struct {
	dir   string
	alive []bool // of the devices at that time
	down  []bool
	gone  []bool
}

const appName = "phone"

// generation returns the number at the end of a refresh token's jti.
func (s *story) generation(refresh string) int64 {
	jti := s.token(refresh).JTI
	n, err := strconv.ParseInt(jti[strings.LastIndexByte(jti, '.')+1:], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// present presents a refresh token, as the server does: a token past its exp does
// not reach the session.
func (s *story) present(refresh string) (session.CreateSessionOutput, string) {
	token, err := s.Keyring.VerifyRefresh(refresh, audience, s.Now(), false)
	if err != nil {
		return session.CreateSessionOutput{}, wire(err)
	}
	out, err := s.RefreshSession(s.t.Context(), auth.RefreshCaller{Token: token}, xrpc.None{})
	return out, wire(err)
}

// judge compares an answer with the contract.
func (s *story) judge(d *device, refresh string, newest bool, got string) {
	want := []string{wireOK}
	switch {
	case got == wireExpired:
		return // of the token's age
	case d.owner.gone:
		want = []string{wireRevoked}
	case d.owner.down:
		want = []string{wireTakedown}
	case !d.alive:
		want = []string{wireRevoked}
	case !newest: // it depends on the window: TestRotateAgainstDiary
		want = []string{wireOK, wireRevoked}
	}
	if !slices.Contains(want, got) {
		s.t.Fatalf("%s (newest: %t) of an alive (%t) session: %q, want %q", s.token(refresh).JTI, newest, d.alive, got, want)
	}
}

// receive handles an answer that arrived.
func (s *story) receive(d *device, out session.CreateSessionOutput) {
	i, _ := slices.BinarySearchFunc(d.got, s.generation(out.RefreshJwt)+1, func(refresh string, n int64) int {
		return cmp.Compare(s.generation(refresh), n)
	})
	d.got = slices.Insert(d.got, i, out.RefreshJwt) // behind those of its own generation
	d.access = s.access(out.AccessJwt)
}

// tabs lets several tabs of a device refresh at once; some answers are lost.
func (s *story) tabs(d *device, tokens []string, lost []bool) {
	newest := d.newest()
	outs, answers := make([]session.CreateSessionOutput, len(tokens)), make([]string, len(tokens))
	var all sync.WaitGroup
	for i, token := range tokens {
		all.Go(func() { outs[i], answers[i] = s.present(token) })
	}
	all.Wait()
	if s.Policy == session.PolicyRevoke && d.alive && !d.owner.down {
		for i, token := range tokens {
			if token != newest && answers[i] == wireRevoked {
				d.alive = false // a reuse after the window, before or after the others
				return
			}
		}
	}
	for i, token := range tokens {
		s.judge(d, token, token == newest, answers[i])
		if token == newest && answers[i] == wireOK && s.generation(outs[i].RefreshJwt) != s.generation(newest)+1 {
			s.t.Fatalf("%s gave %s", s.token(newest).JTI, s.token(outs[i].RefreshJwt).JTI)
		}
		if answers[i] == wireOK && !lost[i] {
			s.receive(d, outs[i])
		}
	}
}

// endAll ends an account's sessions, all but keep.
func (s *story) endAll(o *owner, keep *device) {
	for _, d := range s.devices {
		if d.owner == o && d != keep {
			d.alive = false
		}
	}
}

// copy copies the database as it lies on the disk, log and all: what a kill at this
// moment would leave. It returns the folder.
func (s *story) copy() string {
	s.copies++
	dir := filepath.Join(s.dir, strconv.Itoa(s.copies))
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.CopyTo(dir)
	return dir
}

// open continues with a copy.
func (s *story) open(dir string) {
	s.OpenCopy(dir)
	s.wire()
}

// crash continues with what is on the disk.
func (s *story) crash() { s.open(s.copy()) }

func (s *story) backUp() {
	b := backup{dir: s.copy()}
	for _, d := range s.devices {
		b.alive = append(b.alive, d.alive)
	}
	for _, o := range s.owners {
		b.down, b.gone = append(b.down, o.down), append(b.gone, o.gone)
	}
	s.backups = append(s.backups, b)
}

// restore continues with a backup: sessions made since are unknown, sessions ended
// since are back.
func (s *story) restore(b backup) {
	s.open(b.dir)
	s.crash() // a backup can be restored again
	for i, d := range s.devices {
		d.alive = i < len(b.alive) && b.alive[i]
	}
	for i, o := range s.owners {
		o.down, o.gone = b.down[i], b.gone[i]
		for _, st := range s.sessions(o.Account) {
			d := s.device(st)
			d.forgotten = slices.ContainsFunc(d.got, func(refresh string) bool { return s.token(refresh).IssuedAt.After(st.Expires) })
		}
	}
}

// device returns the device that a session of the store belongs to.
func (s *story) device(st session.State) *device {
	i := slices.IndexFunc(s.devices, func(d *device) bool { return d.sid == st.SID() })
	if i < 0 {
		s.t.Fatalf("session %s is nobody's", st.SID())
	}
	return s.devices[i]
}

// check compares the store with what must be true.
func (s *story) check() {
	for _, o := range s.owners {
		want, got := map[string]bool{}, map[string]bool{}
		for _, d := range s.devices {
			if d.owner == o && d.alive {
				want[d.sid] = true
			}
		}
		for _, st := range s.sessions(o.Account) {
			got[st.SID()] = true
			if len(st.Marks) > 8 {
				s.t.Fatalf("%d marks", len(st.Marks))
			}
		}
		if !maps.Equal(got, want) {
			s.t.Fatalf("%s has sessions %v, want %v", o.Handle, got, want)
		}
		if len(got) > s.Limit {
			s.t.Fatalf("%s has %d sessions", o.Handle, len(got))
		}
	}
}

// signIn starts a session on a new device; the longest unused ones make room.
func (s *story) signIn(o *owner, app bool) {
	if list := s.sessions(o.Account); len(list) >= s.Limit {
		for _, st := range list[s.Limit-1:] { // the latest used come first
			s.device(st).alive = false
		}
	}
	name := ""
	if app {
		name = appName
	}
	signed := s.mustBegin(o.Account, name)
	s.devices = append(s.devices, &device{
		owner: o, app: app, alive: true, sid: s.token(signed.Refresh).SID, got: []string{signed.Refresh}, access: s.access(signed.Access),
	})
}

// collect removes what has expired. Nobody may have a token of it that could still
// be presented.
func (s *story) collect() {
	if _, _, err := s.Store.Collect(s.t.Context(), 0, s.Now().Add(-s.RefreshTTL), s.Now().Add(-day)); err != nil {
		s.t.Fatal(err)
	}
	for _, d := range s.devices {
		if !d.alive || slices.ContainsFunc(s.sessions(d.owner.Account), func(st session.State) bool { return st.SID() == d.sid }) {
			continue
		}
		for _, refresh := range d.got {
			if _, err := s.Keyring.VerifyRefresh(refresh, audience, s.Now(), false); err == nil && !d.forgotten {
				s.t.Fatalf("collected while %s is good", s.token(refresh).JTI)
			}
		}
		d.alive = false
	}
}

// playStory plays one; template is a world with the accounts in it.
func playStory(t *rapid.T, template *world, dir string) {
	dir, err := os.MkdirTemp(dir, "story")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the test's own folder goes anyway
	template.CopyTo(dir)
	s := &story{world: newWorld(t, dir), dir: dir}
	s.Limit = 4
	s.Policy = rapid.SampledFrom([]session.Policy{session.PolicyReport, session.PolicyReport, session.PolicyRevoke}).Draw(t, "policy")
	for _, name := range []string{"alice", "bob"} {
		a, err := s.Accounts.ByDID(t.Context(), syntax.DID("did:plc:"+name))
		if err != nil {
			t.Fatal(err)
		}
		s.owners = append(s.owners, &owner{Account: a})
	}
	s.signIn(s.owners[0], false)
	t.Repeat(s.actions())
}

// actions returns what can happen next.
func (s *story) actions() map[string]func(*rapid.T) {
	anyOwner := func(t *rapid.T) *owner {
		o := s.owners[rapid.IntRange(0, len(s.owners)-1).Draw(t, "owner")]
		if o.gone {
			t.Skip("account is gone")
		}
		return o
	}
	anyDevice := func(t *rapid.T) *device { return s.devices[rapid.IntRange(0, len(s.devices)-1).Draw(t, "device")] }
	liveDevice := func(t *rapid.T) *device {
		d := anyDevice(t)
		if !d.alive || d.owner.down {
			t.Skip("not in use")
		}
		return d
	}
	anyToken := func(t *rapid.T, d *device) string { return d.got[rapid.IntRange(0, len(d.got)-1).Draw(t, "token")] }
	refresh := func(t *rapid.T) {
		d := liveDevice(t)
		s.tabs(d, []string{d.newest()}, []bool{rapid.Bool().Draw(t, "lost")})
	}
	return map[string]func(*rapid.T){
		"": func(*rapid.T) { s.check() },

		"refresh": refresh, "refresh again": refresh, "refresh once more": refresh,
		"present anything": func(t *rapid.T) {
			d := anyDevice(t)
			s.tabs(d, []string{anyToken(t, d)}, []bool{rapid.Bool().Draw(t, "lost")})
		},
		"many tabs": func(t *rapid.T) {
			d := liveDevice(t)
			lost := rapid.SliceOfN(rapid.Bool(), 2, 8).Draw(t, "lost")
			tokens := slices.Repeat([]string{d.newest()}, len(lost))
			for i := range tokens {
				if rapid.IntRange(0, 2).Draw(t, "older") == 0 {
					tokens[i] = anyToken(t, d)
				}
			}
			s.tabs(d, tokens, lost)
		},
		"look at access token": func(t *rapid.T) {
			if d := anyDevice(t); s.live(d.access) != d.alive {
				t.Fatalf("access token of %s lives: %t", d.sid, !d.alive)
			}
		},
		"sign in": func(t *rapid.T) {
			if len(s.devices) >= 12 {
				t.Skip("enough devices")
			}
			s.signIn(anyOwner(t), rapid.Bool().Draw(t, "app"))
		},
		"sign out": func(t *rapid.T) {
			d := anyDevice(t)
			token := s.token(anyToken(t, d))
			if err := s.SignOut(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			d.alive = false
		},
		"revoke all": func(t *rapid.T) {
			o := anyOwner(t)
			if _, err := s.RevokeAll(t.Context(), o.DID, false, account.ActorOwner); err != nil {
				t.Fatal(err)
			}
			s.endAll(o, nil)
		},
		"revoke app password": func(t *rapid.T) {
			o := anyOwner(t)
			if err := s.Accounts.RevokeAppPassword(t.Context(), o.ID, appName, s.entry(account.EntryAppPasswordRevoked)); err != nil {
				t.Fatal(err)
			}
			for _, d := range s.devices {
				d.alive = d.alive && (d.owner != o || !d.app)
			}
			s.appPassword(o.Account, appName, false)
		},
		"change password": func(t *rapid.T) {
			o, keep, id := anyOwner(t), anyDevice(t), int64(0)
			if keep.owner == o && keep.alive {
				id = s.number(o.Account, keep.newest())
			}
			if err := s.Accounts.SetPassword(t.Context(), o.ID, "none", id, s.entry(account.EntryPasswordChanged)); err != nil {
				t.Fatal(err)
			}
			s.endAll(o, keep)
		},
		"takedown or lift": func(t *rapid.T) {
			o := anyOwner(t)
			o.down = !o.down
			s.takedown(o.Account, o.down)
			if o.down {
				s.endAll(o, nil)
			}
		},
		"delete account": func(t *rapid.T) {
			o := anyOwner(t)
			if len(s.backups) == 0 || rapid.IntRange(0, 3).Draw(t, "really") > 0 {
				t.Skip("kept")
			}
			if err := s.Accounts.Delete(t.Context(), o.ID, s.Now()); err != nil {
				t.Fatal(err)
			}
			o.gone = true
			s.endAll(o, nil)
		},
		"time passes": func(t *rapid.T) {
			s.clock.Advance(rapid.SampledFrom([]time.Duration{
				-time.Hour, time.Millisecond, time.Minute, time.Hour, 3 * time.Hour, 23 * time.Hour, 2 * day, 20 * day, 89 * day,
			}).Draw(t, "time"))
		},
		"collect": func(*rapid.T) { s.collect() },
		"crash":   func(*rapid.T) { s.crash() },
		"back up": func(t *rapid.T) {
			if len(s.backups) >= 3 {
				t.Skip("enough backups")
			}
			s.backUp()
		},
		"restore": func(t *rapid.T) {
			if len(s.backups) == 0 {
				t.Skip("no backup")
			}
			s.restore(s.backups[rapid.IntRange(0, len(s.backups)-1).Draw(t, "backup")])
		},
	}
}

func TestStories(t *testing.T) {
	dir := t.TempDir()
	var w *world
	t.Run("template", func(t *testing.T) {
		w = newWorld(t, dir)
		for _, name := range []string{"alice", "bob"} {
			w.appPassword(w.account(name, "none"), appName, false)
		}
	})
	rapid.Check(t, func(t *rapid.T) { playStory(t, w, dir) })
}
