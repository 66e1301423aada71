package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/plc"
	"nestbox/request"
	"nestbox/session"
	"nestbox/xrpc"
)

// memory is the part of the stores that refreshSession and getSession use, in
// memory: what these cost more with a store is the cost of storage.
type memory struct {
	accounts sync.Map // by DID: *account.Account
	sessions sync.Map // by ID: *held
	lastID   atomic.Int64
}

type held struct {
	mu    sync.Mutex
	state session.State
}

type memoryAccounts struct {
	account.Store // nil: nothing else of it is used

	m *memory
}

func (s memoryAccounts) ByDID(_ context.Context, did syntax.DID) (*account.Account, error) {
	v, _ := s.m.accounts.Load(did)
	if a, ok := v.(*account.Account); ok {
		return a, nil
	}
	return nil, account.ErrNotFound
}

func (s memoryAccounts) Credentials(context.Context, int64) (account.Credentials, error) {
	return account.Credentials{}, nil
}

type memorySessions struct {
	session.Store // nil: nothing else of it is used

	m *memory
}

func (s memorySessions) Create(_ context.Context, n session.New) (*session.State, error) {
	h := &held{state: session.State{
		ID: s.m.lastID.Add(1), Nonce: n.Nonce, AccountID: n.AccountID, Scope: n.Scope, CreatedAt: n.At, RotatedAt: n.At,
		Expires: n.Expires, Network: n.Network, UserAgent: n.UserAgent,
	}}
	s.m.sessions.Store(h.state.ID, h)
	return &h.state, nil
}

func (s memorySessions) find(id int64) (*held, error) {
	v, _ := s.m.sessions.Load(id)
	if h, ok := v.(*held); ok {
		return h, nil
	}
	return nil, session.ErrUnknown
}

func (s memorySessions) Load(_ context.Context, id int64) (*session.State, error) {
	h, err := s.find(id)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.state
	return &st, nil
}

func (s memorySessions) Rotate(_ context.Context, id int64, decide func(session.State) (session.Rotation, error)) (session.Rotation, error) {
	h, err := s.find(id)
	if err != nil {
		return session.Rotation{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := decide(h.state)
	if err == nil && r.Changed {
		h.state = r.Next
	}
	return r, err
}

// newAccount is an account in memory with a document as the real ones have.
func (m *memory) newAccount(handle, email string) (*account.Account, error) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	id := m.lastID.Add(1)
	a := &account.Account{
		ID: id, DID: syntax.DID(fmt.Sprintf("did:plc:%024d", id)), Handle: syntax.Handle(handle), Email: email,
		CreatedAt: time.Now(), SigningKey: public.DIDKey(),
	}
	a.Document, err = plc.DocumentOf(a.DID, plc.Data{SigningKey: a.SigningKey, Handle: a.Handle, PDS: "http://localhost:2583"})
	if err != nil {
		return nil, err
	}
	m.accounts.Store(a.DID, a)
	return a, nil
}

type newAccount struct {
	Handle   string `json:"handle"`
	Email    string `json:"email"`
	Password string `json:"password"`
}

// floorMethods are the endpoints that are measured, wired as server does.
func floorMethods(dir string) (map[string]xrpc.Method, error) {
	keyring, err := auth.OpenKeyring(filepath.Join(dir, "keyring"), "", time.Now)
	if err != nil {
		return nil, err
	}
	m := &memory{}
	const audience = "did:web:localhost"
	sessions := &session.Service{
		Settings: session.Settings{
			Rules:     session.Rules{ReuseWindow: 24 * time.Hour, RefreshTTL: 90 * 24 * time.Hour, Policy: session.PolicyReport},
			AccessTTL: 2 * time.Hour, Audience: audience,
		},
		Store: memorySessions{m: m}, Accounts: memoryAccounts{m: m}, Keyring: keyring, Now: time.Now,
		Document: func(a *account.Account) []byte { return a.Document },
		Log:      slog.New(slog.DiscardHandler),
	}
	verifier := &auth.Verifier{Keyring: keyring, Audience: audience, Sessions: sessions, Now: time.Now}
	return map[string]xrpc.Method{
		"com.atproto.server.refreshSession": xrpc.Procedure(verifier.Refresh, sessions.RefreshSession),
		"com.atproto.server.getSession":     xrpc.Query(verifier.Standard, sessions.GetSession),
		"com.atproto.server.createAccount": xrpc.Procedure(verifier.Anyone, func(ctx context.Context, _ auth.Anyone, in newAccount) (session.CreateSessionOutput, error) {
			a, err := m.newAccount(in.Handle, in.Email)
			if err != nil {
				return session.CreateSessionOutput{}, err
			}
			pair, err := sessions.OpenFirst(ctx, a)
			return sessions.Output(session.Signed{Pair: pair, Account: a}), err
		}),
	}, nil
}

// floor is the handler of the floor.
func floor(dir string) (http.Handler, error) {
	methods, err := floorMethods(dir)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	front := &request.Front{Log: slog.New(slog.DiscardHandler), Now: time.Now}
	mux.Handle("/xrpc/", front.Handler(&xrpc.Server{Methods: methods, MaxBody: xrpc.DefaultMaxBody}))
	// As long as the answer of a refresh, and nothing else: net/http's own part.
	body := []byte(strings.Repeat("x", 1500))
	mux.HandleFunc("GET /xrpc/_bare", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"text/plain"}
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
		_, _ = w.Write(body) // a client that has gone needs no answer
	})
	return mux, nil
}

// own starts a server from the generator's own binary: see serveOwn.
func own(name, dir, arg string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return ours(name, dir, self, nil, "serve", name, arg)
}

// serveOwn runs a server as a process of its own until SIGTERM.
func serveOwn(name, arg string) (err error) {
	var handler http.Handler
	switch name {
	case "floor":
		handler, err = floor(arg)
	case upstreamName:
		handler = upstreamHandler(newAppView())
	case bareProxy:
		handler, err = bareHandler(arg)
	case bareProof:
		handler = proofHandler()
	default:
		err = fmt.Errorf("there is no server %q", name)
	}
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300) // as cmd/nestbox
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return err
	}
	line, err := json.Marshal(map[string]string{"url": "http://" + l.Addr().String()})
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if _, err := fmt.Printf("READY %s\n", line); err != nil {
		return err
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
