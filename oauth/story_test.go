package oauth_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/session"
)

// A story is a random sequence of what happens to some grants, their apps and the server,
// together with what the contract says must be true of it:
//   - An app that presents its newest refresh token with its keys is answered with tokens, unless its
//     session was ended by an event of the contract, or its time is over.
//   - A fault of ours is a 503, and changes nothing.
//   - A token without its key changes nothing for its app (PolicyReport), or ends the session
//     (PolicyRevoke).
//   - An ended session never comes back, and its access tokens end with it.
//   - The sessions that the store lists are exactly those.
type grantStory struct {
	*world

	dir    string
	copies int
	codes  int
	grants []*grant
}

// grant is a session, with all refresh tokens that its app has got, the newest last.
type grant struct {
	*app

	code, verifier string
	alive          bool
	ends           time.Time
	got            []answer
	redeemed       time.Time
}

func (g *grant) newest() answer { return g.got[len(g.got)-1] }

func (s *grantStory) generation(token string) int64 {
	t, err := s.Keyring.VerifyOAuthEnding(token, issuer, audience)
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := strconv.ParseInt(t.JTI[strings.LastIndexByte(t.JTI, '.')+1:], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// expired reports whether a refresh token has expired.
func (s *grantStory) expired(token string) bool {
	_, err := s.Keyring.VerifyOAuthRefresh(token, issuer, s.clock.Now())
	return err == auth.ErrOAuthExpired //nolint:errorlint // it is never wrapped
}

func (s *grantStory) authorize(t *rapid.T) {
	if len(s.grants) >= 6 {
		t.Skip()
	}
	id := rapid.SampledFrom([]string{publicID, trustedID, confidentialID}).Draw(t, "client")
	s.codes++
	g := &grant{app: s.app(id), alive: true, verifier: fmt.Sprintf("%s-%d", verifier, s.codes)}
	g.code = g.app.code("code_challenge", challenge(g.verifier))
	g.redeemed = s.clock.Now()
	got := g.redeem(g.code, "code_verifier", g.verifier)
	if got.Status != http.StatusOK {
		s.t.Fatalf("code: %s", got)
	}
	g.got = []answer{got}
	g.ends = s.clock.Now().Add(730 * day)
	if id == publicID {
		g.ends = s.clock.Now().Add(14 * day)
	}
	s.grants = append(s.grants, g)
}

func (s *grantStory) pick(t *rapid.T) *grant {
	if len(s.grants) == 0 {
		t.Skip()
	}
	return s.grants[rapid.IntRange(0, len(s.grants)-1).Draw(t, "grant")]
}

// present presents a refresh token, and compares the answer with the contract. It reports whether the
// tokens arrived.
func (s *grantStory) present(t *rapid.T, g *grant, token string) {
	newest := token == g.newest().text("refresh_token")
	late := s.expired(token)
	got := g.refresh(token)
	switch {
	case late:
		if got.String() != "400 invalid_grant: Session has expired" {
			t.Fatalf("an expired token: %s", got)
		}
	case !g.alive:
		if got.String() != "400 invalid_grant: Session has ended" {
			t.Fatalf("an ended session: %s", got)
		}
	case got.Status == http.StatusOK:
		if !s.live(got.text("access_token")) {
			t.Fatal("a new access token is not live")
		}
		if before, now := s.generation(token), s.generation(got.text("refresh_token")); now <= before {
			t.Fatalf("generation %d for %d", now, before)
		}
		if rapid.Bool().Draw(t, "the answer is lost") {
			return
		}
		if s.generation(got.text("refresh_token")) >= s.generation(g.newest().text("refresh_token")) {
			g.got = append(g.got, got)
		}
	case newest:
		t.Fatalf("the newest token: %s", got)
	case got.String() != "400 invalid_grant: Refresh token was superseded":
		t.Fatalf("an older token: %s", got)
	default:
		g.alive = s.Sessions.Policy == session.PolicyReport
	}
}

func (s *grantStory) refreshNewest(t *rapid.T) {
	g := s.pick(t)
	s.present(t, g, g.newest().text("refresh_token"))
}

func (s *grantStory) replayOlder(t *rapid.T) {
	g := s.pick(t)
	s.present(t, g, g.any(t))
}

// any returns one of the refresh tokens that the app has got.
func (g *grant) any(t *rapid.T) string {
	return g.got[rapid.IntRange(0, len(g.got)-1).Draw(t, "token")].text("refresh_token")
}

// steal presents a token without the app's key, or as another client.
func (s *grantStory) steal(t *rapid.T) {
	g := s.pick(t)
	token := g.any(t)
	thief := s.app(g.id)
	if rapid.Bool().Draw(t, "another client") {
		thief = s.app(map[string]string{publicID: trustedID, trustedID: publicID, confidentialID: publicID}[g.id])
		thief.dpop = g.dpop
	}
	late := s.expired(token)
	if got := thief.refresh(token); got.Error != "invalid_grant" {
		t.Fatalf("without its key: %s", got)
	}
	if !late && g.alive && s.Sessions.Policy == session.PolicyRevoke {
		g.alive = false
	}
}

// replayCode redeems a code again.
func (s *grantStory) replayCode(t *rapid.T) {
	g := s.pick(t)
	by := g.app
	if rapid.Bool().Draw(t, "by another key") {
		by = s.app(g.id)
	}
	age := s.clock.Now().Sub(g.redeemed)
	got := by.redeem(g.code, "code_verifier", g.verifier)
	if got.Error != "invalid_grant" {
		t.Fatalf("a code again: %s", got)
	}
	g.alive = g.alive && by == g.app && age < time.Minute
}

func (s *grantStory) revoke(t *rapid.T) {
	g := s.pick(t)
	token := rapid.SampledFrom([]string{"access_token", "refresh_token"}).Draw(t, "kind")
	if got := g.app.revoke(g.newest().text(token)); got.Status != http.StatusOK {
		t.Fatalf("revoke: %s", got)
	}
	g.alive = false
}

func (s *grantStory) newPassword(*rapid.T) {
	e := account.Entry{At: s.clock.Now(), Kind: account.EntryPasswordChanged, By: account.ActorOwner}
	if err := s.World.Accounts.SetPassword(s.t.Context(), s.alice.ID, "hash", 0, e); err != nil {
		s.t.Fatal(err)
	}
	for _, g := range s.grants {
		g.alive = false
	}
}

// crash continues with what is on the disk.
func (s *grantStory) crash(t *rapid.T) {
	s.seldom(t)
	s.copies++
	dir := filepath.Join(s.dir, strconv.Itoa(s.copies))
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.CopyTo(dir)
	s.OpenCopy(dir)
	s.wire()
}

// seldom skips what takes long most of the time.
func (s *grantStory) seldom(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
		t.Skip()
	}
}

// fault lets the disk fail while an app refreshes, and mends it.
func (s *grantStory) fault(t *rapid.T) {
	s.seldom(t)
	g := s.pick(t)
	token := g.newest().text("refresh_token")
	if s.expired(token) {
		t.Skip()
	}
	s.World.Close()
	got := g.refresh(token)
	s.Reopen()
	s.wire()
	repeated := got.Status == http.StatusOK && s.generation(got.text("refresh_token")) == s.generation(token)+1 // needs no disk
	if !repeated && (got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "") {
		t.Fatalf("the disk fails: %s", got)
	}
}

func (s *grantStory) clockJumps(t *rapid.T) {
	minutes := rapid.OneOf(rapid.IntRange(0, 60), rapid.IntRange(-600, 0), rapid.IntRange(0, 30*24*60)).Draw(t, "minutes")
	s.clock.Advance(time.Duration(minutes) * time.Minute)
}

// check compares the store with what must be true.
func (s *grantStory) check(t *rapid.T) {
	list, err := s.World.Sessions.List(t.Context(), s.alice.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range s.grants {
		sid := s.sid(g)
		there := slices.ContainsFunc(list, func(st session.State) bool { return st.SID() == sid })
		if there != g.alive {
			t.Fatalf("session %s is there: %t, want %t", sid, there, g.alive)
		}
	}
	if len(list) > len(s.grants) {
		t.Fatalf("%d sessions of %d grants", len(list), len(s.grants))
	}
}

func (s *grantStory) sid(g *grant) string {
	t, err := s.Keyring.VerifyOAuthEnding(g.newest().text("refresh_token"), issuer, audience)
	if err != nil {
		s.t.Fatal(err)
	}
	return t.SID
}

// TestStory: no sequence of events ends a grant that the contract does not end.
func TestStory(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(base, strconv.Itoa(n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		s := &grantStory{world: newWorld(t, dir), dir: dir}
		s.Limits = nil
		if rapid.Bool().Draw(t, "revoke") {
			s.Sessions.Policy = session.PolicyRevoke
		}
		t.Repeat(map[string]func(*rapid.T){
			"authorize": s.authorize, "refresh": s.refreshNewest, "replay": s.replayOlder, "steal": s.steal, "replay code": s.replayCode,
			"revoke": s.revoke, "new password": s.newPassword, "crash": s.crash, "fault": s.fault, "clock": s.clockJumps, "": s.check,
		})
	})
}
