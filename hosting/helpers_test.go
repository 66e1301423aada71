package hosting_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/internal/seal"
	"nestbox/mail"
	"nestbox/plc/directory"
	"nestbox/repo"
	"nestbox/signin"
	"nestbox/store/storetest"
)

// mode is how a faulty directory answers operations.
type mode int32

const (
	obey       mode = iota
	refuse          // 400
	throttle        // 429
	fail            // 500, and the operation is not taken
	takeFail        // taken, and then 504, as from a gateway that gives up
	takeBreak       // taken, and then the connection breaks
	takeHang        // taken, and never answered
	hang            // neither taken nor answered
	takeLinger      // obey, once the test lets it go on
)

// faulty is a real PLC directory behind a faulty connection.
type faulty struct {
	*httptest.Server

	mode atomic.Int32
	// down: the directory answers no questions.
	down atomic.Bool
	// says is the status that answers each question, if it is not 0.
	says atomic.Int32
	// arrived gets a value for each operation, silent for one that gets no answer;
	// takeLinger waits for linger.
	arrived, silent, linger chan struct{}
}

func (f *faulty) set(m mode) { f.mode.Store(int32(m)) }

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	dir, err := directory.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	f := &faulty{arrived: make(chan struct{}, 100), silent: make(chan struct{}, 1), linger: make(chan struct{})}
	behind := dir.Handler()
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.Method == http.MethodPost {
			f.arrived <- struct{}{}
			f.submit(w, r, behind)
			return
		}
		if status := f.says.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *faulty) submit(w http.ResponseWriter, r *http.Request, behind http.Handler) {
	m := mode(f.mode.Load())
	switch m {
	case obey:
		behind.ServeHTTP(w, r)
		return
	case refuse:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"not today"}`)
		return
	case throttle:
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case takeLinger:
		<-f.linger
		behind.ServeHTTP(w, r)
		return
	case takeFail, takeBreak, takeHang:
		behind.ServeHTTP(httptest.NewRecorder(), r)
	case fail, hang:
		_, _ = io.Copy(io.Discard, r.Body)
	}
	switch m {
	case fail:
		w.WriteHeader(http.StatusInternalServerError)
	case takeFail:
		w.WriteHeader(http.StatusGatewayTimeout)
	case hang, takeHang:
		f.silent <- struct{}{}
		<-r.Context().Done()
	case obey, refuse, throttle, takeBreak, takeLinger:
		fallthrough
	default:
		panic(http.ErrAbortHandler)
	}
}

// txt are the TXT records of a DNS, by name.
type txt map[string][]string

// LookupTXT implements identity.TXTLookup.
func (x txt) LookupTXT(_ context.Context, name string) ([]string, error) {
	if records, ok := x[strings.TrimSuffix(name, ".")]; ok {
		return records, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// place is a hosting.Service over a real store and a faulty directory.
type place struct {
	*hosting.Service
	*storetest.World

	t   *testing.T
	plc *faulty
	txt txt
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return newPlaceBefore(t, nil)
}

// newPlaceBefore is newPlace for storetest.Interleave.
func newPlaceBefore(t *testing.T, before func()) *place {
	t.Helper()
	p := &place{t: t, World: storetest.NewWorld(t, storetest.Options{Before: before}), plc: newFaulty(t), txt: txt{}}
	box, err := seal.NewBox(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	rotation, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	hasher := account.NewHasher(2)
	p.Service = &hosting.Service{
		Settings: hosting.Settings{
			DID: "did:web:localhost", URL: "http://localhost:2583", Hostname: "localhost", Domains: []string{".test"}, RotationKey: rotation,
		},
		Hasher:    hasher,
		SignIns:   &signin.Service{Hasher: hasher, Now: p.clock, Log: slog.New(slog.DiscardHandler)},
		Directory: &identity.Directory{URL: p.plc.URL, Client: &http.Client{Timeout: time.Minute}},
		Box:       box, Now: p.clock, Log: slog.New(slog.DiscardHandler),
	}
	p.wire()
	return p
}

func (p *place) clock() time.Time { return p.Clock.Now() }

func (p *place) advance(d time.Duration) { p.Clock.Advance(d) }

// wire gives the service the stores of the database that is open.
func (p *place) wire() {
	p.t.Helper()
	p.Store, p.Accounts, p.Handles, p.SigningKeys, p.Documents = p.Hosting, p.World.Accounts, p.World.Handles, p.World.SigningKeys, p.World.Identity
	p.SignIns.Accounts, p.SignIns.Factors = p.Accounts, p.World.Factors
	p.Keys = hosting.NewKeys(p.Store, p.Box)
	p.Resolver = identity.NewResolver(identity.ResolverOptions{
		Directory: &identity.Directory{URL: p.plc.URL, Client: &http.Client{Timeout: time.Minute}}, HTTP: http.DefaultClient, DNS: p.txt, Now: p.clock,
		Local: func(ctx context.Context, h syntax.Handle) (syntax.DID, bool, error) {
			a, err := p.Accounts.ByHandle(ctx, h)
			ours := strings.HasSuffix(h.String(), ".test")
			if errors.Is(err, account.ErrNotFound) {
				return "", ours, nil
			}
			if err != nil {
				return "", ours, err
			}
			return a.DID, ours, nil
		},
	})
	p.t.Cleanup(p.Resolver.Close)
	p.Repos = &repo.Service{Store: p.World.Repos}
}

// restart begins a new process on the same database.
func (p *place) restart() {
	p.t.Helper()
	p.Reopen()
	p.wire()
}

// create signs alice up, or another handle of the same e-mail's form.
func (p *place) create(handle, invite string) (*account.Account, error) {
	return p.Create(p.t.Context(), hosting.NewAccount{
		Handle: handle + ".test", Email: handle + "@example.com", Password: "correct-horse-battery", InviteCode: invite,
	})
}

// confirm marks an account's address as confirmed, as its owner does.
func (p *place) confirm(a *account.Account) *account.Account {
	p.t.Helper()
	code := account.Code{Purpose: account.PurposeConfirmEmail, Hash: []byte(a.DID), MadeAt: p.clock(), Expires: p.clock().Add(time.Hour)}
	if err := p.World.Codes.SetCode(p.t.Context(), a.ID, code, mail.Message{To: a.Email, Subject: "code"}); err != nil {
		p.t.Fatal(err)
	}
	p.mails()
	proof := account.Proof{AccountID: a.ID, Purpose: code.Purpose, Hash: code.Hash}
	if err := p.Accounts.ConfirmEmail(p.t.Context(), proof, account.NewEntry(p.t.Context(), p.clock(), account.EntryEmailConfirmed, account.ActorOwner)); err != nil {
		p.t.Fatal(err)
	}
	now, err := p.Accounts.ByDID(p.t.Context(), a.DID)
	if err != nil {
		p.t.Fatal(err)
	}
	return now
}

// mails takes the messages that wait in the outbox.
func (p *place) mails() []mail.Queued {
	p.t.Helper()
	mails, err := p.Outbox.Due(p.t.Context(), p.clock(), 100)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range mails {
		if err := p.Outbox.Done(p.t.Context(), m.ID); err != nil {
			p.t.Fatal(err)
		}
	}
	return mails
}

// pending returns the reservations that are not settled yet.
func (p *place) pending() []hosting.Pending {
	p.t.Helper()
	list, err := p.Store.Pending(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

func (p *place) resume() {
	p.t.Helper()
	if err := p.Resume(p.t.Context()); err != nil {
		p.t.Errorf("Resume: %v", err)
	}
}

// exists reports whether there is an account, and fails the test unless it is found
// in every way or in none.
func (p *place) exists(handle string) bool {
	p.t.Helper()
	ctx := p.t.Context()
	a, err := p.Accounts.ByHandle(ctx, syntax.Handle(handle+".test"))
	if _, other := p.Accounts.ByEmail(ctx, handle+"@example.com"); (err == nil) != (other == nil) {
		p.t.Errorf("%s by handle: %v, by e-mail: %v", handle, err, other)
	}
	if err != nil {
		if !errors.Is(err, account.ErrNotFound) {
			p.t.Error(err)
		}
		return false
	}
	if _, err := p.Accounts.ByDID(ctx, a.DID); err != nil {
		p.t.Errorf("%s by DID: %v", handle, err)
	}
	return true
}

// registered reports whether the directory knows a DID.
func (p *place) registered(did syntax.DID) bool {
	p.t.Helper()
	_, err := p.Directory.Document(context.WithoutCancel(p.t.Context()), did)
	if err != nil && !errors.Is(err, identity.ErrNotRegistered) {
		p.t.Error(err)
	}
	return err == nil
}

// invited returns the uses of an invite code.
func (p *place) invited(code string) []account.InviteUse {
	p.t.Helper()
	codes, err := p.Accounts.InviteCodes(p.t.Context(), []string{code})
	if err != nil || len(codes) != 1 {
		p.t.Fatalf("invite code %s: %+v, %v", code, codes, err)
	}
	return codes[0].Uses
}

func (p *place) newInvite(uses int) string {
	p.t.Helper()
	code := account.InviteCode{Code: "localhost-abcde-fghij", Available: uses, ForAccount: "admin", CreatedBy: "admin", CreatedAt: p.clock()}
	if err := p.Accounts.AddInviteCodes(p.t.Context(), []account.InviteCode{code}); err != nil {
		p.t.Fatal(err)
	}
	return code.Code
}
