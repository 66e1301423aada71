package faults

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
)

// issue is what faults change in tokens that are given out.
type issue struct {
	access, refresh time.Duration // their lives; 0: as they are
	by              time.Duration // how far the clock is ahead
}

// given are the tokens of an answer that begins a session or moves one on.
type given struct {
	access, refresh string
	Access, Refresh *claims // Refresh is nil if there is none
}

// readGiven returns the tokens of an answer, nil if it has none.
func readGiven(a *answer) *given {
	if a.status != http.StatusOK {
		return nil
	}
	var body struct {
		AccessJwt    string `json:"accessJwt"`
		RefreshJwt   string `json:"refreshJwt"`
		AccessToken  string `json:"access_token"`  //nolint:gosec // the name of a member
		RefreshToken string `json:"refresh_token"` //nolint:gosec // the same
	}
	if json.Unmarshal(a.body.Bytes(), &body) != nil {
		return nil
	}
	g := &given{access: body.AccessJwt + body.AccessToken, refresh: body.RefreshJwt + body.RefreshToken}
	if g.Access, g.Refresh = readToken(g.access), readToken(g.refresh); g.Access == nil {
		return nil
	}
	return g
}

// retime changes the tokens of an answer as the faults want it. Of those of one kind the first counts.
func (f *Faults) retime(ctx context.Context, a *answer, o *passage, g *given) {
	var i issue
	var acting []hit
	for _, h := range o.hits {
		life := time.Duration(h.For)
		switch {
		case h.Kind == AccessLife && i.access == 0 && life < g.Access.life():
			i.access = life
		case h.Kind == RefreshLife && i.refresh == 0 && g.Refresh != nil && life < g.Refresh.life():
			i.refresh = life
		case h.Kind == Clock && i.by == 0:
			i.by = time.Duration(h.By)
		default:
			continue
		}
		acting = append(acting, h)
	}
	// A proof of OAuth names its token, so that it cannot be replaced on its way in.
	if g.Access.ClientID != "" && i.by.Abs() > cmp.Or(i.access, g.Access.life())/2 {
		i.by = 0
		acting = slices.DeleteFunc(acting, func(h hit) bool { return h.Kind == Clock })
	}
	if len(acting) == 0 {
		return
	}
	if err := f.reissue(a, g, i); err != nil {
		f.in.Log.LogAttrs(ctx, slog.LevelWarn, "tokens not changed", slog.String("cause", err.Error()))
		return
	}
	for _, h := range acting {
		f.act(ctx, o, h)
	}
}

var expiresIn = regexp.MustCompile(`"expires_in":\d+`)

// reissue puts other tokens in place of those of an answer.
func (f *Faults) reissue(a *answer, g *given, i issue) error {
	access, refresh := g.Access.life(), time.Duration(0)
	if g.Refresh != nil {
		refresh = g.Refresh.life()
	}
	if i.access > 0 {
		access = min(access, i.access)
	}
	if i.refresh > 0 {
		refresh = min(refresh, i.refresh)
	}
	inner, err := f.mint(g, 0, access, refresh)
	if err != nil {
		return err
	}
	shown := inner
	isOAuth := g.Access.ClientID != ""
	if i.by != 0 {
		if shown, err = f.mint(g, i.by, access, refresh); err != nil {
			return err
		}
		if !isOAuth {
			f.dated.add(shown.Access, inner.Access)
			f.dated.add(shown.Refresh, inner.Refresh)
		}
	}
	body := bytes.ReplaceAll(a.body.Bytes(), []byte(g.access), []byte(shown.Access))
	if g.Refresh != nil {
		body = bytes.ReplaceAll(body, []byte(g.refresh), []byte(shown.Refresh))
	}
	body = expiresIn.ReplaceAll(body, fmt.Appendf(nil, `"expires_in":%d`, int64(access/time.Second)))
	a.body.Reset()
	a.body.Write(body)
	a.header.Del("Content-Length")
	g.access, g.Access = shown.Access, readToken(shown.Access)
	if g.Refresh != nil {
		g.refresh, g.Refresh = shown.Refresh, readToken(shown.Refresh)
	}
	return nil
}

// mint signs the same tokens, as a clock that is ahead by so much would date them.
func (f *Faults) mint(g *given, by, access, refresh time.Duration) (auth.Pair, error) {
	now := time.Unix(g.Access.IAT, 0).Add(by)
	did, err := syntax.ParseDID(g.Access.Sub)
	if err != nil {
		return auth.Pair{}, fmt.Errorf("read a token: %w", err)
	}
	var jti string
	if g.Refresh != nil {
		jti = g.Refresh.JTI
	}
	if g.Access.ClientID != "" {
		return f.in.Keyring.MintOAuth(auth.OAuthIssue{
			Issuer: g.Access.Iss, Audience: g.Access.Aud, DID: did, ClientID: g.Access.ClientID, SID: g.Access.SID, JTI: jti,
			JKT: g.Access.CNF.JKT, Now: now, AccessExpires: now.Add(access), RefreshExpires: now.Add(refresh),
		})
	}
	return f.in.Keyring.MintPair(auth.Issue{
		Audience: g.Access.Aud, DID: did, Scope: auth.Scope(g.Access.Scope), SID: g.Access.SID, JTI: jti,
		Now: now, AccessTTL: access, RefreshTTL: refresh,
	})
}

// dated are tokens whose dates are wrong, with those that the server knows in their place.
type dated struct {
	mu     sync.Mutex
	inside map[string]string
}

// maxDated bounds how many are known: a client whose token is forgotten refreshes or signs in.
const maxDated = 20_000

func (d *dated) add(shown, inner string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside == nil || len(d.inside) >= maxDated {
		d.inside = map[string]string{}
	}
	d.inside[shown] = inner
}

// replace puts the server's own token in place of one whose dates are wrong.
func (d *dated) replace(r *http.Request) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok {
		return
	}
	if inner := d.of(token); inner != token {
		r.Header.Set("Authorization", scheme+" "+inner)
	}
}

// of returns the server's own token for one whose dates may be wrong.
func (d *dated) of(token string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return cmp.Or(d.inside[token], token)
}

// windows are when the sessions' heads moved, for a reuse window that is shorter than the
// server's.
type windows struct {
	mu    sync.Mutex
	moved map[string]map[int64]time.Time // by session and generation
}

// maxSessions bounds how many sessions are known.
const maxSessions = 10_000

// move notes that a session's head is now this generation.
func (w *windows) move(sid string, generation int64, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moved == nil || len(w.moved) >= maxSessions {
		w.moved = map[string]map[int64]time.Time{}
	}
	if w.moved[sid] == nil {
		w.moved[sid] = map[int64]time.Time{}
	}
	if _, known := w.moved[sid][generation]; !known {
		w.moved[sid][generation] = now
	}
}

// over reports whether a generation was superseded for good, which its successor's successor
// shows, longer than window ago.
func (w *windows) over(sid string, generation int64, now time.Time, window time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, known := w.moved[sid][generation+2]
	return known && now.Sub(at) >= window
}
