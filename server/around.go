package server

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/control"
	"nestbox/oauth/dpop"
)

// Around is what a tool for development puts around the public server. It is the only way to
// change what clients see, so that nothing else of the server knows of such tools.
type Around struct {
	// Listener returns l, whose connections it may end.
	Listener func(l net.Listener) net.Listener
	// Handler returns next, whose requests and answers it may change. It is called before the
	// first request; its error stops the server.
	Handler func(next http.Handler, in Inside) (http.Handler, error)
	// Commands are further commands of the operator.
	Commands control.Commands
}

// Inside is what an Around may use of the server.
type Inside struct {
	// URL and DID are the server's.
	URL, DID string
	// Routes are what the server answers itself: the NSIDs of methods, and paths, in which {x} stands for
	// one segment, and a slash at the end for all that lies below.
	Routes  []string
	Keyring *auth.Keyring
	Proofs  *dpop.Checker
	// Live reports whether a token is one of the server's that has not expired, and its session goes on. It
	// looks at no proof, and at no generation.
	Live func(ctx context.Context, token string) bool
	// Run runs a command of the operator.
	Run func(ctx context.Context, name string, args, result any) error
	// SetActive deactivates an account, or activates it again.
	SetActive func(ctx context.Context, did string, active bool) error
	Now       func() time.Time
	Log       *slog.Logger
}

// around returns the handler of the public server, with what stands around it.
func (s *Server) around(h http.Handler) (http.Handler, error) {
	if s.opts.Around == nil {
		return h, nil
	}
	return s.opts.Around.Handler(h, Inside{
		URL: s.URL, DID: s.DID, Routes: s.routes(), Keyring: s.sessions.Keyring, Proofs: s.dpop, Live: s.live, Run: s.Run,
		SetActive: s.setActive, Now: s.opts.Now, Log: s.opts.Log,
	})
}

// live reports whether a token is the server's and good, and its session goes on.
func (s *Server) live(ctx context.Context, token string) bool {
	keys, now := s.sessions.Keyring, s.opts.Now()
	t, err := keys.VerifyAccess(token, s.DID, now, auth.ScopeAccess, auth.ScopeAppPass, auth.ScopeAppPassPrivileged, auth.ScopeTakenDown)
	if err != nil {
		t, err = keys.VerifyRefresh(token, s.DID, now, false)
	}
	if err == nil {
		of, err := s.sessions.Standing(ctx, t)
		return err == nil && of.Live
	}
	o, err := keys.VerifyOAuthAccess(token, s.URL, s.DID, now)
	if err != nil {
		o, err = keys.VerifyOAuthRefresh(token, s.URL, now)
	}
	if err != nil || o.SID == "" {
		return false
	}
	of, err := s.sessions.Granted(ctx, o)
	return err == nil && of.Live
}

// routes returns what the public server answers itself.
func (s *Server) routes() []string {
	all := slices.Collect(maps.Keys(s.methods()))
	for _, p := range s.pages() {
		all = append(all, strings.TrimPrefix(p.path, "/xrpc/"))
	}
	for _, r := range s.site.Routes {
		all = append(all, r.Path)
	}
	return all
}

// setActive deactivates an account, or activates it again, as its owner does.
func (s *Server) setActive(ctx context.Context, did string, active bool) error {
	a, err := s.stores.Accounts.ByDID(ctx, syntax.DID(did))
	if err != nil {
		return err
	}
	if active {
		return s.hosting.Activate(ctx, a, account.NewEntry(ctx, s.opts.Now(), account.EntryActivated, account.ActorOwner))
	}
	return s.hosting.Deactivate(ctx, a, time.Time{})
}

// withAround adds the commands of what stands around the server.
func (s *Server) withAround(c control.Commands) control.Commands {
	if s.opts.Around != nil {
		maps.Copy(c.Plain, s.opts.Around.Commands.Plain)
		maps.Copy(c.Files, s.opts.Around.Commands.Files)
	}
	return c
}
